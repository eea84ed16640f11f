"""GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.weights import TRANSPOSED, Row
from zoo.weights.configuration import activation
from zoo_text.weights.decoder import AS_DECODERS, OF_WRITERS, Decoder
from zoo_text.weights.encoder import ALL_BIASES, Encoder


def gpt2_rows() -> tuple[Row, ...]:
    layer = "transformer.h.{}"
    return (
        Row("embed.table", "transformer.wte"),
        Row("embed.position", "transformer.wpe"),
        Row("core.blocks.{}.norm1", f"{layer}.ln_1"),
        Row("core.blocks.{}.attention.qkv", f"{layer}.attn.c_attn", TRANSPOSED),
        Row("core.blocks.{}.attention.out", f"{layer}.attn.c_proj", TRANSPOSED),
        Row("core.blocks.{}.norm2", f"{layer}.ln_2"),
        Row("core.blocks.{}.mlp.fc1", f"{layer}.mlp.c_fc", TRANSPOSED),
        Row("core.blocks.{}.mlp.fc2", f"{layer}.mlp.c_proj", TRANSPOSED),
        Row("core.norm", "transformer.ln_f"),
        Row("head.classifier", "score", predicts=True),
    )


def gpt2_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise UserError("the weights scale attention layer by layer, which the core does not\nname weights without")
    if config.get("add_cross_attention"):
        raise UserError("the weights attend to a second sequence, which a text has not\nname weights without")
    dim, hidden = config["n_embd"], config.get("n_inner")
    return {
        **AS_DECODERS,
        "core.dim": dim,
        "core.depth": config["n_layer"],
        "core.num_heads": config["n_head"],
        "core.mlp_dim": None if hidden == 4 * dim else hidden,
        "core.norm": "layernorm",
        "core.norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "core.activation": activation({"activation_function": "gelu_new", **config}, "activation_function"),
        "core.bias": ALL_BIASES,
        "core.scale": None if config.get("scale_attn_weights", True) else 1.0,
        "core.rotary_theta": None,
        "core.windows": None,
        "embed.vocab_size": config["vocab_size"],
        "embed.max_tokens": config["n_positions"],
        "embed.position": "learned",
    }


GPT2 = Encoder("gpt2", "transformer.", gpt2_rows(), gpt2_shape, OF_WRITERS)
CAUSAL_GPT2 = Decoder(GPT2, tied=True)
