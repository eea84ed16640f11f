"""Which items train, which choose the best checkpoint and which test: fixed by what each item holds.

The rule. Every item has a fingerprint, a hash of its content. Its *draw* for a split is a number from 0 to 1, made of
the split's name and the fingerprint (64 bits of BLAKE2b). Where the source has no test split, the items whose draw for
``test`` is below `test_fraction` are it. Where it has no validation split, those of what is left whose draw for
``validation`` is below `validation_fraction` are it. Among very few items no split is left empty: the smallest
draw is taken when none is below, and train keeps one. So neither order nor file names matter, equal items fall on one
side, and, but among very few, adding items moves no others.

An official split stays as it is but for what would leak: an item of train that is equal to one of validation or test,
and one of validation that is equal to one of test, is dropped and counted.

Of `train_items` those with the smallest draw for ``train`` are used, so that fewer are a part of more.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from zoo.contract import Dataset, Item, Source
from zoo.errors import UserError, counted
from zoo.specs import DataSpec

LISTED = 20


@runtime_checkable
class Labelled(Protocol):
    """A dataset that knows its targets without reading its items. Optional: it lets `split` count classes."""

    @property
    def targets(self) -> Sequence[Any]: ...


class Subset:
    """Some of a dataset's items, by position."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.ids: Sequence[str] = [dataset.ids[i] for i in self.indices]
        lengths = dataset.lengths
        self.lengths: Sequence[float] | None = None if lengths is None else [lengths[i] for i in self.indices]

    @property
    def targets(self) -> Sequence[Any]:
        if not isinstance(self.dataset, Labelled):
            raise AttributeError("the dataset does not know its targets without reading its items")
        targets = self.dataset.targets
        return [targets[i] for i in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        return self.dataset[self.indices[index]]

    def fingerprint(self, index: int) -> str:
        return self.dataset.fingerprint(self.indices[index])


def draw(fingerprint: str, split: str) -> float:
    """An item's draw for a split, uniform from 0 to 1."""
    digest = hashlib.blake2b(f"{split}\0{fingerprint}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split(source: Source, data: DataSpec) -> tuple[Subset, Subset, Subset, list[str]]:
    """Train, validation, test, and what the reader should know of them.

    A source without a train split, as one only to be evaluated on may be, gives empty splits where it has none.

    Raises:
        UserError: Too few different items for three splits; or something cannot be an item, and that stops.
    """
    left_out = _problems(source, data)
    given = source.splits
    prints = {name: fingerprints(dataset) for name, dataset in given.items()}
    members: dict[str, list[int]] = {name: list(range(len(dataset))) for name, dataset in given.items()}
    notes = [*source.notes, *left_out]
    taken_from: dict[str, str] = {name: name for name in given}
    if "train" in given:
        fractions = {"test": data.test_fraction, "validation": data.validation_fraction}
        missing = {name: fraction for name, fraction in fractions.items() if name not in given}
        _require(data.name, missing, len(set(prints["train"])))
        for left, (name, fraction) in zip(range(len(missing), 0, -1), missing.items(), strict=True):
            members[name], members["train"] = _take(members["train"], prints["train"], name, fraction, leave=left)
            taken_from[name] = "train"
            notes.append(f"{name}: {counted(len(members[name]), 'item')} taken out of train by the hash of each")
    contents = {name: [prints[taken_from[name]][i] for i in indices] for name, indices in members.items()}
    for name, others in (("validation", ("test",)), ("train", ("test", "validation"))):
        for other in others:
            if name in contents and other in contents:
                notes += _drop(name, other, members, contents)
    if data.train_items is not None and "train" in members:
        notes += _limit(data.train_items, members, contents)

    def subset(name: str) -> Subset:
        if name in members:
            return Subset(given[taken_from[name]], members[name])
        return Subset(next(iter(given.values())), [])

    train, validation, test = subset("train"), subset("validation"), subset("test")
    if "train" in given:
        if not len(train):
            raise UserError(
                f"nothing of '{data.name}' is left to train on: every item is also one of test or validation"
            )
        notes += _vanished(given["train"], train, source.info)
    return train, validation, test, notes


def _problems(source: Source, data: DataSpec) -> list[str]:
    """What is left out, as a note."""
    if not source.problems:
        return []
    pairs = list(source.problems.items())
    if data.on_error == "stop":
        listed = "".join(f"\n  {name}: {why}" for name, why in pairs[:LISTED])
        more = f"\n  and {len(pairs) - LISTED} more ('zoo data check' names all)" if len(pairs) > LISTED else ""
        raise UserError(
            f"{counted(len(pairs), 'item')} of '{data.name}' cannot be used:{listed}{more}\n"
            "mend or remove them, or pass --set data.on_error=skip to go on without them"
        )
    listed = "; ".join(f"{name} ({why})" for name, why in pairs[:LISTED])
    more = f"; {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
    return [f"left out: {counted(len(pairs), 'item')} that cannot be used: {listed}{more}"]


def fingerprints(dataset: Dataset) -> list[str]:
    """Of every item, in order."""
    return [dataset.fingerprint(i) for i in range(len(dataset))]


def _require(name: str, missing: Mapping[str, float], num_different: int) -> None:
    for part, fraction in missing.items():
        if fraction == 0:
            raise UserError(f"'{name}' has no {part} split of its own and data.{part}_fraction is 0; set it above 0")
    if num_different <= len(missing):
        raise UserError(
            f"'{name}' has {num_different} different items to train on; with {' and '.join(missing)} taken out of them "
            f"it needs at least {len(missing) + 1}; add items"
        )


def _take(
    indices: list[int], prints: Sequence[str], name: str, fraction: float, *, leave: int
) -> tuple[list[int], list[int]]:
    """(taken, left); at least one different item is taken and `leave` are left, for splits still to come."""
    draws = {prints[i]: draw(prints[i], name) for i in indices}
    below = sorted(draws, key=lambda each: draws[each])
    count = sum(value < fraction for value in draws.values())
    chosen = set(below[: min(max(count, 1), len(below) - leave)])
    return [i for i in indices if prints[i] in chosen], [i for i in indices if prints[i] not in chosen]


def _drop(name: str, other: str, members: dict[str, list[int]], contents: dict[str, list[str]]) -> list[str]:
    """Drop from one split what is equal to an item of another."""
    held = set(contents[other])
    kept = [position for position, content in enumerate(contents[name]) if content not in held]
    dropped = len(members[name]) - len(kept)
    members[name] = [members[name][position] for position in kept]
    contents[name] = [contents[name][position] for position in kept]
    return [f"{name}: {counted(dropped, 'item')} dropped, each equal to one of {other}"] if dropped else []


def _limit(count: int, members: dict[str, list[int]], contents: dict[str, list[str]]) -> list[str]:
    """Keep so many items of train, in their order."""
    found = contents["train"]
    kept = sorted(sorted(range(len(found)), key=lambda position: draw(found[position], "train"))[:count])
    members["train"] = [members["train"][position] for position in kept]
    contents["train"] = [found[position] for position in kept]
    return [f"train: {len(kept):,} of {counted(len(found), 'item')} used, by the hash of each"]


def _vanished(before: Dataset, train: Subset, info: Mapping[str, Any]) -> list[str]:
    """A note where classes have items to train on, but none left after splitting.

    Targets are classes where the source names them: those of a regression may each occur once.
    """
    names = info.get("classes")
    if names is None or not isinstance(before, Labelled) or not isinstance(train, Labelled):
        return []
    if not all(isinstance(each, int) for each in before.targets):
        return []
    gone = [str(names[each]) for each in sorted(set(before.targets) - set(train.targets))]
    listed = ", ".join(f"'{name}'" for name in gone[:LISTED]) + (" ..." if len(gone) > LISTED else "")
    return [f"train: no items left after splitting of class {listed}"] if gone else []
