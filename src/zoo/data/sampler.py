"""Which items make up each update: a function of (seed, epoch) alone.

Ragged items are bucketed by length, so that those of a batch are about as long as each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zoo.data.seeding import seed_of

SPREAD = 1.1
"""Times as long as a bucket's shortest item its longest may be."""


@dataclass(frozen=True, slots=True)
class Update:
    """The micro-batches of one update of the weights: positions in the dataset."""

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]


class Plan:
    """The order of a run's data. Every item comes once an epoch; nothing is dropped, and a batch may be smaller.

    An epoch's order is a permutation. Where items have lengths, it is then sorted by buckets of about equal length, cut
    into batches and those are permuted: how many there are and how long each may be is the same in every epoch.

    Args:
        num_items: In the training split.
        batch_size: Items in a micro-batch, at most.
        lengths: Of each item, in the task's unit; None where all are alike.
        batch_length: Of a micro-batch: items times the longest, at most. A longer item is a batch of its own.
        accumulate: Micro-batches in an update; an epoch's last update may have fewer.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        *,
        lengths: Sequence[float] | None = None,
        batch_length: float | None = None,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        assert num_items > 0
        self.num_items, self.accumulate, self.seed = num_items, accumulate, seed
        self.buckets = None if lengths is None else _buckets(np.asarray(lengths, dtype=float))
        self.starts = cut(None if self.buckets is None else np.sort(self.buckets), num_items, batch_size, batch_length)

    @property
    def updates_per_epoch(self) -> int:
        return -(-len(self.starts) // self.accumulate)

    def epoch_of(self, update: int) -> int:
        """The epoch that an update, counted from 0, belongs to."""
        return max(update, 0) // self.updates_per_epoch

    def epoch(self, epoch: int) -> list[Update]:
        rng = np.random.Generator(np.random.PCG64(seed_of("order", self.seed, epoch)))
        order = rng.permutation(self.num_items)
        if self.buckets is not None:
            order = order[np.argsort(self.buckets[order], kind="stable")]
        batches = [tuple(order[i:j].tolist()) for i, j in pairwise([*self.starts, self.num_items])]
        if self.buckets is not None:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return [Update(epoch, tuple(batches[i : i + self.accumulate])) for i in range(0, len(batches), self.accumulate)]

    def updates(self, start: int = 0) -> Iterator[Update]:
        """Without end, from the update numbered `start`."""
        epoch, skip = divmod(start, self.updates_per_epoch)
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0


def cut(
    lengths: Sequence[float] | np.ndarray | None, num_items: int, batch_size: int, batch_length: float | None
) -> list[int]:
    """Where each batch of items begins that are taken as they come.

    Args:
        lengths: As in `Plan`, and so are the others; without them `batch_length` has no say.
    """
    if lengths is None or batch_length is None:
        return list(range(0, num_items, batch_size))
    starts: list[int] = []
    begun, longest = 0, 0.0
    for position, length in enumerate(lengths):
        longest = max(longest, length)
        count = position - begun + 1
        if not starts or count > batch_size or count * longest > batch_length:
            starts.append(position)
            begun, longest = position, length
    return starts


def _buckets(lengths: np.ndarray) -> np.ndarray:
    """The length of the longest item in each item's bucket."""
    ascending = np.unique(lengths)
    longest = np.empty_like(ascending)
    begin = 0
    while begin < len(ascending):
        end = int(np.searchsorted(ascending, SPREAD * ascending[begin], side="right"))
        longest[begin:end] = ascending[end - 1]
        begin = end
    return longest[np.searchsorted(ascending, lengths)]
