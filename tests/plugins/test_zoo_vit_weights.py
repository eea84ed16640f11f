"""timm's weights in our rooms: equal outputs and gradients, and back to timm's names unchanged."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from zoo.core import Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, randomise
from zoo.weights import Published, Table, from_published
from zoo_vit.spec import cost
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


@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_timm(variant: str, dtype: torch.dtype) -> None:
    reference, source = published(*VARIANTS[variant], dtype)
    model, table = ours(source, dtype)
    image = torch.randn(3, 3, *reference.patch_embed.img_size, dtype=dtype)
    found = parity(
        model, table, {"image": image}, reference, lambda: reference(image), without_gradient=(r".*k_norm\.bias",)
    )
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
