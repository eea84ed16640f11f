"""What can be wrong with any dataset, seen from its items' fingerprints and labels alone."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from zoo.contract import Dataset, Finding, Source
from zoo.data.splits import Labelled, fingerprints
from zoo.errors import counted

TINY = 10
"""Fewer items of a class may leave none for validation or test."""
IMBALANCE = 10
"""Times as many items as the smallest class has."""


class Member(NamedTuple):
    split: str
    id: str
    label: Any


ORDER = ("error", "warning", "note")


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """What is worst first."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))


def check(
    source: Source, unreadable: Collection[str] = (), as_label: Callable[[Any], Any] = lambda target: target
) -> list[Finding]:
    """What cannot be an item, duplicates, leaks, tiny and unequal classes.

    Args:
        unreadable: Ids of items known to be broken, which are left out: broken files are alike.
        as_label: A target as it is compared with others.
    """
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, why in source.problems.items():
        reasons[why].append(name)
    found = [Finding("unusable", why, names) for why, names in reasons.items()]
    groups: dict[str, list[Member]] = defaultdict(list)
    sizes: dict[str, Counter[Any]] = {}
    names = source.info.get("classes")  # targets are classes only where the source names them
    for split, dataset in source.splits.items():
        targets = _labels(dataset)
        labels = [_named(each, names) if names else as_label(each) for each in targets]
        if names:
            several = (each if isinstance(each, list) else [each] for each in targets)
            sizes[split] = Counter(_named(each, names) for these in several for each in these)
        for item_id, label, content in zip(dataset.ids, labels, fingerprints(dataset), strict=True):
            if item_id not in unreadable:
                groups[content].append(Member(split, item_id, label))
    copies = [members for members in groups.values() if len(members) > 1]
    return [*found, *_contradictions(copies), *_leaks(copies), *_duplicates(copies), *_classes(sizes)]


def _named(target: Any, names: Sequence[str]) -> Any:
    """The class's name, or the names of several; None where the target is unknown."""
    if isinstance(target, list):
        indices: list[int] = target
        return " and ".join(names[each] for each in indices)
    return None if target is None else names[target]


def _labels(dataset: Dataset) -> Sequence[Any]:
    if isinstance(dataset, Labelled):
        return dataset.targets
    return [dataset[i].target for i in range(len(dataset))]


def _contradictions(copies: Sequence[Sequence[Member]]) -> Iterator[Finding]:
    for members in copies:
        labels = sorted({str(each.label) for each in members})
        if len(labels) > 1:
            message = f"the same content with {len(labels)} labels ({', '.join(labels)}): one at least is wrong"
            yield Finding("mislabelled", message, [each.id for each in members])


def _leaks(copies: Sequence[Sequence[Member]]) -> Iterator[Finding]:
    leaked: dict[str, list[str]] = defaultdict(list)
    for members in copies:
        splits = {each.split for each in members}
        if len(splits) > 1:
            leaked[" and ".join(sorted(splits))] += [each.id for each in members]
    for splits, items in sorted(leaked.items()):
        message = (
            f"{counted(len(items), 'item')} equal across {splits}; training drops these from the split that learns"
        )
        yield Finding("leak", message, items, "warning")


def _duplicates(copies: Sequence[Sequence[Member]]) -> Iterator[Finding]:
    again: list[str] = []
    for members in copies:
        seen: set[tuple[str, str]] = set()
        for each in members:
            place = (each.split, str(each.label))
            if place in seen:
                again.append(each.id)
            seen.add(place)
    if again:
        yield Finding(
            "duplicate", f"{counted(len(again), 'item')} equal to an earlier one of the class", again, "warning"
        )


def _classes(sizes: dict[str, Counter[Any]]) -> Iterator[Finding]:
    for split, counts in sizes.items():
        known = {str(label): count for label, count in counts.items() if label is not None}
        if len(known) == 1:
            yield Finding("single class", f"{split}: every item is of class '{next(iter(known))}'")
        if tiny := {label: count for label, count in known.items() if count < TINY}:
            listed = ", ".join(f"{label} ({count})" for label, count in sorted(tiny.items()))
            yield Finding("tiny class", f"{split}: fewer than {TINY} items in {listed}", severity="warning")
        if known and max(known.values()) >= IMBALANCE * min(known.values()):
            (most, many), (least, few) = (pick(known.items(), key=lambda pair: pair[1]) for pick in (max, min))
            message = f"{split}: '{most}' has {many} items and '{least}' {few}; accuracy will say little of the latter"
            yield Finding("imbalance", message, severity="warning")
