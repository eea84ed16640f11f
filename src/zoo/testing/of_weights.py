"""How far a model of ours is from the one whose weights it has: outputs and gradients, as a share of the largest value.

In float64 a difference above 1e-9 is a mistake; in float32 rounding alone makes up to 1e-5.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.core import Model
from zoo.weights import Table, to_published

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}


class Parity(NamedTuple):
    """What `parity` found.

    Args:
        tensors: Published tensors that were compared.
        gradient_difference: None where gradients were not compared.
        worst: The one whose gradients differ most.
    """

    tensors: int
    output_difference: float
    gradient_difference: float | None
    worst: str


def parity(
    model: Model,
    table: Table,
    inputs: Mapping[str, Any],
    reference: nn.Module,
    expected: Callable[[], Tensor],
    *,
    without_gradient: Sequence[str] = (),
) -> Parity:
    """Compare a model with its peer, forward and backward.

    Args:
        expected: What the peer makes of `inputs`; called once.
        without_gradient: Regular expressions of published tensors whose gradient is zero but for rounding, such as a
            key's bias, which a softmax cancels; theirs is compared as a share of the largest gradient of all.
    """
    theirs, ours = expected(), model(inputs).logits
    weight = torch.randn_like(theirs)
    (theirs * weight).sum().backward()
    (ours * weight).sum().backward()
    wanted = {name: each.grad for name, each in reference.named_parameters() if each.grad is not None}
    counted = dict(reference.named_buffers())  # such as a batch norm's statistics, which have no gradient
    found = {name: gradient for name, gradient in _gradients(model, table).items() if name not in counted}
    assert found.keys() == wanted.keys(), f"not in both: {sorted(found.keys() ^ wanted.keys())}"
    largest = max(float(each.abs().max()) for each in wanted.values())
    differences = {
        name: _difference(
            found[name],
            gradient,
            largest if any(re.fullmatch(pattern, name) for pattern in without_gradient) else None,
        )
        for name, gradient in wanted.items()
    }
    assert all(map(math.isfinite, differences.values())), "a gradient is not a finite number"
    worst = max(differences, key=differences.__getitem__)
    return Parity(len(wanted), _difference(ours, theirs), differences[worst], worst)


def record(keep: Callable[[str, object], None], family: str, reference: str, dtype: torch.dtype, found: Parity) -> None:
    """Keep what was found with a test's result, for ``python -m benchmarks.parity``.

    Args:
        keep: pytest's `record_property`.
        reference: The peer, with its version.
    """
    facts = {"family": family, "reference": reference, "dtype": str(dtype).removeprefix("torch."), **found._asdict()}
    for key, value in facts.items():
        if value is not None:
            keep(key, value)


def check_there_and_back(model: Model, table: Table, tensors: Mapping[str, Tensor]) -> None:
    """A model with these published tensors gives them back, by the same names and unchanged."""
    found = to_published(model, table)
    assert found.keys() == tensors.keys(), f"not in both: {sorted(found.keys() ^ tensors.keys())}"
    changed = [name for name, tensor in tensors.items() if not torch.equal(found[name], tensor)]
    assert not changed, f"changed on the way: {changed}"


def randomise(reference: nn.Module) -> None:
    """Other numbers than a new model's zeros and ones, and yet none that make rounding grow: norms stay near one."""
    for name, parameter in reference.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            nn.init.normal_(parameter, mean=1.0, std=0.1)
        else:
            nn.init.normal_(parameter, std=0.1)


def _difference(ours: Tensor, theirs: Tensor, scale: float | None = None) -> float:
    assert ours.shape == theirs.shape, f"{list(ours.shape)} is held against {list(theirs.shape)}"
    apart = float((ours - theirs).detach().abs().max())
    largest = float(theirs.detach().abs().max()) if scale is None else scale
    return 0.0 if apart == 0 else apart / largest if largest else math.inf


def _gradients(model: Model, table: Table) -> dict[str, Tensor]:
    """Of each parameter, by the published names; what is published and fixed has none."""
    shell, learnt = deepcopy(model), dict(model.named_parameters())
    fixed = {name: each for name, each in model.state_dict().items() if name not in learnt}
    nothing = {name: torch.full_like(each, math.nan) for name, each in fixed.items() if each.is_floating_point()}
    gradients = {name: parameter.grad for name, parameter in learnt.items()}
    shell.load_state_dict({**fixed, **nothing, **gradients})
    found = to_published(shell, table)
    return {name: each for name, each in found.items() if not (nothing and each.isnan().all())}
