"""Published weights of picture classifiers: what timm's vision transformers call what is ours.

DeiT's distillation token, registers, CLIP's norm before the core and SigLIP's attention pooling are values of a spec.
"""

import math
from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.specs import RunSpec
from zoo.weights import LEADING, Published, Row, Table
from zoo_vit.spec import num_class_tokens, rooms

ACTIVATIONS = {
    ("Mlp", "GELU"): "gelu",
    ("Mlp", "GELUTanh"): "gelu_tanh",
    ("Mlp", "QuickGELU"): "quick_gelu",
    ("GluMlp", "SiLU"): "swiglu",
}
"""Kind of timm's MLP and its activation, in the core's words."""
POOLS = {"token": "cls", "avg": "mean", "map": "map"}


class TimmVit:
    """`VisionTransformer` and `VisionTransformerDistilled` of timm."""

    name = "timm-vit"
    task = "image-classification"

    @staticmethod
    def recognises(published: Published) -> bool:
        return {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= published.tensors.keys()

    @staticmethod
    def settings(published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key. How many heads share a block's width, no tensor tells:
        without a `config.json` that names timm's model, the model of the zoo says it."""
        tensors, reference = published.tensors, _reference(published)
        dim, channels, patch_size, _ = tensors["patch_embed.proj.weight"].shape
        num_own = ("cls_token" in tensors) + ("dist_token" in tensors)
        num_registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
        num_positions = tensors["pos_embed"].shape[1]
        class_position = math.isqrt(num_positions) ** 2 != num_positions
        grid_size = math.isqrt(num_positions - (num_own if class_position else 0))
        block = {name.removeprefix("blocks.0.") for name in tensors if name.startswith("blocks.0.")}
        hidden = tensors["blocks.0.mlp.fc2.weight"].shape[1]
        pool = "cls" if num_own else "mean"
        found: dict[str, Any] = {
            "core.dim": dim,
            "core.depth": 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
            "core.mlp_dim": None if hidden == 4 * dim else hidden,
            "core.qk_norm": "attn.q_norm.weight" in block,
            "core.layer_scale": 1e-5 if "ls1.gamma" in block else None,
            "core.final_norm": "norm.weight" in tensors,
            "core.bias": [
                *(("q", "k", "v") if "attn.qkv.bias" in block else ()),
                *(("out",) if "attn.proj.bias" in block else ()),
                *(("mlp",) if "mlp.fc1.bias" in block else ()),
                *(("norm",) if "norm1.bias" in block else ()),
            ],
            "embed.image_size": grid_size * patch_size,
            "embed.channels": channels,
            "embed.stem": "patch",
            "embed.patch_size": patch_size,
            "embed.patch_bias": "patch_embed.proj.bias" in tensors,
            "embed.num_class_tokens": num_own,
            "embed.num_registers": num_registers,
            "embed.position": "learned",
            "embed.class_position": class_position,
            "embed.norm": "norm_pre.weight" in tensors,
            "head.pool": "map" if "attn_pool.latent" in tensors else pool,
            "head.norm": "fc_norm.weight" in tensors,
        }
        if reference is not None:
            mlp = reference.blocks[0].mlp
            kind = (type(mlp).__name__, type(mlp.act).__name__)
            if kind not in ACTIVATIONS or reference.global_pool not in POOLS:
                raise UserError(
                    f"timm's '{published.config['architecture']}' has {' with '.join(kind)} and pools by "
                    f"'{reference.global_pool}', which the core has not\nuse it by its own code"
                )
            found |= {
                "core.num_heads": reference.blocks[0].attn.num_heads,
                "core.norm_eps": reference.blocks[0].norm1.eps,
                "core.activation": ACTIVATIONS[kind],
                "head.pool": POOLS[reference.global_pool],
            }
        return found

    @staticmethod
    def table(spec: RunSpec) -> Table:
        embed, head, _ = rooms(spec)
        classes = ("cls_token", "dist_token")[: num_class_tokens(embed, head)]
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


TIMM_VIT = TimmVit()


def _reference(published: Published) -> Any:
    """timm's own model without its numbers, for what no tensor tells; None where nothing names it."""
    import timm
    import torch

    name = published.config.get("architecture")
    if name is None:
        return None
    if not timm.is_model(name):
        raise UserError(f"timm {timm.__version__} has no model '{name}', which config.json names\nupdate timm")
    with torch.device("meta"):
        return timm.create_model(name, **published.config.get("model_args", {}))
