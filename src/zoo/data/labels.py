"""Classification data, of any kind: its classes in the order that a model knows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo.contract import Dataset, Item, Source
from zoo.errors import UserError, listing


class Relabelled:
    """A dataset whose targets, a class index or several, follow a model's class order.

    Args:
        order: The model's index of each of the dataset's classes.
    """

    def __init__(self, dataset: Any, order: Sequence[int]) -> None:
        self.dataset, self.order = dataset, order
        self.ids, self.lengths = dataset.ids, dataset.lengths

    @property
    def targets(self) -> Sequence[Any]:
        return [self._target(target) for target in self.dataset.targets]

    def _target(self, target: Any) -> Any:
        if target is None:
            return None
        return self.order[target] if isinstance(target, int) else sorted(self.order[each] for each in target)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        item = self.dataset[index]
        return Item(item.id, item.inputs, self._target(item.target), item.columns)

    def fingerprint(self, index: int) -> str:
        return self.dataset.fingerprint(index)


def in_order(source: Source, wanted: Sequence[str], name: str) -> Source:
    """The source with targets in a model's class order. It may lack some of the classes, but has no others.

    Raises:
        UserError: It has others.
    """
    classes, wanted = list(source.info["classes"]), list(wanted)
    if classes == wanted:
        return source
    if strangers := [each for each in classes if each not in wanted]:
        raise UserError(
            f"'{name}' has classes that the model does not know: {', '.join(strangers)}\n"
            f"the data has: {', '.join(classes)}\nthe model knows: {', '.join(wanted)}\n"
            "rename the classes, or train a model on these"
        )
    order = [wanted.index(each) for each in classes]
    splits: Mapping[str, Dataset] = {key: Relabelled(each, order) for key, each in source.splits.items()}
    lacking = [each for each in wanted if each not in classes]
    notes = [f"classes of the model that the data lacks: {listing(lacking, 8)}"] if lacking else []
    return replace(source, splits=splits, info={**source.info, "classes": wanted}, notes=[*source.notes, *notes])


def require_trainable(source: Source, name: str) -> None:
    """
    Raises:
        UserError: There is a single class, or nothing to train on.
    """
    classes = source.info["classes"]
    if len(classes) < 2:
        raise UserError(f"'{name}' has a single class, '{classes[0]}': nothing to tell apart; add another")
    if "train" not in source.splits:
        raise UserError(f"'{name}' has {' and '.join(source.splits)}, but no train")
