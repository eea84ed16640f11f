"""The core's frame: a model is embed → core → head, three rooms that can be exchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core.pack import Layout
from zoo.core.transformer import Intermediates

ROOMS = ("embed", "core", "head")


class Stream(NamedTuple):
    """What an embed hands on: to the core tokens, `(b t d)` or `(n d)`, and where they lie; all as long is `DENSE`.

    Args:
        aside: what passes the core by: further keyword arguments of the head.
    """

    x: Float[Tensor, "*tokens d"]
    layout: Layout
    aside: Mapping[str, Any] = MappingProxyType({})


@dataclass
class Output:
    """What a model gives.

    Args:
        logits: the head's, whatever it predicts, in fp32 or wider; their axes are the task's.
        layout: where the core's tokens lie, for heads that speak of each token.
        intermediates: what happened inside the core, on request.
        further: what else the head gives, by name.
    """

    logits: Tensor
    layout: Layout
    intermediates: Intermediates | None = None
    further: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


class Model(nn.Module):
    """embed → core → head; each is a plain attribute, and can be assigned: `one.core = other.core`.

    Args:
        embed: `embed(**inputs)` gives a `Stream`.
        core: `core(x, layout)` gives tokens, and with `return_intermediates=True` also `Intermediates`.
        head: `head(x, layout, **aside)` gives logits, perhaps with further tensors by name: ``(logits, {...})``.

    Raises:
        ValueError: when two rooms state different widths in their `dim`.
    """

    embed: nn.Module
    core: nn.Module
    head: nn.Module

    def __init__(self, embed: nn.Module, core: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.core = core
        self.head = head

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ROOMS:
            widths = {room: getattr(self, room).dim for room in ROOMS if hasattr(getattr(self, room, None), "dim")}
            dim = getattr(value, "dim", None)
            for room, width in widths.items():
                if room != name and dim is not None and dim != width:
                    raise ValueError(
                        f"{name} has width {dim}, but {room} has {width}; rooms of one model share a width"
                    )
        super().__setattr__(name, value)

    def forward(self, inputs: Mapping[str, Any], *, return_intermediates: bool = False) -> Output:
        x, layout, aside = Stream(*self.embed(**inputs))
        intermediates = None
        if return_intermediates:
            x, intermediates = self.core(x, layout, return_intermediates=True)
        else:
            x = self.core(x, layout)
        given = self.head(x, layout, **aside)
        logits, further = given if isinstance(given, tuple) else (given, {})
        return Output(_wide(logits), layout, intermediates, {name: _wide(each) for name, each in further.items()})


def _wide(x: Tensor) -> Tensor:
    """Losses and probabilities are computed in fp32 at least, whatever the matrix products ran in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
