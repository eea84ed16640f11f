"""The picture rooms against timm: equal outputs with equal weights, equal sizes, costs equal to what is built."""

from typing import Any

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zoo.core import Model
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import CoreSpec, DataSpec, RunSpec, TrainSpec
from zoo_vit.model import PictureEmbed, PictureHead, grid_sinusoids
from zoo_vit.spec import EmbedSpec, cost
from zoo_vit.task import ImageClassification

SMALL = {"dim": 48, "depth": 2, "num_heads": 3}


def build(core: dict[str, Any], embed: dict[str, Any], head: dict[str, Any]) -> tuple[Model, RunSpec]:
    spec = RunSpec(
        model="m",
        task="image-classification",
        core=CoreSpec(**core),
        embed=embed,
        head=head,
        augment={},
        data=DataSpec(name="digits"),
        train=TrainSpec(),
    )
    return ImageClassification.build(spec), spec


def copy_timm(model: Model, reference: VisionTransformer) -> None:
    """timm's weights under our names."""
    weights = reference.state_dict()
    renamed = {
        "embed.stem.weight": weights["patch_embed.proj.weight"],
        "embed.stem.bias": weights["patch_embed.proj.bias"],
    }
    renamed["embed.position"] = weights["pos_embed"][0]
    for ours, theirs in (("embed.class_token", "cls_token"), ("embed.registers", "reg_token")):
        if theirs in weights:
            renamed[ours] = weights[theirs][0]
    for index in range(len(reference.blocks)):
        for ours, theirs in (
            ("norm1", "norm1"),
            ("attention.qkv", "attn.qkv"),
            ("attention.out", "attn.proj"),
            ("norm2", "norm2"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            for part in ("weight", "bias"):
                renamed[f"core.blocks.{index}.{ours}.{part}"] = weights[f"blocks.{index}.{theirs}.{part}"]
    norms = {"core.norm": "norm"} if "norm.weight" in weights else {"head.norm": "fc_norm"}
    for ours, theirs in (norms | {"head.classifier": "head"}).items():
        renamed |= {f"{ours}.{part}": weights[f"{theirs}.{part}"] for part in ("weight", "bias")}
    model.load_state_dict(renamed)


@pytest.mark.parametrize(
    ("pool", "timm_options"),
    [("cls", {}), ("mean", {"global_pool": "avg", "class_token": False, "reg_tokens": 2, "no_embed_class": True})],
)
def test_equals_timm_with_its_weights_at_any_size(pool: str, timm_options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    reference = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=2,
        num_heads=3,
        num_classes=5,
        dynamic_img_size=True,
        **timm_options,
    ).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    mean = pool == "mean"
    embed = {"image_size": 32, "patch_size": 8, "num_registers": 2 if mean else 0}
    model, _ = build(SMALL | {"final_norm": not mean}, embed, {"num_classes": 5, "pool": pool, "norm": mean})
    copy_timm(model, reference)
    model.eval()
    for size in ((32, 32), (48, 24)):
        image = torch.randn(3, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(model({"image": image}).logits, reference(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_has_timms_parameter_counts(size: str) -> None:
    spec = open_registry().resolve(f"vit-{size}", data="imagenet").spec
    with torch.device("meta"):
        reference = timm.create_model(f"vit_{size}_patch16_224")
        ours, _ = build(spec.core.model_dump(), spec.embed, spec.head)
    expected = sum(parameter.numel() for parameter in reference.parameters())
    assert sum(parameter.numel() for parameter in ours.parameters()) == expected
    assert cost(spec).parameters == expected


def test_micro_is_about_half_a_million_parameters() -> None:
    assert 400_000 < cost(open_registry().resolve("vit-micro", data="mnist").spec).parameters < 600_000


@pytest.mark.parametrize(
    ("embed", "head"),
    [
        ({"image_size": 32, "patch_size": 8}, {"pool": "cls"}),
        ({"image_size": 30, "patch_size": 8, "channels": 1, "num_registers": 3}, {"pool": "mean", "norm": True}),
        ({"image_size": 32, "stem": "conv", "num_conv_layers": 2, "position": "sinusoidal"}, {"pool": "seq"}),
        ({"image_size": 30, "stem": "conv", "num_conv_layers": 3, "channels": 1}, {"pool": "cls"}),
        (
            {"image_size": 32, "patch_size": 8, "patch_bias": False, "norm": True, "num_class_tokens": 2},
            {"pool": "cls"},
        ),
        ({"image_size": 32, "patch_size": 8, "num_class_tokens": 1, "class_position": False}, {"pool": "map"}),
        (
            {"image_size": 30, "patch_size": 8, "partial_patches": "cut"},
            {"pool": "cls_mean", "pooler": "tanh", "pooler_dim": 20},
        ),
        (
            {"image_size": 32, "patch_size": 8, "num_class_tokens": 2},
            {"pool": "cls", "distilled": False, "norm": True, "pooler": "linear", "pooler_bias": False},
        ),
    ],
)
def test_formula_equals_what_is_built(embed: dict[str, Any], head: dict[str, Any]) -> None:
    model, spec = build(SMALL, embed, head | {"num_classes": 7})
    image = torch.randn(1, EmbedSpec(**embed).channels, embed["image_size"], embed["image_size"])
    # The counter passes over the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = model({"image": image}).logits
    assert logits.shape == (1, 7)
    assert cost(spec).parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost(spec).flops == counter.get_total_flops()


def test_positions_are_interpolated_as_timm_does() -> None:
    embed = PictureEmbed(16, 32, patch_size=8)
    torch.nn.init.zeros_(embed.stem.weight)
    torch.nn.init.zeros_(embed.stem.bias)
    assert embed.position is not None
    tokens = embed(torch.zeros(1, 3, 40, 80)).x
    expected = resample_abs_pos_embed(embed.position[None], [5, 10], num_prefix_tokens=1)
    torch.testing.assert_close(tokens[:, 1:], expected[:, 1:])


def test_a_partial_patch_is_padded_and_counts() -> None:
    embed = PictureEmbed(16, 32, patch_size=8, num_class_tokens=0)
    image = torch.randn(2, 3, 30, 31)
    whole = torch.nn.functional.pad(image, (0, 1, 0, 2))
    torch.testing.assert_close(embed(image).x, embed(whole).x)


def test_sinusoids_tell_rows_from_columns() -> None:
    cells = grid_sinusoids((3, 4), 8, torch.device("cpu")).unflatten(0, (3, 4))
    assert torch.equal(cells[0, :, :4], cells[0, :1, :4].expand(4, -1)), "one half knows the row alone"
    assert torch.equal(cells[:, 2, 4:], cells[:1, 2, 4:].expand(3, -1)), "the other the column alone"
    assert cells.flatten(0, 1).unique(dim=0).shape[0] == 12


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="1 channels, but the model reads 3"):
        PictureEmbed(16, 32)(torch.zeros(1, 1, 32, 32))


def test_what_patches_do_not_cover_can_be_cut() -> None:
    embed = PictureEmbed(16, 30, patch_size=8, num_class_tokens=0, cut=True)
    image = torch.randn(2, 3, 30, 31)
    assert embed.grid_size == EmbedSpec(image_size=30, patch_size=8, partial_patches="cut").grid_size == 3
    torch.testing.assert_close(embed(image).x, embed(image[..., :24, :24]).x)


def test_readout_weights_of_the_class_token_beside_the_patches() -> None:
    weights = PictureHead(8, 3, pool="cls_mean", num_prefix=2).readout_weights(torch.randn(3, 6, 8))
    torch.testing.assert_close(weights, torch.tensor([0.5, 0, 0.125, 0.125, 0.125, 0.125]).expand(3, -1))


@pytest.mark.parametrize(
    ("head", "embed", "message"),
    [
        ({"pool": "cls_mean", "norm": True}, {}, r"head\.norm is for what is as wide as a token"),
        ({"pool": "cls_mean"}, {"num_class_tokens": 0}, r"head\.pool=cls_mean reads the class token"),
        ({"pooler": "linear"}, {"num_class_tokens": 2}, r"head\.pooler leads to one classifier"),
    ],
)
def test_heads_that_do_not_fit_are_refused(head: dict[str, Any], embed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(SMALL, {"image_size": 32, "patch_size": 8} | embed, head)


@pytest.mark.parametrize("pool", ["cls", "mean", "seq"])
def test_readout_weights_say_what_is_pooled(pool: str) -> None:
    torch.manual_seed(0)
    head, x = PictureHead(8, 8, pool=pool, num_prefix=2), torch.randn(3, 6, 8)
    torch.nn.init.eye_(head.classifier.weight)
    if head.score is not None:
        torch.nn.init.normal_(head.score.weight)
    weights = head.readout_weights(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    torch.testing.assert_close((weights[..., None] * x).sum(1), head(x))


def test_the_first_prediction_is_uniform() -> None:
    model, _ = build(SMALL, {"image_size": 16, "patch_size": 8}, {"num_classes": 4, "pool": "seq"})
    assert torch.equal(model({"image": torch.randn(2, 3, 16, 16)}).logits, torch.zeros(2, 4))


def test_a_token_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="a token of 16 pixels is larger than image_size 8"):
        EmbedSpec(image_size=8)


def test_attention_pooling_costs_what_it_has_where_the_core_has_no_biases() -> None:
    core = SMALL | {"bias": ("norm",), "layer_scale": 0.1, "activation": "swiglu"}
    model, spec = build(core, {"image_size": 32, "patch_size": 8}, {"pool": "map", "num_classes": 7})
    assert cost(spec).parameters == sum(parameter.numel() for parameter in model.parameters())
    with pytest.raises(UserError, match=r"head\.pool=map shares core\.dim 50"):
        build(
            {"dim": 50, "depth": 1, "num_heads": 3, "head_dim": 4}, {"image_size": 32, "patch_size": 8}, {"pool": "map"}
        )
