"""Published weights of picture encoders: what transformers calls what is ours. timm's names stand in `weights`.

ViT: Dosovitskiy et al. 2020, arXiv:2010.11929; DeiT: Touvron et al. 2020, arXiv:2012.12877; DINOv2: Oquab et al. 2023,
arXiv:2304.07193, with registers Darcet et al. 2023, arXiv:2309.16588; CLIP: Radford et al. 2021, arXiv:2103.00020;
SigLIP: Zhai et al. 2023, arXiv:2303.15343. Of CLIP and SigLIP, whose weights hold two encoders, this is the one that
reads pictures; `zoo_text` has the other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.specs import RunSpec
from zoo.weights import LEADING, Form, Published, Row, Table
from zoo.weights.configuration import core_settings, of_tower, read_settings, require_whole, tower_rows
from zoo.weights.processors import normalisation_of, read_processor, seen_of

TRAILING = Form(lambda x: x[None], lambda x: x[0])
"""Without the axis of length 1 that ours has."""
COUNTED = r".*\.position_ids"
OF_MASKING = r".*\.mask_token"
"""A token for what was hidden in pretraining."""
OF_TEXTS = (r"text_model\..*", r"text_projection\..*", r"logit_(scale|bias)")
"""The other encoder, and what compares the two."""

CLASSIFIERS = ("classifier.weight", "cls_classifier.weight")
PLAIN_HEAD: Mapping[str, Any] = {"head.norm": False, "head.pooler": None, "head.distilled": False}
CLASSIFIER = Row("head.classifier", "classifier", predicts=True)

Tensors = Mapping[str, Tensor]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class PictureEncoder:
    """A family of transformers' picture encoders.

    Args:
        model_type: As `config.json` has it.
        prefix: Before the encoder's names in a publication that has a head too.
        defaults: Of the configuration.
        shape: Spec values of a configuration and of the tensors that go with it, by dotted key.
        rows: The family's table.
        both: `model_type` of a publication that may hold an encoder of texts too.
        ignored, parts: As in `Table`.
    """

    name: str
    model_type: str
    prefix: str
    defaults: Config
    shape: Callable[[Config, Tensors], dict[str, Any]]
    rows: Callable[[RunSpec], tuple[Row, ...]]
    both: str | None = None
    ignored: tuple[str, ...] = (OF_MASKING,)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    task: str = "image-classification"

    def recognises(self, published: Published) -> bool:
        kind = published.config.get("model_type")
        held = any(name.startswith(self.prefix) for name in published.tensors)
        return kind == self.model_type or (kind is not None and kind == self.both and held)

    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: Our rooms cannot be so, or the configuration says too little.
        """
        tensors = Table((), prefix=self.prefix).named(published.tensors)
        classes = [len(tensors[name]) for name in CLASSIFIERS if name in tensors]
        seen = seen_of(read_processor(published.folder, "image_processor"), published.folder)

        def shaped(config: Config) -> dict[str, Any]:
            return {
                **core_settings(config),
                **_embed_settings(config),
                **self.shape(config, tensors),
                **seen,
                **({"head.num_classes": classes[0]} if classes and classes[0] > 1 else {}),  # one number is no class
            }

        return read_settings(published, self._config(published), shaped)

    def of_their_head(self, published: Published) -> Mapping[str, Any]:
        """As transformers' classifier reads a picture, which those that were published without one need not be."""
        tensors = Table((), prefix=self.prefix).named(published.tensors)
        tensors = {name: each for name, each in tensors.items() if ".pooler." not in name}
        if not tensors.keys() & set(CLASSIFIERS):
            tensors["classifier.weight"] = torch.empty(0)
        return {
            **PLAIN_HEAD,
            "core.final_norm": True,
            **read_settings(published, self._config(published), lambda config: self.shape(config, tensors)),
        }

    def info(self, published: Published) -> Mapping[str, Any]:
        """Mean and deviation of each channel that the weights were trained with, and the names of the classes.

        Raises:
            UserError: They are none.
        """
        channels = read_settings(published, self._config(published), _channels)
        processor = read_processor(published.folder, "image_processor")
        known = normalisation_of(processor, published.folder, channels)
        found = published.config.get("id2label")
        names = {str(key): str(name) for key, name in found.items()} if isinstance(found, dict) else {}
        if not any("classifier" in name for name in published.tensors) or not all(map(str.isdecimal, names)):
            return known
        classes = [names[key] for key in sorted(names, key=int)]
        return {**known, **({"classes": classes} if classes else {})}

    def table(self, spec: RunSpec) -> Table:
        return Table(self.rows(spec), self.ignored, self.prefix, parts=self.parts)

    def _config(self, published: Published) -> Config:
        """The encoder's own, with transformers' defaults."""
        if published.config["model_type"] == self.both:
            return of_tower(published, "vision_config", self.defaults)
        return {**self.defaults, **published.config}


def _embed_settings(config: Config) -> dict[str, Any]:
    side, patch = _side(config["image_size"]), _side(config["patch_size"])
    return {
        "embed.image_size": side,
        "embed.channels": _channels(config),
        "embed.stem": "patch",
        "embed.patch_size": patch,
        "embed.patch_bias": True,
        "embed.num_class_tokens": 1,
        "embed.num_registers": 0,
        "embed.position": "learned",
        "embed.class_position": True,
        "embed.norm": False,
        "embed.partial_patches": "cut",
        "embed.smooth_positions": False,
        **PLAIN_HEAD,
    }


def _channels(config: Config) -> int:
    require_whole(config, ["num_channels"])
    return config["num_channels"]


def _side(value: Any) -> int:
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if any(type(each) is not int or each < 1 or each != sides[0] for each in sides) or not 1 <= len(sides) <= 2:
        raise ValueError(f"pictures or patches of {value!r} pixels are no squares of whole pixels")
    return sides[0]


def _pooler(config: Config, tensors: Tensors, name: str) -> dict[str, Any]:
    """ViT's layer over the class token, where it was published."""
    if f"{name}.weight" not in tensors:
        return {"head.pooler": None}
    if (act := config.get("pooler_act", "tanh")) != "tanh":
        raise ValueError(f"pooler_act {act!r} is not tanh, which ours is")
    return {"head.pooler": "tanh", **_width(config, tensors[f"{name}.weight"]), "head.pooler_bias": True}


def _width(config: Config, layer: Tensor) -> dict[str, Any]:
    return {"head.pooler_dim": None if len(layer) == config["hidden_size"] else len(layer)}


# ---------------------------------------------------------------- ViT, DeiT, DINOv2

VIT_DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 224, "patch_size": 16, "num_channels": 3,
}  # fmt: skip
DINO_DEFAULTS = VIT_DEFAULTS | {"layer_norm_eps": 1e-6, "patch_size": 14, "mlp_ratio": 4, "layerscale_value": 1.0}


def vit_shape(config: Config, tensors: Tensors) -> dict[str, Any]:
    return {"head.pool": "cls", **_pooler(config, tensors, "vit.pooler.dense")}


def deit_shape(config: Config, tensors: Tensors) -> dict[str, Any]:
    return {
        "embed.num_class_tokens": 2,
        "head.pool": "cls",
        "head.distilled": "distillation_classifier.weight" in tensors,
        **_pooler(config, tensors, "deit.pooler.dense"),
    }


def encoder_rows(encoder: str, *class_tokens: str) -> tuple[Row, ...]:
    """What ViT, DeiT and DINOv2 call alike."""
    layer = f"{encoder}.encoder.layer.{{}}"
    attention = tuple(f"{layer}.attention.attention.{each}" for each in ("query", "key", "value"))
    return (
        Row("embed.stem", f"{encoder}.embeddings.patch_embeddings.projection"),
        Row("embed.class_token", tuple(f"{encoder}.embeddings.{each}" for each in class_tokens), LEADING),
        Row("embed.position", f"{encoder}.embeddings.position_embeddings", LEADING),
        Row("core.blocks.{}.attention.qkv", attention),
        Row("core.blocks.{}.attention.out", f"{layer}.attention.output.dense"),
        Row("core.norm", f"{encoder}.layernorm"),
        Row("head.pooler", f"{encoder}.pooler.dense"),
    )


def bert_like_rows(encoder: str) -> tuple[Row, ...]:
    """What ViT and DeiT call as BERT does."""
    layer = f"{encoder}.encoder.layer.{{}}"
    return (
        Row("core.blocks.{}.norm1", f"{layer}.layernorm_before"),
        Row("core.blocks.{}.norm2", f"{layer}.layernorm_after"),
        Row("core.blocks.{}.mlp.fc1", f"{layer}.intermediate.dense"),
        Row("core.blocks.{}.mlp.fc2", f"{layer}.output.dense"),
    )


def vit_rows(spec: RunSpec) -> tuple[Row, ...]:
    return *encoder_rows("vit", "cls_token"), *bert_like_rows("vit"), CLASSIFIER


def deit_rows(spec: RunSpec) -> tuple[Row, ...]:
    return (
        *encoder_rows("deit", "cls_token", "distillation_token"),
        *bert_like_rows("deit"),
        Row("head.classifier", "cls_classifier" if spec.head.get("distilled") else "classifier", predicts=True),
        Row("head.distilled", "distillation_classifier", predicts=True),
    )


def dino_shape(config: Config, tensors: Tensors) -> dict[str, Any]:
    gated, wide = config.get("use_swiglu_ffn", False), int(config["hidden_size"] * config["mlp_ratio"])
    inner = (int(wide * 2 / 3) + 7) // 8 * 8  # two thirds, rounded up to a multiple of 8
    registers = config.get("num_register_tokens", 0)
    return {
        "core.mlp_dim": inner if gated else None if wide == 4 * config["hidden_size"] else wide,
        "core.layer_scale": float(config["layerscale_value"]),
        **({"core.activation": "swiglu"} if gated else {}),
        "embed.num_registers": registers,
        "embed.smooth_positions": registers > 0,
        "head.pool": "cls_mean" if "classifier.weight" in tensors else "cls",
    }


def dino_rows(encoder: str) -> Callable[[RunSpec], tuple[Row, ...]]:
    layer = f"{encoder}.encoder.layer.{{}}"
    rows = (
        *encoder_rows(encoder, "cls_token"),
        Row("embed.registers", f"{encoder}.embeddings.register_tokens", LEADING),
        Row("core.blocks.{}.norm1", f"{layer}.norm1"),
        Row("core.blocks.{}.scale1", f"{layer}.layer_scale1.lambda1"),
        Row("core.blocks.{}.norm2", f"{layer}.norm2"),
        Row("core.blocks.{}.scale2", f"{layer}.layer_scale2.lambda1"),
        CLASSIFIER,
    )
    plain = Row("core.blocks.{}.mlp", f"{layer}.mlp")
    gated = tuple(
        Row(f"core.blocks.{{}}.mlp.{ours}", f"{layer}.mlp.weights_{theirs}")
        for ours, theirs in (("fc1", "in"), ("fc2", "out"))
    )
    return lambda spec: (*rows, *(gated if spec.core.activation == "swiglu" else (plain,)))


# ---------------------------------------------------------------- CLIP, SigLIP

CLIP_DEFAULTS = VIT_DEFAULTS | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "patch_size": 32}
SIGLIP_DEFAULTS = VIT_DEFAULTS | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
POOL = "vision_model.head"
PROBE = {
    f"{POOL}.attention.in_proj_{kind}": tuple(f"{POOL}.attention.{each}_proj.{kind}" for each in "qkv")
    for kind in ("weight", "bias")
}
"""SigLIP's query, key and value projections of its attention pooling are one tensor."""


def clip_shape(config: Config, tensors: Tensors) -> dict[str, Any]:
    """The class token is normed, and projected where there is a projection. Transformers' classifier reads the mean of
    the patches instead, without the norm."""
    if "classifier.weight" in tensors:
        head: dict[str, Any] = {"core.final_norm": False, "head.pool": "mean"}
    else:
        projection = tensors.get("visual_projection.weight")
        width = {} if projection is None else _width(config, projection)
        head = {"head.pool": "cls", "head.pooler": "linear" if width else None, **width, "head.pooler_bias": False}
    return {"embed.patch_bias": False, "embed.norm": True, **head}


def clip_rows(spec: RunSpec) -> tuple[Row, ...]:
    embeddings = "vision_model.embeddings"
    return (
        Row("embed.stem", f"{embeddings}.patch_embedding"),
        Row("embed.class_token", f"{embeddings}.class_embedding", TRAILING),
        Row("embed.position", f"{embeddings}.position_embedding.weight"),
        Row("embed.norm", "vision_model.pre_layrnorm"),
        *tower_rows("vision_model"),
        Row("core.norm", "vision_model.post_layernorm"),
        Row("head.pooler", "visual_projection"),
        CLASSIFIER,
    )


def siglip_shape(config: Config, tensors: Tensors) -> dict[str, Any]:
    """A query attends to the patches. Transformers' classifier reads their mean instead."""
    pooled = f"{POOL}.probe" in tensors and "classifier.weight" not in tensors
    return {
        "embed.num_class_tokens": 0,
        "embed.class_position": False,
        "head.pool": "map" if pooled else "mean",
    }


def siglip_rows(spec: RunSpec) -> tuple[Row, ...]:
    embeddings = "vision_model.embeddings"
    return (
        Row("embed.stem", f"{embeddings}.patch_embedding"),
        Row("embed.position", f"{embeddings}.position_embedding.weight"),
        *tower_rows("vision_model"),
        Row("core.norm", "vision_model.post_layernorm"),
        Row("head.attention_pool.query", f"{POOL}.probe", LEADING),
        Row("head.attention_pool.attention.q", f"{POOL}.attention.q_proj"),
        Row("head.attention_pool.attention.kv", (f"{POOL}.attention.k_proj", f"{POOL}.attention.v_proj")),
        Row("head.attention_pool.attention.out", f"{POOL}.attention.out_proj"),
        Row("head.attention_pool.norm", f"{POOL}.layernorm"),
        Row("head.attention_pool.mlp", f"{POOL}.mlp"),
        CLASSIFIER,
    )


VIT = PictureEncoder("vit", "vit", "vit.", VIT_DEFAULTS, vit_shape, vit_rows)
DEIT = PictureEncoder("deit", "deit", "deit.", VIT_DEFAULTS, deit_shape, deit_rows)
DINOV2 = PictureEncoder("dinov2", "dinov2", "dinov2.", DINO_DEFAULTS, dino_shape, dino_rows("dinov2"))
DINOV2_REGISTERS = PictureEncoder(
    "dinov2-registers",
    "dinov2_with_registers",
    "dinov2_with_registers.",
    DINO_DEFAULTS | {"patch_size": 16, "num_register_tokens": 4},
    dino_shape,
    dino_rows("dinov2_with_registers"),
)
CLIP = PictureEncoder(
    "clip-vision",
    "clip_vision_model",
    "vision_model.",
    CLIP_DEFAULTS,
    clip_shape,
    clip_rows,
    both="clip",
    ignored=(*OF_TEXTS, COUNTED, r"vision_model\.post_layernorm\..*"),  # the last where a classifier passes it by
)
SIGLIP = PictureEncoder(
    "siglip-vision",
    "siglip_vision_model",
    "vision_model.",
    SIGLIP_DEFAULTS,
    siglip_shape,
    siglip_rows,
    both="siglip",
    ignored=(*OF_TEXTS, COUNTED),
    parts=PROBE,
)
FAMILIES = (VIT, DEIT, DINOV2, DINOV2_REGISTERS, CLIP, SIGLIP)
