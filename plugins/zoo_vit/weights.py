"""Published weights of picture classifiers: what timm's vision transformers call what is ours.

DeiT's distillation token, registers, CLIP's norm before the core and SigLIP's attention pooling are values of a spec.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.specs import RunSpec
from zoo.weights import LEADING, Published, Row, Table
from zoo.weights.processors import normalised_by_timm, seen_by_timm, timm_card
from zoo_vit.spec import EmbedSpec

ACTIVATIONS = {
    ("Mlp", "GELU"): "gelu",
    ("Mlp", "GELUTanh"): "gelu_tanh",
    ("Mlp", "QuickGELU"): "quick_gelu",
    ("GluMlp", "SiLU"): "swiglu",
}
"""Kind of timm's MLP and its activation, in the core's words."""
POOLS = {"token": "cls", "avg": "mean", "map": "map"}
FETCHING = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "scriptable")
"""Arguments with which timm would fetch or open other weights, or that say nothing of a shape."""


class TimmVit:
    """`VisionTransformer` and `VisionTransformerDistilled` of timm."""

    name = "timm-vit"
    task = "image-classification"

    @staticmethod
    def recognises(published: Published) -> bool:
        needed = {"patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc2.weight"}
        return needed <= published.tensors.keys()

    @staticmethod
    def settings(published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: Their `config.json` names no model of timm's that the core can be.
        """
        reference = _reference(published)
        names = dict(reference.named_parameters())
        dim, channels, patch_size, _ = names["patch_embed.proj.weight"].shape
        block, (side, _) = reference.blocks[0], reference.patch_embed.img_size
        hidden = block.mlp.fc2.weight.shape[1]
        num_classes = _num_classes(published) or reference.num_classes
        num_own = ("cls_token" in names) + ("dist_token" in names)
        return {
            "core.dim": dim,
            "core.depth": len(reference.blocks),
            "core.num_heads": block.attn.num_heads,
            "core.mlp_dim": None if hidden == 4 * dim else hidden,
            "core.norm_eps": block.norm1.eps,
            "core.activation": ACTIVATIONS[_kind(block.mlp)],
            "core.qk_norm": "blocks.0.attn.q_norm.weight" in names,
            "core.layer_scale": 1e-5 if "blocks.0.ls1.gamma" in names else None,
            "core.final_norm": "norm.weight" in names,
            "core.bias": [
                *(("q", "k", "v") if "blocks.0.attn.qkv.bias" in names else ()),
                *(("out",) if "blocks.0.attn.proj.bias" in names else ()),
                *(("mlp",) if "blocks.0.mlp.fc1.bias" in names else ()),
                *(("norm",) if "blocks.0.norm1.bias" in names else ()),
            ],
            "embed.image_size": side,
            "embed.channels": channels,
            **seen_by_timm(timm_card(published.config), published.place),
            "embed.stem": "patch",
            "embed.patch_size": patch_size,
            "embed.patch_bias": "patch_embed.proj.bias" in names,
            "embed.num_class_tokens": num_own,
            "embed.num_registers": reference.num_reg_tokens,
            "embed.position": "learned",
            "embed.class_position": num_own > 0 and not reference.no_embed_class,
            "embed.norm": "norm_pre.weight" in names,
            "embed.partial_patches": "cut",
            "head.pool": POOLS[reference.global_pool],
            "head.norm": "fc_norm.weight" in names,
            **({"head.num_classes": num_classes} if num_classes > 1 else {}),
        }

    @staticmethod
    def of_their_head(published: Published) -> Mapping[str, Any]:
        settings = TimmVit.settings(published)
        return {**settings, **({"head.distilled": True} if settings["embed.num_class_tokens"] == 2 else {})}

    @staticmethod
    def info(published: Published) -> Mapping[str, Any]:
        """Mean and deviation of each channel that the weights were trained with, and the classes that they tell apart:
        those named, or ImageNet's of that number, by their WordNet numbers, as its folders are called."""
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

        config = timm_card(published.config)
        channels = published.tensors["patch_embed.proj.weight"].shape[1]
        known = normalised_by_timm(config, channels, published.place)
        subset = infer_imagenet_subset(config)
        names = config.get("label_names")
        known_names = ImageNetInfo(subset).label_names() if subset else []
        named = isinstance(names, list) and all(isinstance(each, str) for each in names)
        classes: list[str] = list(names) if named and names else list(known_names)
        are_theirs = classes and _num_classes(published) in (None, len(classes))
        return {**known, **({"classes": classes} if are_theirs else {})}

    @staticmethod
    def table(spec: RunSpec) -> Table:
        own = EmbedSpec.model_validate(spec.embed).num_class_tokens
        classes = ("cls_token", "dist_token")[: int(spec.head.get("pool") == "cls") if own is None else own]
        return Table(
            (
                Row("embed.stem", "patch_embed.proj"),
                Row("embed.class_token", classes, LEADING),
                Row("embed.registers", "reg_token", LEADING),
                Row("embed.position", "pos_embed", LEADING),
                Row("embed.norm", "norm_pre"),
                Row("core.blocks.{}.norm1", "blocks.{}.norm1"),
                Row("core.blocks.{}.attention.qkv", "blocks.{}.attn.qkv"),
                Row("core.blocks.{}.attention.q_norm", "blocks.{}.attn.q_norm"),
                Row("core.blocks.{}.attention.k_norm", "blocks.{}.attn.k_norm"),
                Row("core.blocks.{}.attention.out", "blocks.{}.attn.proj"),
                Row("core.blocks.{}.scale1", "blocks.{}.ls1.gamma"),
                Row("core.blocks.{}.norm2", "blocks.{}.norm2"),
                Row("core.blocks.{}.mlp.fc1", "blocks.{}.mlp.fc1"),
                Row("core.blocks.{}.mlp.fc2", "blocks.{}.mlp.fc2"),
                Row("core.blocks.{}.scale2", "blocks.{}.ls2.gamma"),
                Row("core.norm", "norm"),
                Row("head.attention_pool.query", "attn_pool.latent", LEADING),
                Row("head.attention_pool.attention.q", "attn_pool.q"),
                Row("head.attention_pool.attention.kv", "attn_pool.kv"),
                Row("head.attention_pool.attention.out", "attn_pool.proj"),
                Row("head.attention_pool.norm", "attn_pool.norm"),
                Row("head.attention_pool.mlp", "attn_pool.mlp"),
                Row("head.norm", "fc_norm"),
                Row("head.classifier", "head", predicts=True),
                Row("head.distilled", "head_dist", predicts=True),
            )
        )


def _num_classes(published: Published) -> int | None:
    """Of the head that is there, which may be newer than the `config.json`; None where there is none."""
    head = published.tensors.get("head.weight")
    return None if head is None else len(head)


def _reference(published: Published) -> Any:
    """timm's own model without its numbers: how many heads share a width, and much else, no tensor tells.

    Raises:
        UserError: Nothing names it, it cannot be made, or it is something else than our rooms can be.
    """
    import timm
    import torch

    name, arguments = published.config.get("architecture"), published.config.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise UserError(
            f"the model_args in the config.json of '{published.place}' are no settings by name\ncopy it anew"
        )
    if not isinstance(name, str):
        raise UserError(
            f"'{published.place}' has no config.json that names timm's model as its architecture\n"
            "put the config.json that was published with the weights beside them"
        )
    if not timm.is_model(name):
        raise UserError(f"timm {timm.__version__} has no model '{name}', which config.json names\nupdate timm")
    shape = {key: value for key, value in arguments.items() if key not in FETCHING}
    try:
        with torch.device("meta"):
            reference = timm.create_model(name, pretrained=False, **shape)
    except Exception as error:  # whatever a stranger's arguments make timm raise
        raise UserError(
            f"timm cannot make '{name}' with the model_args of config.json: {error}\ncopy or download it anew"
        ) from error
    if odd := _oddity(reference):
        raise UserError(f"timm's '{name}' has {odd}, which our rooms have not\nname weights of another model")
    return reference


def _oddity(reference: Any) -> str | None:
    """What of a model of timm's our rooms cannot be; None where they can be all of it."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import Block, VisionTransformer
    from torch import nn

    if type(reference) not in (VisionTransformer, VisionTransformerDistilled):
        return f"the architecture {type(reference).__name__}"
    block, (height, width) = reference.blocks[0], reference.patch_embed.img_size
    positioned = reference.num_reg_tokens and not reference.no_embed_class
    odd = {
        f"blocks of kind {type(block).__name__}": type(block) is not Block,
        f"norms of kind {type(block.norm1).__name__}": not isinstance(block.norm1, nn.LayerNorm),
        " with ".join(_kind(block.mlp)): _kind(block.mlp) not in ACTIVATIONS,
        f"'{reference.global_pool}' pooling": reference.global_pool not in POOLS,
        "pooling of tokens that are no patches": reference.pool_include_prefix,
        f"pictures of {height} × {width} pixels": height != width,
        "registers with positions": positioned,
        "no positions": reference.pos_embed is None,
    }
    return next((what for what, is_so in odd.items() if is_so), None)


def _kind(mlp: Any) -> tuple[str, str]:
    return type(mlp).__name__, type(mlp.act).__name__
