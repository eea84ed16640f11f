"""transformers' picture encoders in our rooms: equal outputs and gradients, and back to the published names."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from zoo.core import Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.specs import RunSpec
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, randomise, record
from zoo.weights import Published, Table, from_published
from zoo.weights.processors import FILE, WHOLE
from zoo_vit.encoders import CLIP, DINOV2, FAMILIES, SIGLIP, VIT
from zoo_vit.pictures import fit_size
from zoo_vit.spec import cost
from zoo_vit.task import ImageClassification

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
DINO = {key: value for key, value in SMALL.items() if key != "intermediate_size"}
TEXT = {**SMALL, "vocab_size": 60, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2}


class Case(NamedTuple):
    """A class of transformers', its configuration's options, and what of its output is compared.

    Args:
        unread: Published tensors that the class has and does not read for that.
        side: Of the pictures, where it is not the configuration's.
    """

    name: str
    config: str
    options: dict[str, Any]
    compared: str = "logits"
    unread: tuple[str, ...] = ()
    side: int = 32


def both(**options: Any) -> dict[str, Any]:
    return {"vision_config": SMALL | options.pop("vision", {}), "text_config": TEXT, **options}


VARIANTS: dict[str, Case] = {
    "vit (transformers)": Case("ViTForImageClassification", "ViTConfig", SMALL | {"num_labels": 4}),
    "vit (transformers), no biases of q, k, v": Case(
        "ViTForImageClassification", "ViTConfig", SMALL | {"num_labels": 4, "qkv_bias": False, "hidden_act": "relu"}
    ),
    "vit (transformers), pooled": Case("ViTModel", "ViTConfig", SMALL, "pooler_output"),
    "vit (transformers), a pooler of another width": Case(
        "ViTModel", "ViTConfig", SMALL | {"pooler_output_size": 20}, "pooler_output"
    ),
    "deit (transformers)": Case("DeiTForImageClassification", "DeiTConfig", SMALL | {"num_labels": 4}),
    "deit (transformers), taught": Case(
        "DeiTForImageClassificationWithTeacher", "DeiTConfig", SMALL | {"num_labels": 4}
    ),
    "deit (transformers), pooled": Case("DeiTModel", "DeiTConfig", SMALL, "pooler_output"),
    "dinov2 (transformers)": Case(
        "Dinov2ForImageClassification", "Dinov2Config", DINO | {"num_labels": 4}, unread=("mask_token",)
    ),
    "dinov2 (transformers), pooled, swiglu": Case(
        "Dinov2Model", "Dinov2Config", DINO | {"use_swiglu_ffn": True}, "pooler_output", unread=("mask_token",)
    ),
    "dinov2 (transformers), pictures of another size": Case(
        "Dinov2ForImageClassification", "Dinov2Config", DINO | {"num_labels": 4}, unread=("mask_token",), side=24
    ),
    "dinov2 with registers (transformers)": Case(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        DINO | {"num_labels": 4},
        unread=("mask_token",),
        side=24,
    ),
    "clip-vision, pooled": Case("CLIPVisionModel", "CLIPVisionConfig", SMALL, "pooler_output"),
    "clip-vision": Case(
        "CLIPVisionModelWithProjection", "CLIPVisionConfig", SMALL | {"projection_dim": 24}, "image_embeds"
    ),
    "clip-vision of both": Case(
        "CLIPModel",
        "CLIPConfig",
        both(projection_dim=24, vision={"hidden_act": "gelu", "layer_norm_eps": 1e-4}),
        "get_image_features",
        unread=("text_model", "text_projection", "logit_scale"),
    ),
    "clip-vision, classifier": Case(
        "CLIPForImageClassification", "CLIPConfig", both(num_labels=4), unread=("post_layernorm",)
    ),
    "siglip-vision": Case("SiglipVisionModel", "SiglipVisionConfig", SMALL, "pooler_output"),
    "siglip-vision, a partial patch": Case(
        "SiglipVisionModel", "SiglipVisionConfig", SMALL | {"image_size": 30}, "pooler_output", side=30
    ),
    "siglip-vision of both": Case(
        "SiglipModel",
        "SiglipConfig",
        both(),
        "get_image_features",
        unread=("text_model", "logit_scale", "logit_bias"),
    ),
    "siglip-vision, classifier": Case(
        "SiglipForImageClassification", "SiglipConfig", both(num_labels=4), unread=("vision_model.head",)
    ),
}


class AsPublished(nn.Module):
    """A model whose parameters are called as its files have them; in memory transformers has other names."""

    def __init__(self, model: transformers.PreTrainedModel, prefix: str) -> None:
        super().__init__()
        self.model, self.prefix = model, prefix

    def tensors(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return Table((), prefix=self.prefix).named(revert_weight_conversion(self.model, values))

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        gradients = {name: each.grad for name, each in self.model.named_parameters() if each.grad is not None}
        for name, gradient in self.tensors(gradients).items():
            parameter = nn.Parameter(torch.empty_like(gradient))
            parameter.grad = gradient
            yield name, parameter


def published(case: Case, dtype: torch.dtype) -> tuple[Any, Published]:
    """A model of transformers' with random weights, and what its folder on the Hub would hold."""
    torch.manual_seed(0)
    config = getattr(transformers, case.config)(**case.options)
    reference = getattr(transformers, case.name)(config).to(dtype).eval()
    reference.set_attn_implementation("sdpa")
    randomise(reference)
    tensors = revert_weight_conversion(reference, dict(reference.state_dict()))
    return reference, Published(Path("nowhere"), tensors, json.loads(config.to_json_string(use_diff=True)))


def family_of(source: Published) -> Any:
    (family,) = (each for each in FAMILIES if each.recognises(source))
    return family


def spec_of(source: Published) -> RunSpec:
    settings = {"head.num_classes": 4, **family_of(source).settings(source), "data.name": "nowhere"}
    return resolve("vit", VIT.task, [Layer("weights", nested(settings))]).spec


def ours(source: Published, dtype: torch.dtype, *, classified: bool) -> tuple[Model, Table]:
    """Without a classifier where none was published: then the model gives what is pooled."""
    spec, family = spec_of(source), family_of(source)
    model, table = ImageClassification.build(spec).to(dtype).eval(), family.table(spec)
    placed = from_published(model, source.tensors, table)
    assert set(placed.new) == (set() if classified else {"head.classifier.weight", "head.classifier.bias"})
    model.load_state_dict(placed.tensors)
    assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
    if not classified:
        vars(model.head)["_modules"]["classifier"] = nn.Identity()
    return model, table


def said(reference: Any, case: Case, image: Tensor) -> Tensor:
    if case.compared == "get_image_features":
        return reference.get_image_features(image).pooler_output
    return reference(image)[case.compared]


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]) -> None:
    case = VARIANTS[variant]
    reference, source = published(case, dtype)
    model, table = ours(source, dtype, classified=case.compared == "logits")
    image = torch.randn(3, 3, case.side, case.side, dtype=dtype)
    found = parity(
        model,
        table,
        {"image": image},
        AsPublished(reference, table.prefix),
        lambda: said(reference, case, image),
        without_gradient=(r".*(key|k_proj)\.bias",),
    )
    record(record_property, variant, f"transformers {transformers.__version__}", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_back_unchanged(variant: str) -> None:
    case = VARIANTS[variant]
    _, source = published(case, torch.float32)
    model, table = ours(source, torch.float32, classified=case.compared == "logits")
    named = Table((), prefix=table.prefix).named(source.tensors)
    read = {name: each for name, each in named.items() if not any(part in name for part in case.unread)}
    assert len(named) == len(read) or case.unread
    check_there_and_back(model, table, read)


# ---------------------------------------------------------------- what a configuration says


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_a_configuration_leaves_out_is_as_transformers_has_it(family: Any) -> None:
    config = transformers.AutoConfig.for_model(family.model_type)
    known = {key: value for key, value in family.defaults.items() if hasattr(config, key)}
    assert known == {key: getattr(config, key) for key in known}
    assert family.defaults.keys() - known.keys() <= {"intermediate_size"}  # which DINOv2 reckons


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("again", [{}, {"vision_config_dict": None}, {"vision_config_dict": {"hidden_size": 192}}])
def test_a_part_for_pictures_is_read_as_transformers_does(kind: str, again: dict[str, Any]) -> None:
    again = again if kind == "clip" else {}
    said = {"model_type": kind, "vision_config": {"patch_size": 14, "num_attention_heads": 6}, **again}
    wanted = getattr(transformers, {"clip": "CLIPConfig", "siglip": "SiglipConfig"}[kind])(
        **{key: value for key, value in said.items() if key != "model_type"}
    ).vision_config
    found = (CLIP if kind == "clip" else SIGLIP).settings(Published(Path("nowhere"), {}, said))
    assert (found["core.dim"], found["core.num_heads"]) == (wanted.hidden_size, wanted.num_attention_heads)
    assert (found["embed.patch_size"], found["embed.image_size"]) == (wanted.patch_size, wanted.image_size)
    assert found["core.norm_eps"] == wanted.layer_norm_eps


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (VIT, {"hidden_act": "mish"}, "hidden_act is 'mish', which the core has not"),
        (VIT, {"hidden_size": "48"}, "hidden_size '48' is no whole number above 0"),
        (VIT, {"num_channels": 0}, "num_channels 0 is no whole number above 0"),
        (VIT, {"image_size": [32, 64]}, r"of \[32, 64\] pixels are no squares"),
        (VIT, {"patch_size": None}, "of None pixels are no squares"),
        (DINOV2, {"mlp_ratio": None}, "has a wrong value"),
        (CLIP, {"model_type": "clip", "vision_config": [1]}, "has a vision_config that is none"),
    ],
)
def test_a_configuration_that_our_rooms_cannot_be_is_refused(
    family: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        family.settings(Published(Path("nowhere"), {}, {"model_type": family.model_type, **SMALL, **changes}))


def test_a_pooler_of_another_activation_is_refused() -> None:
    _, source = published(VARIANTS["vit (transformers), pooled"], torch.float32)
    with pytest.raises(UserError, match="pooler_act 'relu' is not tanh"):
        VIT.settings(Published(source.place, source.tensors, {**source.config, "pooler_act": "relu"}))


def test_the_classes_are_those_of_the_classifier() -> None:
    _, source = published(VARIANTS["vit (transformers)"], torch.float32)
    names = {"0": "cat", "10": "owl", "2": "newt"}
    assert VIT.info(Published(source.place, source.tensors, {**source.config, "id2label": names})) == {
        "classes": ["cat", "newt", "owl"]
    }
    without = {name: each for name, each in source.tensors.items() if "classifier" not in name}
    assert VIT.info(Published(source.place, without, {**source.config, "id2label": names})) == {}


# ---------------------------------------------------------------- how pictures are prepared


def prepared(folder: Path, processor: dict[str, Any], file: str = FILE) -> tuple[int, dict[str, Any]]:
    (folder / file).write_text(json.dumps(processor))
    source = Published(folder, {}, {"model_type": "vit", **SMALL})
    return VIT.settings(source)["embed.image_size"], dict(VIT.info(source))


@pytest.mark.parametrize(
    ("processor", "side"),
    [
        (transformers.CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 24, "width": 24}), 24),
        (transformers.SiglipImageProcessor(size={"height": 40, "width": 40}), 40),
        (transformers.ViTImageProcessor(size={"height": 40, "width": 40}), 40),
        (transformers.DeiTImageProcessor(), 224),
        (transformers.BitImageProcessor(size={"shortest_edge": 30}, do_center_crop=False), 32),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_processor_says_size_and_normalisation(processor: Any, side: int, tmp_path: Path) -> None:
    found, info = prepared(tmp_path, processor.to_dict())
    assert found == side
    assert info == {"mean": list(processor.image_mean), "std": list(processor.image_std)}
    (tmp_path / FILE).unlink()
    assert prepared(tmp_path, {"image_processor": processor.to_dict()}, WHOLE) == (found, info)


@pytest.mark.parametrize(
    "processor",
    [
        transformers.CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 24, "width": 24}),
        transformers.SiglipImageProcessor(size={"height": 40, "width": 40}),
        transformers.ViTImageProcessor(size={"height": 40, "width": 40}),
        transformers.DeiTImageProcessor(),
        transformers.BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("shape", [(67, 101), (300, 212), (224, 224), (300, 431), (640, 427)])
def test_pictures_are_seen_as_the_processor_makes_them(processor: Any, shape: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(processor.to_dict()))
    seen = VIT.settings(Published(tmp_path, {}, {"model_type": "vit", **SMALL}))
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    wanted = processor(images=Image.fromarray(pixels), do_normalize=False, do_rescale=False, return_tensors="np")
    how = {key: seen[f"embed.{key}"] for key in ("crop_fraction", "crop_mode", "interpolation")}
    found = fit_size(np.ascontiguousarray(pixels.transpose(2, 0, 1)), seen["embed.image_size"], **how)
    np.testing.assert_array_equal(found, wanted["pixel_values"][0])


def test_older_and_other_processors_are_read(tmp_path: Path) -> None:
    assert prepared(tmp_path, {"size": 30, "crop_size": 24, "do_center_crop": True}) == (24, {})
    assert prepared(tmp_path, {"do_normalize": False})[1] == {"mean": [0.0] * 3, "std": [1.0] * 3}
    half = {"image_mean": [1.0, 1.0, 1.0], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1 / 127.5}
    assert prepared(tmp_path, half)[1] == {"mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"size": {"height": 32, "width": 48}}, "which is no square"),
        ({"size": "large"}, "which is no square"),
        ({"size": 24, "crop_size": 32}, "makes pictures of 32 pixels from 24"),
        ({"size": 32, "resample": 1}, "by Pillow's resampling 1, which ours cannot be"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "are not 3 numbers each"),
        ({"image_mean": [0.5, 0.5, "0.5"], "image_std": [0.5, 0.5, 0.5]}, "are not 3 numbers each"),
        ({"image_mean": [0.5, 0.5, 0.5]}, "are not 3 numbers each"),
        ({"image_mean": [0.5] * 3, "image_std": [0.0] * 3}, "are not 3 numbers each"),
    ],
)
def test_a_processor_that_says_nonsense_is_told(processor: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, processor)
