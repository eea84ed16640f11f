"""Llama and its kin: Mistral, Qwen2, Qwen3.

Touvron et al. 2023, arXiv:2302.13971; Jiang et al. 2023, arXiv:2310.06825; Yang et al. 2024, arXiv:2407.10671; Yang et
al. 2025, arXiv:2505.09388.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.weights import Row
from zoo_text.weights.decoder import AS_DECODERS, OF_WRITERS, Decoder
from zoo_text.weights.encoder import Encoder

GATED = {"silu": "swiglu", "gelu": "geglu"}
"""transformers' names of what a gate goes through, in the core's words."""


def llama_rows() -> tuple[Row, ...]:
    layer = "model.layers.{}"
    attention = tuple(f"{layer}.self_attn.{each}_proj" for each in "qkv")
    return (
        Row("embed.table", "model.embed_tokens"),
        Row("core.blocks.{}.norm1", f"{layer}.input_layernorm"),
        Row("core.blocks.{}.attention.qkv", attention),
        Row("core.blocks.{}.attention.q_norm", f"{layer}.self_attn.q_norm"),
        Row("core.blocks.{}.attention.k_norm", f"{layer}.self_attn.k_norm"),
        Row("core.blocks.{}.attention.out", f"{layer}.self_attn.o_proj"),
        Row("core.blocks.{}.norm2", f"{layer}.post_attention_layernorm"),
        Row("core.blocks.{}.mlp.fc1", (f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj")),
        Row("core.blocks.{}.mlp.fc2", f"{layer}.mlp.down_proj"),
        Row("core.norm", "model.norm"),
        Row("head.classifier", "score", predicts=True),
    )


def llama_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    dim, heads, hidden = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    groups, head_dim = config.get("num_key_value_heads") or heads, config.get("head_dim") or dim // heads
    named = config.get("hidden_act", "silu")
    if named not in GATED:
        raise UserError(
            f"the weights' hidden_act is '{named}', which the core's gate has not\nit has {', '.join(GATED)}"
        )
    return {
        **AS_DECODERS,
        "core.dim": dim,
        "core.depth": config["num_hidden_layers"],
        "core.num_heads": heads,
        "core.num_kv_heads": None if groups == heads else groups,
        "core.head_dim": None if head_dim * heads == dim else head_dim,
        "core.mlp_dim": None if hidden == 4 * dim else hidden,
        "core.norm": "rmsnorm",
        "core.norm_eps": config.get("rms_norm_eps", 1e-6),
        "core.activation": GATED[named],
        "core.bias": [
            *(("q", "k", "v", "out") if config.get("attention_bias") else ()),
            *(("mlp",) if config.get("mlp_bias") else ()),
        ],
        "core.rotary_theta": [rotary_theta(config)],
        "core.windows": None,
        "embed.vocab_size": config["vocab_size"],
        "embed.max_tokens": config["max_position_embeddings"],
        "embed.position": "none",
    }


def mistral_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    window = config.get("sliding_window")
    return {**llama_shape(config), "core.windows": None if window is None else [window]}


def qwen2_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**llama_shape(config), "core.bias": ["q", "k", "v"], "core.windows": _qwen_windows(config)}


def qwen3_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    shape = llama_shape({"head_dim": 128, **config})
    return {**shape, "core.qk_norm": True, "core.windows": _qwen_windows(config)}


def _qwen_windows(config: Mapping[str, Any]) -> list[int] | None:
    """The last layers' windows, where the configuration does not say each layer's kind."""
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    if window is None:
        return None
    depth, first = config["num_hidden_layers"], config.get("max_window_layers", 28)
    kinds = config.get("layer_types") or ["sliding_attention" if i >= first else "full_attention" for i in range(depth)]
    return [window if kind == "sliding_attention" else 0 for kind in kinds]


def rotary_theta(config: Mapping[str, Any]) -> float:
    """The base of the rotary positions, from an older configuration or a newer one.

    Raises:
        UserError: They are scaled, or turn a part of each head, as the core's do not.
    """
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise UserError(
            f"the weights' rotary positions are scaled ({kind}), which the core's are not\nname weights without"
        )
    share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share != 1 or any(isinstance(each, Mapping) for each in rope.values()):
        raise UserError(
            "the weights' rotary positions are of a part of each head, or other ones in other layers, which the core's "
            "are not\nname weights without"
        )
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)


LLAMA = Encoder("llama", "model.", llama_rows(), llama_shape, OF_WRITERS)
MISTRAL = Encoder("mistral", "model.", llama_rows(), mistral_shape, OF_WRITERS)
QWEN2 = Encoder("qwen2", "model.", llama_rows(), qwen2_shape, OF_WRITERS)
QWEN3 = Encoder("qwen3", "model.", llama_rows(), qwen3_shape, OF_WRITERS)
CAUSAL_LLAMA = Decoder(LLAMA, tied=False)
CAUSAL_MISTRAL = Decoder(MISTRAL, tied=False)
CAUSAL_QWEN2 = Decoder(QWEN2, tied=False)
CAUSAL_QWEN3 = Decoder(QWEN3, tied=False)
