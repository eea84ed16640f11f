"""The language of weight maps: a table says which published tensor is which of ours, and is read in both directions.

    Row("core.blocks.{}.attention.out", "encoder.layer.{}.attention.output.dense")

A name stands for the tensor called so, or for all tensors within the module called so; ``{}`` is a block's number.
Several published names are stacked along the first axis: projections that our core has as one, or equal parts.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def _same(x: Tensor) -> Tensor:
    return x


def _transposed(x: Tensor) -> Tensor:
    return x.T if x.ndim == 2 else x


SAME = Form(_same, _same)
TRANSPOSED = Form(_transposed, _transposed)
"""A matrix by columns, as in GPT-2's layers; its bias is as it is."""
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
    """A tensor of ours and where it stands in a publication: each name with its length along the first axis."""

    name: str
    sources: Sequence[tuple[str, int]]
    row: Row | None

    @property
    def form(self) -> Form:
        return self.row.form if self.row else SAME


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
    """Put published tensors where they belong. A head may stay new; all else must be there, and have a place.

    Args:
        same_targets: They were trained for what the model predicts.

    Raises:
        UserError: A published tensor has no place, a place no tensor, or one another shape; all are named.
    """
    ours, tensors = model.state_dict(), table.named(tensors)
    found: dict[str, Tensor] = {}
    new: list[str] = []
    missing: list[str] = []
    misfits: list[str] = []
    used: set[str] = set()
    for place in _places(model, table):
        names = [name for name, _ in place.sources]
        used.update(names)
        found[place.name] = ours[place.name]
        lost = [name for name in names if name not in tensors]
        if (place.row and place.row.predicts and not same_targets) or (
            lost == names and place.name.startswith("head.")
        ):
            new.append(place.name)
        elif lost or not names:
            missing.append(f"{place.name} ({', '.join(lost) or 'in no row of the table'})")
        else:
            tensor = torch.cat([place.form.read(tensors[name]) for name in names])
            if tensor.shape != found[place.name].shape:
                wanted, given = list(found[place.name].shape), list(tensor.shape)
                misfits.append(f"{place.name} is {wanted}, {' + '.join(names)} gives {given}")
            found[place.name] = tensor
    strange = [name for name in tensors if name not in used and not table.ignores(name)]
    told = {"places without a weight": missing, "weights without a place": strange, "other shapes": misfits}
    if any(told.values()):
        lines = "".join(f"\n{what}: {listing(names, LISTED)}" for what, names in told.items() if names)
        raise UserError(f"the weights do not fit the model{lines}\nname weights of this model, or another model")
    return Placed(found, new)


def to_published(model: nn.Module, table: Table) -> dict[str, Tensor]:
    """The model's tensors by their published names: what `from_published` reads.

    Raises:
        UserError: The table has no row for a tensor.
    """
    ours = model.state_dict()
    found: dict[str, Tensor] = {}
    for place in _places(model, table):
        if not place.sources:
            raise UserError(f"'{place.name}' has no name among those published\nsave the model as a run")
        parts = ours[place.name].split([length for _, length in place.sources])
        for (name, _), part in zip(place.sources, parts, strict=True):
            found[name] = place.form.write(part).contiguous()
    return found


def _places(model: nn.Module, table: Table) -> Iterator[_Place]:
    """Of every tensor of the model; one for which there is no row has no sources."""
    for name, tensor in model.state_dict().items():
        row, names = next(((row, found) for row in table.rows if (found := row.find(name))), (None, []))
        if row is None or len(names) == 1:
            yield _Place(name, [(each, len(tensor)) for each in names], row)
            continue
        owner, _, kind = name.rpartition(".")
        fused = model.get_submodule(owner)
        if isinstance(fused, FusedLinear):
            parts = zip(names, fused.out_dims, fused.biased, strict=True)
            yield _Place(name, [(each, dim) for each, dim, has in parts if has or kind == "weight"], row)
        else:
            yield _Place(name, [(each, len(tensor) // len(names)) for each in names], row)
