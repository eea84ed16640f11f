"""ModernBERT: Warner et al. 2024, arXiv:2412.13663."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.weights import Row
from zoo_text.weights.encoder import Encoder, Pretrained, masked_rows


def modernbert_rows() -> tuple[Row, ...]:
    return (
        Row("embed.table", "model.embeddings.tok_embeddings"),
        Row("embed.norm", "model.embeddings.norm"),
        Row("core.blocks.{}.norm1", "model.layers.{}.attn_norm"),
        Row("core.blocks.{}.attention.qkv", "model.layers.{}.attn.Wqkv"),
        Row("core.blocks.{}.attention.out", "model.layers.{}.attn.Wo"),
        Row("core.blocks.{}.norm2", "model.layers.{}.mlp_norm"),
        Row("core.blocks.{}.mlp.fc1", "model.layers.{}.mlp.Wi"),
        Row("core.blocks.{}.mlp.fc2", "model.layers.{}.mlp.Wo"),
        Row("core.norm", "model.final_norm"),
        Row("head.pooler", "head.dense"),
        Row("head.norm", "head.norm"),
        Row("head.classifier", "classifier", predicts=True),
    )


def modernbert_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """Some blocks attend to all, the others to a window, each kind by its own
    base of rotary positions."""
    if any(config.get(key, "gelu") != "gelu" for key in ("hidden_activation", "classifier_activation")):
        raise UserError("the weights' activation is not gelu, which ModernBERT has\nname weights that have it")
    depth, every = config["num_hidden_layers"], config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or ["sliding_attention" if i % every else "full_attention" for i in range(depth)]
    ropes = config.get("rope_parameters") or {}
    if odd := {each.get("rope_type", "default") for each in ropes.values()} - {"default"}:
        raise UserError(
            f"the weights' rotary positions are scaled ({', '.join(sorted(odd))}), which the core's are not\n"
            "name weights without"
        )
    thetas = {
        kind: ropes.get(kind, {}).get("rope_theta") or config.get(key, default)
        for kind, key, default in (
            ("full_attention", "global_rope_theta", 160_000.0),
            ("sliding_attention", "local_rope_theta", 10_000.0),
        )
    }
    window = config.get("local_attention", 128)
    return {
        "core.dim": config["hidden_size"],
        "core.depth": depth,
        "core.num_heads": config["num_attention_heads"],
        "core.mlp_dim": config["intermediate_size"],
        "core.norm_eps": config.get("norm_eps", 1e-5),
        "core.first_norm": False,
        "core.activation": "geglu",
        "core.bias": [
            *(("q", "k", "v", "out") if config.get("attention_bias") else ()),
            *(("mlp",) if config.get("mlp_bias") else ()),
            *(("norm",) if config.get("norm_bias") else ()),
        ],
        "core.rotary_theta": [thetas[kind] for kind in kinds],
        "core.windows": [0 if kind == "full_attention" else window for kind in kinds],
        "embed.vocab_size": config["vocab_size"],
        "embed.max_tokens": config["max_position_embeddings"],
        "embed.position": "none",
        "embed.norm": True,
        "head.pool": config.get("classifier_pooling", "cls"),
        "head.pooler": "gelu",
        "head.pooler_bias": bool(config.get("classifier_bias")),
        "head.pooler_norm": True,
    }


MODERNBERT = Encoder("modernbert", "model.", modernbert_rows(), modernbert_shape)
MASKED_MODERNBERT = Pretrained(
    MODERNBERT,
    masked_rows("head.dense", "head.norm", "decoder.bias"),
    "decoder",
    act="classifier_activation",
    layer_bias=lambda config: bool(config.get("classifier_bias")),
)
