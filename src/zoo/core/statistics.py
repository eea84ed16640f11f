"""Running statistics, which other libraries' networks keep: frozen ones stay, and a batch of one has none."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def rest_frozen(network: nn.Module) -> None:
    """Put to rest, as in evaluation, whatever keeps running statistics and is not trained."""
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and _keeps(module) and not any(each.requires_grad for each in own):
            module.eval()


@contextmanager
def resting(network: nn.Module, *, when: bool = True) -> Iterator[None]:
    """Normalise by the statistics so far, as in evaluation, and leave them as they are.

    Args:
        when: Such as for a batch of one item, which has no spread.
    """
    awake = [each for each in network.modules() if each.training and _keeps(each)] if when else []
    for each in awake:
        each.eval()
    try:
        yield
    finally:
        for each in awake:
            each.train()


def _keeps(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_mean", None), Tensor)
