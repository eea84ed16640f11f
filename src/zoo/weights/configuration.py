"""What a `config.json` of transformers says of an encoder, in the core's words, and what CLIP's kin call its blocks.

A publication says only where it differs from transformers' defaults, so that a family has to know those too. CLIP
(Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343) are two encoders each, of which
the configuration has a part for either.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from zoo.errors import UserError
from zoo.weights.files import Published
from zoo.weights.table import Row

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}
"""transformers' names of activations, in the core's words."""
BIASES = ("q", "k", "v", "out", "mlp", "norm")
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
T = TypeVar("T")


def read_settings(published: Published, config: Mapping[str, Any], shape: Callable[[Mapping[str, Any]], T]) -> T:
    """What `shape` makes of a configuration.

    Raises:
        UserError: The core cannot be so, or the configuration says too little, or nonsense.
    """
    try:
        return shape(config)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"has a wrong value: {error}"
        raise UserError(f"the config.json of '{published.place}' {what}\ncopy or download it anew") from error


def require_whole(config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """
    Raises:
        ValueError: One of these is no whole number above 0.
    """
    for key in keys:
        if type(config[key]) is not int or config[key] < 1:
            raise ValueError(f"{key} {config[key]!r} is no whole number above 0")


def refuse_no_count(published: Published, key: str) -> None:
    """
    Raises:
        UserError: The configuration has no whole number there.
    """
    if type(value := published.config.get(key)) is not int or value < 1:
        raise UserError(
            f"the config.json of '{published.place}' has {key} {value!r}, which is no whole number above 0\n"
            "copy or download it anew"
        )


def activation(config: Mapping[str, Any], key: str) -> str:
    """
    Raises:
        UserError: The core has no such activation.
    """
    if config[key] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(f"the weights' {key} is '{config[key]}', which the core has not\nit has {known}")
    return ACTIVATIONS[config[key]]


def core_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of an encoder that norms before each branch, and at the end."""
    require_whole(config, SIZES)
    dim, hidden = config["hidden_size"], config["intermediate_size"]
    return {
        "core.dim": dim,
        "core.depth": config["num_hidden_layers"],
        "core.num_heads": config["num_attention_heads"],
        "core.mlp_dim": None if hidden == 4 * dim else hidden,
        "core.norm": "layernorm",
        "core.norm_eps": config["layer_norm_eps"],
        "core.norm_position": "pre",
        "core.final_norm": True,
        "core.activation": activation(config, "hidden_act"),
        "core.bias": [each for each in BIASES if each not in "qkv" or config.get("qkv_bias", True)],
        "core.layer_scale": None,
        "core.causal": False,
    }


def of_tower(published: Published, part: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of one encoder of two.

    Args:
        part: Where it stands, such as ``text_config``; old publications have it again, as ``text_config_dict``.

    Raises:
        UserError: There stands something else.
    """
    own, again = published.config.get(part) or {}, published.config.get(f"{part}_dict")
    if not isinstance(own, dict) or not isinstance(again, dict | None):
        raise UserError(f"the config.json of '{published.place}' has a {part} that is none\ncopy or download it anew")
    return {**defaults, **own} if again is None else {**own, **defaults, **again}


def tower_rows(tower: str) -> tuple[Row, ...]:
    """The blocks of CLIP's and SigLIP's encoders.

    Args:
        tower: Before their names.
    """
    layer = f"{tower}.encoder.layers.{{}}"
    return (
        Row("core.blocks.{}.norm1", f"{layer}.layer_norm1"),
        Row("core.blocks.{}.attention.qkv", tuple(f"{layer}.self_attn.{each}_proj" for each in "qkv")),
        Row("core.blocks.{}.attention.out", f"{layer}.self_attn.out_proj"),
        Row("core.blocks.{}.norm2", f"{layer}.layer_norm2"),
        Row("core.blocks.{}.mlp", f"{layer}.mlp"),
    )
