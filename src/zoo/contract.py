"""What a plugin promises and what it is handed: the task protocol, the values that walk through it, the manifest.

Torch-free: tensors appear in annotations only. The walk is

    registry → manifest → Task.datasets → transform → collate → Model → loss | decode → measure → report
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor, device

    from zoo.core.model import Model, Output
    from zoo.specs import RunSpec

API_VERSION = 1
hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


# ---------------------------------------------------------------- data


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


# ---------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Record:
    """What a model said of one item. Every figure of a report is computed from records.

    Args:
        prediction: As the task defines it: a class index, a string, a sequence of tags.
        target: Of the same kind; None when unknown.
        scores: Probabilities or the like, (num_classes,), where there are any.
    """

    id: str
    prediction: Any
    target: Any = None
    scores: np.ndarray | None = None
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


Statistic = Callable[["np.ndarray"], float]
"""Weights of the records (n,) → value. All ones give the figure; bootstrap counts give its interval."""

Drawing = Callable[["Figure"], None]
"""Draws on an empty figure."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Measures:
    """What is computed from the records of one split.

    Args:
        primary: The statistic that picks the best checkpoint.
        higher_is_better: Of the primary one; false for an error.
        statistics: By name; closures over the records.
        figures: Drawings by file stem.
        duration_seconds: How long the items last together, where they are of time: sound, films.
    """

    primary: str
    statistics: Mapping[str, Statistic]
    higher_is_better: bool = True
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])
    figures: Mapping[str, Drawing] = field(default_factory=dict[str, Drawing])
    duration_seconds: float | None = None


# ---------------------------------------------------------------- the task


class Task(Protocol):
    """A kind of work, such as image classification. Implement these members; nothing is inherited.

    `datasets` comes first and needs no instance: it tells what the data decides, from which the final spec is made.
    `build` needs nothing but that spec. The instance is then ``TaskClass(spec, info)``, with `info` from the data or
    from a checkpoint.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None: ...

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        """The splits of `spec.data`. With `info`, from a trained model, targets follow it, such as its class order.

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


# ---------------------------------------------------------------- the manifest


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task by name. Heavy code is named, ``"package.module:Name"``, and imported when it is used.

    Args:
        task: The class that implements `Task`.
        embed: Spec class of a model's `embed`, in a torch-free module; likewise `head` and `augment`, and `decode`: how
            scores become predictions, which `zoo eval` and `zoo predict` may set anew.
        cost: ``(RunSpec) -> zoo.cost.Cost``, in a torch-free module; without it `zoo show` says there is no formula.
        data: Settings of `DataSpec` that the task reads, beyond those that hold for every task; others are refused.
    """

    name: str
    task: str
    embed: str | None = None
    head: str | None = None
    augment: str | None = None
    decode: str | None = None
    cost: str | None = None
    data: Sequence[str] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a plugin brings. Its models stand in the `registry.yaml` of its package.

    Args:
        datasets: Loader of each dataset its catalogue names, ``"package.module:function"``: (DataSpec) → Source.
    """

    api_version: int
    tasks: Sequence[TaskEntry] = ()
    datasets: Mapping[str, str] = field(default_factory=dict[str, str])


class Tracker(Protocol):
    """Where metrics go besides `metrics.jsonl`."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Hooks:
    """The hooks a plugin may implement, each marked with `zoo.hookimpl`."""

    @hookspec
    def zoo_manifest(self) -> Manifest:
        """What the plugin brings."""
        raise NotImplementedError

    @hookspec
    def zoo_tracker(self, spec: RunSpec, folder: Path) -> Tracker | None:
        """A tracker for this run if `spec.train.trackers` asks for it, else None."""
        raise NotImplementedError
