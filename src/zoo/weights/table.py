"""The language of weight maps: a table says which published tensor is which of ours, and is read in both directions.

    Row("core.blocks.{}.attention.out", "encoder.layer.{}.attention.output.dense")

A name stands for the tensor called so, or for all tensors within the module called so; ``{}`` is a block's number.
Several published names are stacked along the first axis: projections that our core has as one, or equal parts.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.core.layers import FusedLinear
from zoo.errors import UserError, listing

LISTED = 12
"""Names in a message."""


class Form(NamedTuple):
    """How a published tensor lies otherwise than ours; the two undo each other."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


SAME = Form(lambda x: x, lambda x: x)
LEADING = Form(lambda x: x[0], lambda x: x[None])
"""An axis of length 1 before ours."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        ours, theirs: Names; several of theirs are stacked into ours.
        predicts: It gives a number for each target, such as a class: of use for the same targets only.
    """

    ours: str
    theirs: str | tuple[str, ...]
    form: Form = SAME
    predicts: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.ours).replace(r"\{\}", r"(\d+)") + r"(\..+)?")

    def find(self, name: str) -> list[str] | None:
        """The published names of a tensor of ours; None where this row is of others."""
        found = self.pattern.fullmatch(name)
        if found is None:
            return None
        *number, rest = found.groups()
        names = (self.theirs,) if isinstance(self.theirs, str) else self.theirs
        return [each.format(*number) + (rest or "") for each in names]


@dataclass(frozen=True)
class Table:
    """A family's map.

    Args:
        rows: Of the first that fits a tensor.
        ignored: Regular expressions of published tensors that hold nothing learnt, or the same as another.
        prefix: Before the names of all but the head; a publication without a head may lack it.
        older: Ends of names as older publications have them, and how the rows have them.
    """

    rows: Sequence[Row]
    ignored: Sequence[str] = ()
    prefix: str = ""
    older: Mapping[str, str] = field(default_factory=dict[str, str])

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors, called as the rows call them."""
        bare = self.prefix and not any(name.startswith(self.prefix) for name in tensors)
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            for old, new in self.older.items():
                name = name.removesuffix(old) + new if name.endswith(old) else name
            found[f"{self.prefix}{name}" if bare else name] = tensor
        return found

    def ignores(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


class _Place(NamedTuple):
    """A tensor of ours and what is published of it.

    Args:
        published: By name its tensor, or each of those that are stacked into it; none where no row fits.
    """

    name: str
    row: Row | None
    published: Mapping[str, Tensor]


class Placed(NamedTuple):
    """Published tensors by our names, ready for `load_state_dict`.

    Args:
        new: What keeps the numbers that it has: a head that was not published, or one of other targets.
    """

    tensors: Mapping[str, Tensor]
    new: Sequence[str]


def from_published(
    model: nn.Module, tensors: Mapping[str, Tensor], table: Table, *, same_targets: bool = True
) -> Placed:
    """Put published tensors where they belong. Modules of the head may stay new; all else must be there, and have a
    place.

    Args:
        same_targets: They were trained for what the model predicts. The caller knows: nothing in them says it.

    Raises:
        UserError: A published tensor has no place, a place no tensor, or one is not as the place needs it; all are
            named.
    """
    tensors, places = table.named(tensors), list(_places(model, table))
    owners = {name.rpartition(".")[0] for place in places for name in place.published if name in tensors}
    found: dict[str, Tensor] = {}
    new: list[str] = []
    missing: list[str] = []
    misfits: list[str] = []
    for name, row, published in places:
        lost = [each for each in published if each not in tensors]
        if row is None or (lost and not _may_be_new(name, published, owners)):
            missing.append(f"{name} ({', '.join(lost) or 'in no row of the table'})")
        elif lost or (row.predicts and not same_targets):
            new.append(name)
            found[name] = model.state_dict()[name]
        elif wrong := [_misfit(each, tensors[each], wanted) for each, wanted in published.items()]:
            misfits += filter(None, wrong)
            if not any(wrong):
                parts = [row.form.read(tensors[each]) for each in published]
                found[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    placed = {each for place in places for each in place.published}
    strange = [each for each in tensors if each not in placed and not table.ignores(each)]
    told = {"places without a weight": missing, "weights without a place": strange, "not as needed": misfits}
    if any(told.values()):
        lines = "".join(f"\n{what}: {listing(names, LISTED)}" for what, names in told.items() if names)
        raise UserError(f"the weights do not fit the model{lines}\nname weights of this model, or another model")
    return Placed(found, new)


def _may_be_new(name: str, published: Mapping[str, Tensor], owners: Collection[str]) -> bool:
    """Whether a tensor is of a module of the head of which nothing was published."""
    return name.startswith("head.") and not any(each.rpartition(".")[0] in owners for each in published)


def _misfit(name: str, given: Tensor, wanted: Tensor) -> str | None:
    """What is wrong with a published tensor; None where it fits."""
    if given.shape != wanted.shape:
        return f"{name} is {list(given.shape)}, not {list(wanted.shape)}"
    if not given.is_floating_point() or given.layout != torch.strided or given.is_meta:
        kind = str(given.dtype).removeprefix("torch.")
        return f"{name} is {kind}, not dense floating point"
    return None


def to_published(model: nn.Module, table: Table) -> dict[str, Tensor]:
    """The model's tensors by their published names: what `from_published` reads.

    Raises:
        UserError: The table has no row for a tensor.
    """
    found: dict[str, Tensor] = {}
    for name, row, published in _places(model, table):
        if row is None:
            raise UserError(f"'{name}' has no name among those published\nsave the model as a run")
        found |= {each: tensor.contiguous() for each, tensor in published.items()}
    return found


def _places(model: nn.Module, table: Table) -> Iterator[_Place]:
    """Every tensor of the model, in the first row that fits it."""
    for name, tensor in model.state_dict().items():
        row, names = next(((row, found) for row in table.rows if (found := row.find(name))), (None, []))
        if row is None:
            yield _Place(name, None, {})
            continue
        owner, _, kind = name.rpartition(".")
        module = model.get_submodule(owner)
        widths = [len(tensor) // len(names)] * len(names)
        if len(names) > 1 and isinstance(module, FusedLinear):
            kept = [kind == "weight" or has for has in module.biased]
            names = [each for each, has in zip(names, kept, strict=True) if has]
            widths = [dim for dim, has in zip(module.out_dims, kept, strict=True) if has]
        parts = tensor.split(widths) if len(names) > 1 else [tensor]
        yield _Place(name, row, {each: row.form.write(part) for each, part in zip(names, parts, strict=True)})
