"""Low-rank adapters: a trained weight W stays as it is, and W + (alpha / rank) · B A is learnt by B and A alone.

Hu et al. 2021, arXiv:2106.09685. B begins at zero, so that an adapted model begins as what it adapts. The sum is made
once a forward pass, of the weight and not of each token: merging it is exact, and so is taking it out again.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zoo.core.attention import Attention
from zoo.core.layers import MLP, FusedLinear

TARGETS = ("q", "k", "v", "out", "fc1", "fc2")
"""Projections that can be adapted, each apart: of attention, its output, and the layers of the MLP."""


class LowRank(nn.Module):
    """What is added to a weight, by projection: a parametrisation of it.

    Args:
        in_dim: width of the input.
        widths: rows of each projection that the weight holds.
        adapted: which of them are.
        rank: of what is added to each.
        alpha: what is added is multiplied by alpha / rank.
    """

    def __init__(self, in_dim: int, widths: Sequence[int], adapted: Sequence[bool], *, rank: int, alpha: float) -> None:
        super().__init__()
        self.widths, self.scale = tuple(widths), alpha / rank
        places = [i for i, is_adapted in enumerate(adapted) if is_adapted]
        self.down = nn.ParameterDict({str(i): torch.empty(rank, in_dim) for i in places})
        self.up = nn.ParameterDict({str(i): torch.zeros(widths[i], rank) for i in places})
        for each in self.down.values():
            nn.init.kaiming_uniform_(each, a=math.sqrt(5))  # as PEFT does

    def forward(self, weight: Float[Tensor, "out in_dim"]) -> Float[Tensor, "out in_dim"]:
        parts = list(weight.split(self.widths))
        for place in self.down:
            parts[int(place)] = parts[int(place)] + self.scale * (self.up[place] @ self.down[place])
        return torch.cat(parts)

    def extra_repr(self) -> str:
        return f"widths={self.widths}, scale={self.scale:g}"


class _Site(NamedTuple):
    """A module with a weight, and the target that each projection in it is."""

    module: nn.Module
    targets: Sequence[str]


def add_lora(core: nn.Module, *, rank: int, alpha: float, targets: Collection[str] = ("q", "v")) -> None:
    """Adapt every block of a core, whose own parameters are frozen.

    Args:
        targets: some of `TARGETS`.

    Raises:
        ValueError: a target is unknown, the core has none of them, or the rank is above their width.
    """
    if unknown := set(targets) - set(TARGETS):
        raise ValueError(f"unknown targets {', '.join(sorted(unknown))}; choose some of {', '.join(TARGETS)}")
    core.requires_grad_(False)
    adapted = 0
    for module, names in list(_sites(core)):
        chosen = [name in targets for name in names]
        if any(chosen):
            weight: Tensor = module.get_parameter("weight")
            widths = module.out_dims if isinstance(module, FusedLinear) else [len(weight)]
            narrowest = min(
                weight.shape[1], *(width for width, is_chosen in zip(widths, chosen, strict=True) if is_chosen)
            )
            if rank > narrowest:
                raise ValueError(f"rank {rank} is above {narrowest}, the width of {'/'.join(names)}; lower it")
            low_rank = LowRank(weight.shape[1], widths, chosen, rank=rank, alpha=alpha).to(weight)
            parametrize.register_parametrization(module, "weight", low_rank)
            module.get_parameter("parametrizations.weight.original").requires_grad_(False)
            adapted += 1
    if not adapted:
        raise ValueError(f"the core has none of {', '.join(targets)}; it must be made of zoo.core's attention and MLP")


def adapters_of(core: nn.Module) -> dict[str, LowRank]:
    """By the name of the module whose weight each adapts."""
    return {
        name: cast("LowRank", module.get_submodule("parametrizations.weight.0"))
        for name, module in core.named_modules()
        if parametrize.is_parametrized(module, "weight")
    }


def merge_lora(core: nn.Module) -> None:
    """Make what was learnt a part of the weights, which are plain again, and trained again."""
    _plain(core, lambda module: cast("Tensor", module.weight))


def drop_lora(core: nn.Module) -> None:
    """Take what was learnt out again: the weights are those that were adapted."""
    _plain(core, lambda module: module.get_parameter("parametrizations.weight.original"))


def _plain(core: nn.Module, weight_of: Callable[[nn.Module], Tensor]) -> None:
    """Give each adapted module a weight of its own again. PyTorch's own way changes the class, which copies share."""
    for module in list(core.modules()):
        if parametrize.is_parametrized(module, "weight"):
            weight = weight_of(module).detach().clone()
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            module.weight = nn.Parameter(weight)
    core.requires_grad_(True)


def _sites(core: nn.Module) -> Iterator[_Site]:
    for module in core.modules():
        if isinstance(module, Attention):
            if module.is_cross:
                yield _Site(module.q, ["q"])
                yield _Site(module.kv, ["k", "v"])
            else:
                yield _Site(module.qkv, ["q", "k", "v"])
            yield _Site(module.out, ["out"])
        elif isinstance(module, MLP):
            yield _Site(module.fc1, ["fc1"])
            yield _Site(module.fc2, ["fc2"])
