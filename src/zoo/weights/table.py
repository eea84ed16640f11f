"""The language of weight maps: a table says which published tensor is which of ours, and is read in both directions.

    Row("core.blocks.{}.attention.out", "encoder.layer.{}.attention.output.dense")

A name stands for the tensor called so, or for all tensors within the module called so; ``{}`` is a block's number.
Several published names are stacked along the first axis: projections that our core has as one, or equal parts.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

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
TRANSPOSED = Form(lambda x: x.t(), lambda x: x.t())
"""A matrix whose rows are ours' columns, as those of GPT-2's `Conv1D`; what has one axis stays."""


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

    def names(self, published: str) -> bool:
        """Whether a published tensor is this row's."""
        theirs = (self.theirs,) if isinstance(self.theirs, str) else self.theirs
        patterns = (re.escape(each).replace(r"\{\}", r"\d+") for each in theirs)
        return any(re.fullmatch(rf"{pattern}(\..+)?", published) for pattern in patterns)

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
        parts: Published tensors that hold several, one after another along the first axis, and how the rows call each.
        tied: What the library's model has as a parameter again, and of which published tensor; no file holds it.
        adapt: What is made of all tensors before the rows read them, by the library that they are of.
    """

    rows: Sequence[Row]
    ignored: Sequence[str] = ()
    prefix: str = ""
    older: Mapping[str, str] = field(default_factory=dict[str, str])
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    tied: Mapping[str, str] = field(default_factory=dict[str, str])
    adapt: Callable[[nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors, called as the rows call them.

        Raises:
            UserError: What holds several is there, and so is one of these.
        """
        bare = self.prefix and not any(name.startswith(self.prefix) for name in tensors)
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            for old, new in self.older.items():
                name = name.removesuffix(old) + new if name.endswith(old) else name
            found[f"{self.prefix}{name}" if bare else name] = tensor
        for whole, names in self.parts.items():
            if twice := [name for name in names if whole in found and name in found]:
                raise UserError(
                    f"the weights have '{whole}' and {listing(twice, 4)}, which are the same\n"
                    "leave out what was not trained"
                )
            if whole in found and found[whole].ndim:
                found |= zip(names, found.pop(whole).tensor_split(len(names)), strict=True)
        return found

    def published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that are called as the rows call them, as they are published."""
        found = dict(tensors)
        for whole, names in self.parts.items():
            if found.keys() >= set(names):
                found[whole] = torch.cat([found.pop(name) for name in names])
        return found

    def as_written(self, name: str, tensors: Collection[str]) -> str:
        """What `named` calls so, by the name that it has, or would have, in a publication of these tensors."""
        bare = bool(self.prefix) and not any(each.startswith(self.prefix) for each in tensors)
        wanted = name.removeprefix(self.prefix) if bare else name
        older = [wanted.removesuffix(new) + old for old, new in self.older.items() if wanted.endswith(new)]
        return next((each for each in (wanted, *older) if each in tensors), wanted)

    def place_of(self, name: str, tensors: Collection[str]) -> str:
        """`as_written`, and before it what holds it together with others, where something does."""
        whole = next((whole for whole, parts in self.parts.items() if name in parts and whole in tensors), None)
        return f"{whole}: {name}" if whole else self.as_written(name, tensors)

    def ignores(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


@runtime_checkable
class Resizable(Protocol):
    """A module that can take tensors of another size, such as positions learned for larger pictures."""

    def resize(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor `name` of this module, made of one of another size; as it is where there is no way."""
        ...


class Place(NamedTuple):
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
        replaced: Of these, what was published, for other targets.
        left_out: Published tensors of a head that the model has not.
    """

    tensors: Mapping[str, Tensor]
    new: Sequence[str]
    replaced: Sequence[str]
    left_out: Sequence[str]


def from_published(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    table: Table,
    *,
    same_targets: bool = True,
    order: Sequence[int] | None = None,
    source: str = "",
) -> Placed:
    """Put published tensors where they belong. Modules of the head may stay new, or be left out; all else must be
    there, and have a place.

    Args:
        same_targets: They were trained for what the model predicts. The caller knows: nothing in them says it.
        order: Which of their targets each of the model's is, where they stand otherwise.
        source: Where they are from, for messages.

    Raises:
        UserError: A published tensor has no place, a place no tensor, or one is not as the place needs it; all are
            named.
    """
    tensors = written = tensors if table.adapt is None else table.adapt(model, tensors)
    tensors, places = table.named(tensors), list(places_of(model, table))
    tensors |= _resized(model, places, tensors)
    owners = {name.rpartition(".")[0] for place in places for name in place.published if name in tensors}
    turned = {name for name, row, _ in places if row and row.predicts and order and _is_a_row_each(model, name, order)}
    same_targets = same_targets and (order is None or bool(turned))
    found: dict[str, Tensor] = {}
    new: list[str] = []
    replaced: list[str] = []
    missing: list[str] = []
    misfits: list[str] = []
    for name, row, published in places:
        lost = [each for each in published if each not in tensors]
        if (row is None or lost) and not _may_be_new(name, published, owners):
            wanted = ", ".join(table.as_written(each, written) for each in lost)
            missing.append(f"{name} ({wanted or 'in no row of the table'})")
        elif row is None or lost or (row.predicts and not same_targets):
            new.append(name)
            replaced += [name] if row and not lost else []
            found[name] = model.state_dict()[name]
        elif wrong := {each: why for each, wanted in published.items() if (why := _misfit(tensors[each], wanted))}:
            misfits += [f"{table.place_of(each, written)} {why}" for each, why in wrong.items()]
        else:
            parts = [row.form.read(tensors[each]) for each in published]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            found[name] = whole[list(order)] if order and name in turned else whole
    placed = {each for place in places for each in place.published}
    homeless = [each for each in tensors if each not in placed and not table.ignores(each)]
    left_out = [each for each in homeless if any(row.names(each) for row in table.rows if row.ours.startswith("head"))]
    strange = [table.as_written(each, written) for each in homeless if each not in left_out]
    told = {"places without a weight": missing, "weights without a place": strange, "not as needed": misfits}
    if any(told.values()):
        lines = "".join(f"\n{what}: {listing(names, LISTED)}" for what, names in told.items() if names)
        which = f" '{source}'" if source else ""
        raise UserError(f"the weights{which} do not fit the model{lines}\nname weights of this model, or another model")
    return Placed(found, new, replaced, left_out)


def _resized(model: nn.Module, places: Sequence[Place], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors of another size than their places, where the module knows how to take them."""
    found: dict[str, Tensor] = {}
    for name, row, published in places:
        owner, _, kind = name.rpartition(".")
        module = model.get_submodule(owner)
        if row is None or len(published) != 1 or not isinstance(module, Resizable):
            continue
        ((each, wanted),) = published.items()
        given = tensors.get(each)
        if (
            given is not None
            and given.ndim == wanted.ndim
            and given.shape != wanted.shape
            and given.is_floating_point()
        ):
            found[each] = row.form.write(module.resize(kind, row.form.read(given)))
    return found


def _is_a_row_each(model: nn.Module, name: str, targets: Sequence[int]) -> bool:
    """Whether a tensor is of a layer that gives a number for each target; a head has norms of its features too."""
    layer = model.get_submodule(name.rpartition(".")[0])
    return getattr(layer, "out_features", getattr(layer, "out_channels", None)) == len(targets)


def _may_be_new(name: str, published: Mapping[str, Tensor], owners: Collection[str]) -> bool:
    """Whether a tensor is of a module of the head of which nothing was published."""
    return name.startswith("head.") and not any(each.rpartition(".")[0] in owners for each in published)


def _misfit(given: Tensor, wanted: Tensor) -> str | None:
    """What is wrong with a published tensor; None where it fits."""
    if given.shape != wanted.shape:
        return f"is {list(given.shape)}, not {list(wanted.shape)}"
    counts = not wanted.is_floating_point() and given.dtype == wanted.dtype  # such as how many batches were seen
    if not (given.is_floating_point() or counts) or given.layout != torch.strided or given.is_meta:
        kind = str(given.dtype).removeprefix("torch.")
        return f"is {kind}, not dense floating point"
    if not given.isfinite().all():
        return "holds numbers that are not finite"
    return None


def to_published(model: nn.Module, table: Table) -> dict[str, Tensor]:
    """The model's tensors by their published names: what `from_published` reads.

    Raises:
        UserError: The table has no row for a tensor.
    """
    found: dict[str, Tensor] = {}
    for name, row, published in places_of(model, table):
        if row is None:
            raise UserError(f"'{name}' has no name among those published\nsave the model as a run")
        found |= {each: tensor.contiguous() for each, tensor in published.items()}
    return table.published(found)


def places_of(model: nn.Module, table: Table) -> Iterator[Place]:
    """Every tensor of the model, in the first row that fits it."""
    for name, tensor in model.state_dict().items():
        row, names = next(((row, found) for row in table.rows if (found := row.find(name))), (None, []))
        if row is None:
            yield Place(name, None, {})
            continue
        owner, _, kind = name.rpartition(".")
        module = model.get_submodule(owner)
        widths = [len(tensor) // len(names)] * len(names) if len(names) > 1 else []
        if len(names) > 1 and isinstance(module, FusedLinear):
            kept = [kind == "weight" or has for has in module.biased]
            names = [each for each, has in zip(names, kept, strict=True) if has]
            widths = [dim for dim, has in zip(module.out_dims, kept, strict=True) if has]
        parts = tensor.split(widths) if len(names) > 1 else [tensor]
        yield Place(name, row, {each: row.form.write(part) for each, part in zip(names, parts, strict=True)})
