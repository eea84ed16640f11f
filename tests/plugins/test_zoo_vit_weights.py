"""timm's weights in our rooms: equal outputs and gradients, and back to timm's names unchanged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import nn
from torchvision.transforms import v2

from zoo.contract import Item
from zoo.core import Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, randomise, record
from zoo.weights import Published, Table, from_published
from zoo_vit.reading import Reader
from zoo_vit.spec import AugmentSpec, EmbedSpec, cost
from zoo_vit.task import ImageClassification
from zoo_vit.weights import TimmVit

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 5}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_small_patch16_224", {}),
    "deit with a distillation token": ("deit_small_distilled_patch16_224", {}),
    "registers, layer scale, no class token": ("vit_little_patch16_reg4_gap_256", {"img_size": 32, "patch_size": 8}),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 28}),
    "dinov2 with swiglu": ("vit_giant_patch14_dinov2", {"img_size": 28}),
    "clip": ("vit_base_patch16_clip_224", {}),
    "clip with quick gelu": ("vit_base_patch16_clip_quickgelu_224", {}),
    "siglip with attention pooling": ("vit_base_patch16_siglip_224", {"num_classes": 5}),
    "siglip, a partial patch": ("vit_base_patch16_siglip_224", {"img_size": 30, "patch_size": 7}),
    "no biases, norms of queries and keys": ("vit_small_patch16_224", {"qkv_bias": False, "qk_norm": True}),
    "mean pooling with a class token": ("vit_small_patch16_224", {"global_pool": "avg"}),
}


def published(name: str, options: dict[str, Any], dtype: torch.dtype) -> tuple[nn.Module, Published]:
    """A model of timm's with random weights, and what its folder on the Hub would hold."""
    torch.manual_seed(0)
    arguments = SMALL | options
    reference = timm.create_model(name, **arguments).to(dtype).eval()
    randomise(reference)
    config = {"architecture": name, "model_args": arguments, "pretrained_cfg": reference.pretrained_cfg}
    return reference, Published(Path(), reference.state_dict(), config)


def ours(source: Published, dtype: torch.dtype) -> tuple[Model, Table]:
    settings = {**TimmVit.settings(source), "head.num_classes": 5, "data.name": "nowhere"}
    spec = resolve("vit", TimmVit.task, [Layer("weights", nested(settings))]).spec
    model, table = ImageClassification.build(spec).to(dtype).eval(), TimmVit.table(spec)
    model.load_state_dict(from_published(model, source.tensors, table).tensors)
    assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
    return model, table


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_timm(variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]) -> None:
    reference, source = published(*VARIANTS[variant], dtype)
    model, table = ours(source, dtype)
    image = torch.randn(3, 3, *reference.patch_embed.img_size, dtype=dtype)
    found = parity(
        model, table, {"image": image}, reference, lambda: reference(image), without_gradient=(r".*k_norm\.bias",)
    )
    record(record_property, variant, f"timm {timm.__version__}", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_back_unchanged(variant: str) -> None:
    _, source = published(*VARIANTS[variant], torch.float32)
    model, table = ours(source, torch.float32)
    check_there_and_back(model, table, source.tensors)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_base_patch16_rpn_224", {}, "blocks of kind ResPostBlock"),
        ("vit_small_patch16_224", {"norm_layer": "rmsnorm"}, "norms of kind RmsNorm"),
        ("vit_small_patch16_224", {"global_pool": "avg", "pool_include_prefix": True}, "tokens that are no patches"),
        ("vit_small_patch16_224", {"img_size": (32, 64)}, "32 × 64 pixels"),
        ("vit_small_patch16_224", {"reg_tokens": 2}, "registers with positions"),
        ("vit_pe_core_tiny_patch16_384", {"num_classes": 5}, "the architecture Eva"),
    ],
)
def test_what_the_rooms_cannot_be_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimmVit.settings(Published(Path(), {}, {"architecture": name, "model_args": options}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no config.json that names timm's model"),
        ({"architecture": ["vit"]}, "no config.json that names timm's model"),
        ({"architecture": "vit_of_nobody"}, "has no model 'vit_of_nobody'"),
        ({"architecture": "vit_small_patch16_224", "model_args": {"depth": "two"}}, "cannot make"),
    ],
)
def test_a_configuration_that_names_no_model_is_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimmVit.settings(Published(Path(), {}, config))


def test_a_configuration_fetches_and_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("timm was asked for weights")

    monkeypatch.setattr("timm.models._builder.load_pretrained", fetched)
    monkeypatch.setattr("timm.models._factory.load_checkpoint", fetched)
    asks = {"pretrained": True, "checkpoint_path": str(tmp_path / "any.pth"), "pretrained_cfg": "augreg_in21k"}
    config = {"architecture": "vit_small_patch16_224", "model_args": asks}
    assert TimmVit.settings(Published(Path(), {}, config))["core.dim"] == 384


def test_other_models_with_such_names_are_not_recognised() -> None:
    reference = timm.create_model("beit_base_patch16_224", embed_dim=48, depth=1, num_heads=3)
    assert not TimmVit.recognises(Published(Path(), reference.state_dict(), {}))


# ---------------------------------------------------------------- how pictures are read


SEEN = {
    "vit_small_patch16_224.augreg_in21k_ft_in1k": ("center", 0.9, "bicubic"),
    "vit_base_patch16_224_miil.in21k_ft_in1k": ("center", 0.875, "bilinear"),
    "vit_base_patch16_clip_384.laion2b_ft_in12k_in1k": ("squash", 1.0, "bicubic"),
    "vit_base_patch16_clip_384.openai_ft_in12k_in1k": ("squash", 0.95, "bicubic"),
    "vit_small_patch14_dinov2.lvd142m": ("center", 1.0, "bicubic"),
}


@pytest.mark.parametrize("name", SEEN)
def test_pictures_are_read_as_timm_evaluates(name: str, tmp_path: Path) -> None:
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None
    assert cfg.architecture is not None
    with torch.device("meta"):
        tensors = timm.create_model(cfg.architecture).state_dict()
    source = Published(Path(), tensors, {"architecture": cfg.architecture, "pretrained_cfg": cfg.to_dict()})
    settings = TimmVit.settings(source)
    embed = EmbedSpec.model_validate(nested(settings)["embed"])
    assert (embed.crop_mode, embed.crop_fraction, embed.interpolation) == SEEN[name]
    reader = Reader(embed, AugmentSpec.model_validate({}), TimmVit.info(source))
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=cfg.to_dict()))
    std = torch.tensor(TimmVit.info(source)["std"]).view(-1, 1, 1)
    for file in (Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"):
        for turn in (0, 90):  # 640 × 427 pixels, and 427 × 640
            Image.open(file).rotate(turn, expand=True).save(tmp_path / "turned.png")
            item = Item("a", tmp_path / "turned.png")
            ours = reader.batch([reader.sample(item, None)])[0]
            theirs = transform(Image.open(tmp_path / "turned.png").convert("RGB"))
            assert ours.shape == theirs.shape
            assert ((ours - theirs) * std * 255).abs().max() < 1e-3, (
                "of 255 levels, before the normalisation's rounding"
            )


def test_a_training_without_a_drawn_crop_sees_what_an_evaluation_sees() -> None:
    embed = EmbedSpec.model_validate({"image_size": 16, "patch_size": 4, "crop_fraction": 0.5})
    reader = Reader(embed, AugmentSpec.model_validate({}), {"mean": [0.5] * 3, "std": [0.5] * 3})
    item = Item("a", np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8))
    drawn = reader.sample(item, np.random.default_rng(1))["image"]
    assert np.array_equal(drawn, reader.sample(item, None)["image"])
    resized = torch.from_numpy(item.inputs)
    resized = v2.functional.resize(resized, [32], v2.InterpolationMode.BICUBIC, antialias=True)
    assert np.array_equal(drawn, resized[:, 8:24, 16:32])


def test_how_pictures_are_read_stays_as_it_was_where_weights_say_nothing(tmp_path: Path) -> None:
    reference, _ = published("vit_small_patch16_224", {}, torch.float32)
    config: dict[str, Any] = {"architecture": "vit_small_patch16_224", "model_args": SMALL}
    assert not [key for key in TimmVit.settings(Published(tmp_path, reference.state_dict(), config)) if "crop" in key]
    for odd in ({"crop_mode": "border"}, {"crop_pct": 1.1}, {"interpolation": "lanczos"}):
        source = Published(tmp_path, reference.state_dict(), {**config, "pretrained_cfg": odd})
        with pytest.raises(UserError, match=r"are read otherwise than ours can be: crop_pct .*\ngive its config"):
            TimmVit.settings(source)
