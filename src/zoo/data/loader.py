"""From positions in a dataset to batches, in this process or in workers, the same either way."""

import itertools
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from zoo.contract import Batch, Dataset, Task
from zoo.data.sampler import Update, cut
from zoo.data.seeding import item_rng
from zoo.errors import UserError


class Key(NamedTuple):
    """Which item, and in which epoch; None when evaluating."""

    epoch: int | None
    position: int


class Skipped(NamedTuple):
    """An item that could not be read."""

    id: str
    reason: str


class Loaded(NamedTuple):
    """A batch of what could be read, None when nothing could."""

    batch: Batch | None
    skipped: Sequence[Skipped]


class _Samples(TorchDataset[tuple[str, Any]]):
    """A dataset's items, transformed, by (epoch, position)."""

    def __init__(self, task: Task, dataset: Dataset, seed: int) -> None:
        self.task, self.dataset, self.seed = task, dataset, seed

    def __getitem__(self, key: Key) -> tuple[str, Mapping[str, Any] | Skipped]:
        epoch, position = key
        item_id = self.dataset.ids[position]
        try:
            rng = None if epoch is None else item_rng(self.seed, epoch, item_id)
            return item_id, self.task.transform(self.dataset[position], rng)
        except (TypeError, AttributeError, NameError, LookupError, AssertionError):
            raise  # a fault of the code, not of the item
        except Exception as error:
            # What a file may hold is not ours to foresee. Told by value: a worker's exception would lose its type.
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return item_id, Skipped(item_id, reason)


def _collate(task: Task, samples: Sequence[tuple[str, Any]]) -> Loaded:
    skipped = [sample for _, sample in samples if isinstance(sample, Skipped)]
    good = [(item_id, sample) for item_id, sample in samples if not isinstance(sample, Skipped)]
    if not good:
        return Loaded(None, skipped)
    return Loaded(task.collate([sample for _, sample in good], [item_id for item_id, _ in good]), skipped)


def _quiet_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the main process decides when the workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _load(
    task: Task, dataset: Dataset, keys: Iterable[Sequence[Key]], *, seed: int, on_error: str, workers: int, pin: bool
) -> Iterator[Loaded]:
    loader: DataLoader[Any] = DataLoader(
        _Samples(task, dataset, seed),
        batch_sampler=keys,  # pyright: ignore[reportArgumentType]  # any iterable of lists serves
        collate_fn=partial(_collate, task),
        num_workers=workers,
        worker_init_fn=_quiet_worker,
        pin_memory=pin,
        # The loader would draw its workers' seed from the global generator; nothing here may depend on that.
        generator=torch.Generator().manual_seed(seed),
    )
    for loaded in loader:
        if loaded.skipped and on_error == "stop":
            item_id, reason = loaded.skipped[0]
            named = f"/{item_id}'" in reason or f"'{item_id}'" in reason  # a file is, by its path
            what = reason if named else f"cannot read item '{item_id}': {reason}"
            raise UserError(
                f"{what}\n"
                "mend or remove it ('zoo data check' looks all items over), or pass --set data.on_error=skip to go on "
                "without such"
            )
        yield loaded


def training_batches(
    task: Task, dataset: Dataset, updates: Iterator[Update], *, seed: int, on_error: str, workers: int, pin: bool
) -> Iterator[tuple[Update, list[Loaded]]]:
    """Each update with its loaded micro-batches."""
    ahead, here = itertools.tee(updates)
    keys = ([Key(update.epoch, i) for i in batch] for update in ahead for batch in update.micro_batches)
    loaded = _load(task, dataset, keys, seed=seed, on_error=on_error, workers=workers, pin=pin)
    for update in here:
        yield update, [next(loaded) for _ in update.micro_batches]


def evaluation_batches(
    task: Task,
    dataset: Dataset,
    *,
    batch_size: int,
    batch_length: float | None = None,
    on_error: str,
    workers: int,
    pin: bool,
) -> Iterator[Loaded]:
    """The whole dataset once, in order, without augmentation."""
    starts = cut(dataset.lengths, len(dataset), batch_size, batch_length)
    keys = [[Key(None, i) for i in range(start, end)] for start, end in itertools.pairwise([*starts, len(dataset)])]
    return _load(task, dataset, keys, seed=0, on_error=on_error, workers=workers, pin=pin)
