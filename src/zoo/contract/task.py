"""The task protocol: what every task does, and what some can do besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from zoo.contract.data import Batch, Dataset, Item, Splits
from zoo.contract.results import Measures, Record

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from matplotlib.axes import Axes
    from torch import Tensor

    from zoo.core.model import Model, Output
    from zoo.specs import RunSpec


class Task(Protocol):
    """A kind of work, such as image classification. Implement these members; nothing is inherited.

    `datasets` comes first and needs no instance: it tells what the data decides, from which the final spec is made.
    `build` needs nothing but that spec. The instance is then ``TaskClass(spec, info)``, with `info` from the data or
    from a checkpoint.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None: ...

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        """The splits of `spec.data`. What `info` has is followed, such as a trained model's class order; what it lacks
        is learnt from the training split.

        Raises:
            UserError: The data is missing, empty or does not fit `info`.
        """
        ...

    @staticmethod
    def build(spec: RunSpec) -> Model:
        """A new model: embed → core → head."""
        ...

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        """One item → arrays. `rng` comes from (seed, epoch, item id); None when evaluating: no augmentation."""
        ...

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch: ...

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """(sum, count): the trainer divides once over all micro-batches and processes of a step."""
        ...

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """One record an item, in order, on the CPU."""
        ...

    def measure(self, records: Sequence[Record]) -> Measures: ...

    def inputs(self, sources: Sequence[str]) -> Dataset:
        """What a user names on the command line: files, folders, or plain text where the task reads text.

        A source that is not there or cannot be read is an item like any other: `transform` raises a `UserError` for
        it, and the others are answered.
        """
        ...

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        """A prediction as a user reads it: flat JSON values, the same keys for every record."""
        ...


@dataclass(frozen=True, slots=True)
class Variant:
    """A task that is another's but for the model: what `TaskEntry.task` names where `TaskEntry.like` says of which.

    Args:
        translate: A spec as the other task reads it.
        build: A new model, as of `Task`.
        know: Of a spec and of what is known of its data, what else is known before the data is read.
    """

    translate: Callable[[RunSpec], RunSpec]
    build: Callable[[RunSpec], Model]
    know: Callable[[RunSpec, Mapping[str, Any]], Mapping[str, Any]] = lambda spec, info: {}


@runtime_checkable
class Drawable(Protocol):
    """A task that can show what a model attends to."""

    def draw(self, axes: Axes, item: Item, relevance: np.ndarray) -> None:
        """Draw the item with `relevance` (num_tokens,) laid over it, in the order of the embed's tokens."""
        ...


@runtime_checkable
class Elaborate(Protocol):
    """A task that has more to say of an input than a row of a table holds."""

    formats: Mapping[str, Callable[[Mapping[str, Any]], str]]
    """Makers of a file of one input, from its row and details, by suffix, such as ``.srt``."""

    def details(self, record: Record) -> Mapping[str, Any]:
        """JSON values, perhaps nested, such as when each word was said."""
        ...


@runtime_checkable
class Generating(Protocol):
    """A task that predicts step by step, each step after what the last gave, so that it calls the model's rooms."""

    def generate(self, model: Model, batch: Batch, output: Output | None) -> Sequence[Record]:
        """One record an item, in order, on the CPU; asked in place of `decode`, under `no_grad`.

        Args:
            output: The model's for the batch, as the loss has read it; None where no target is known.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Items in parts.

    Args:
        dataset: Of the parts, in the order of the items.
        whole: Of each part the position of its item.
    """

    dataset: Dataset
    whole: Sequence[int]


@runtime_checkable
class Splitting(Protocol):
    """A task that evaluates and predicts long items part by part, so that memory does not grow with their length."""

    def parts(self, dataset: Dataset) -> Parts: ...

    def join(self, item_id: str, records: Sequence[Record]) -> Record:
        """The record of an item from those of its parts, in order, of which there may be but one."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a dataset. `items` names every file or row concerned."""

    kind: str
    message: str
    items: Sequence[str] = ()
    severity: str = "error"


@runtime_checkable
class Checkable(Protocol):
    """A task that can look its data over for `zoo data check`."""

    @staticmethod
    def check(spec: RunSpec) -> Sequence[Finding]: ...

    @staticmethod
    def num_readable(place: Path) -> int:
        """How many files at a place are of a kind that the task reads: whose data it is, is asked of all tasks."""
        ...
