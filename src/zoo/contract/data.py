"""What is handed from the data to the model: items, datasets, splits, batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor, device


@dataclass(frozen=True, slots=True)
class Item:
    """One example as the source has it.

    Args:
        id: Stable and unique in its dataset; augmentation is a function of it.
        inputs: Anything the task's `transform` reads, such as a path or a picture.
        target: What is to be predicted; None when unknown.
        columns: Further facts, for slices and reports.
    """

    id: str
    inputs: Any
    target: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Dataset(Protocol):
    """Items by position. `ids` is known without reading an item; `lengths`, where items are ragged, too: in the unit of
    `train.batch_length`, such as tokens or seconds."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def lengths(self) -> Sequence[float] | None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Item: ...
    def fingerprint(self, index: int) -> str:
        """A hash of the content: equal items share it, whatever they are called. It decides the split."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset as it comes, before validation is taken out of train and duplicates are kept on one side.

    Args:
        splits: ``train`` and perhaps ``validation`` and ``test``, as the source has them.
        info: As in `Splits`, such as the class names.
        notes: What the reader should know.
        problems: What cannot be an item, by its id or place, and why, as far as that is known without reading items.
            `zoo.data.splits.split` stops at it or leaves it out, as `data.on_error` says.
    """

    splits: Mapping[str, Dataset]
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: Sequence[str] = ()
    problems: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a run.

    Args:
        info: JSON values that a trained model needs again, such as class names or a target's mean and deviation; stored
            in every checkpoint.
        settings: Spec values that the data decides, by dotted key, such as ``{"head.num_classes": 10}``.
        notes: What the reader should know, such as how many duplicates were dropped.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model and the loss read.

    Args:
        inputs: Keyword arguments of the model's embed: tensors, layouts, plain numbers.
        targets: What the loss compares with; None when unknown.
        ids: The items' ids, in order.
        num_tokens: Real tokens, and those with pads, were all items padded to the longest; where items are ragged.
        columns: Facts of each item that `decode` needs; they stay on the CPU.
    """

    inputs: Mapping[str, Any]
    targets: Any
    ids: tuple[str, ...]
    num_tokens: tuple[int, int] | None = None
    columns: Sequence[Mapping[str, Any]] = ()

    def to(self, where: device) -> Batch:
        return self._with_tensors(lambda tensor: tensor.to(where, non_blocking=True))

    def pin_memory(self) -> Batch:
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        def changed(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: changed(each) for key, each in cast("Mapping[str, Any]", value).items()}
            return change(value) if hasattr(value, "pin_memory") else value  # tensors and layouts

        return replace(self, inputs=changed(self.inputs), targets=changed(self.targets))
