"""What a model makes of a dataset: batches in, records out, for the evaluator, the predictor and validation alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo import device as devices
from zoo.contract import Batch, Dataset, Generating, Parts, Record, Splitting, Task
from zoo.core.model import Model
from zoo.data.loader import Skipped, evaluation_batches
from zoo.specs import RunSpec


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model made of items.

    Args:
        loss_sum: Of the items with targets; `loss_count` is what it is divided by.
        unreadable: In the dataset's order; an item that comes twice is there twice.
    """

    records: Sequence[Record]
    loss_sum: float
    loss_count: float
    unreadable: Sequence[Skipped]

    @classmethod
    def of(cls, parts: Iterable[Predictions]) -> Predictions:
        """Several as one."""
        parts = list(parts)
        return cls(
            [record for part in parts for record in part.records],
            sum(part.loss_sum for part in parts),
            sum(part.loss_count for part in parts),
            [each for part in parts for each in part.unreadable],
        )

    @property
    def loss(self) -> float:
        """Mean loss; not a number where no target is known."""
        return self.loss_sum / self.loss_count if self.loss_count else math.nan

    @property
    def skipped(self) -> dict[str, str]:
        """Items that could not be read, and why."""
        return dict(self.unreadable)


def predictions(model: Model, task: Task, dataset: Dataset, *, spec: RunSpec, device: torch.device) -> Predictions:
    """Every item's record, in the dataset's order, and the mean loss."""
    return Predictions.of(portions(model, task, dataset, spec=spec, device=device, on_error=spec.data.on_error))


def portions(
    model: Model, task: Task, dataset: Dataset, *, spec: RunSpec, device: torch.device, on_error: str
) -> Iterator[Predictions]:
    """The predictions of a dataset bit by bit, in order and without augmentation; items need no targets.

    Args:
        on_error: What an unreadable item does: `stop` or `skip`.
    """
    if isinstance(task, Splitting):
        parts = task.parts(dataset)
        pieces = _batches(model, task, parts.dataset, spec=spec, device=device, on_error=on_error)
        yield from _joined(task, dataset, parts, pieces)
    else:
        yield from _batches(model, task, dataset, spec=spec, device=device, on_error=on_error)


def _batches(
    model: Model, task: Task, dataset: Dataset, *, spec: RunSpec, device: torch.device, on_error: str
) -> Iterator[Predictions]:
    model.eval()
    batches = evaluation_batches(
        task,
        dataset,
        batch_size=spec.train.batch_size,
        batch_length=spec.train.batch_length,
        on_error=on_error,
        workers=spec.train.workers,
        pin=device.type == "cuda",
    )
    for batch, skipped in batches:
        if batch is None:
            yield Predictions((), 0.0, 0.0, skipped)
            continue
        with torch.no_grad(), devices.autocast(device, spec.train.precision):
            records, loss, count = _of_batch(model, task, batch.to(device))
        yield Predictions(records, float(loss), float(count), skipped)


def _of_batch(model: Model, task: Task, batch: Batch) -> tuple[Sequence[Record], Tensor | float, Tensor | float]:
    """Its records, and the sum and count of its loss."""
    generating = isinstance(task, Generating)
    if generating and batch.targets is None:
        return task.generate(model, batch, None), 0.0, 0.0
    output = model(batch.inputs)
    loss, count = (0.0, 0.0) if batch.targets is None else task.loss(output, batch)
    return task.generate(model, batch, output) if generating else task.decode(output, batch), loss, count


def _joined(task: Splitting, dataset: Dataset, parts: Parts, found: Iterable[Predictions]) -> Iterator[Predictions]:
    """The predictions of whole items from those of their parts, which come in order. One part that cannot be read
    spoils its item."""
    waiting: list[Record | Skipped] = []
    begin = 0
    for portion in found:
        records, unreadable = iter(portion.records), list(portion.unreadable)
        waiting += _in_order(parts, begin + len(waiting), records, unreadable)
        joined: list[Record] = []
        spoilt: list[Skipped] = []
        while waiting:
            whole = parts.whole[begin]
            count = _count(parts.whole, begin)
            if len(waiting) < count:
                break
            own, waiting = waiting[:count], waiting[count:]
            begin += count
            broken = next((each for each in own if isinstance(each, Skipped)), None)
            if broken is not None:
                spoilt.append(Skipped(dataset.ids[whole], broken.reason))
            else:
                joined.append(task.join(dataset.ids[whole], [each for each in own if isinstance(each, Record)]))
        yield Predictions(joined, portion.loss_sum, portion.loss_count, spoilt)


def _in_order(
    parts: Parts, begin: int, records: Iterator[Record], unreadable: Sequence[Skipped]
) -> Iterator[Record | Skipped]:
    """Records and what could not be read of some parts, in the parts' order."""
    left = list(unreadable)
    for index in range(begin, len(parts.whole)):
        if left and left[0].id == parts.dataset.ids[index]:
            yield left.pop(0)
        elif (record := next(records, None)) is not None:
            yield record
        else:
            return


def _count(whole: Sequence[int], begin: int) -> int:
    """How many parts the item has whose first part stands at `begin`."""
    end = begin
    while end < len(whole) and whole[end] == whole[begin]:
        end += 1
    return end - begin
