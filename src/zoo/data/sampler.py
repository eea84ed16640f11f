"""Which items make up each update: a function of (seed, epoch) alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zoo.data.seeding import seed_of


@dataclass(frozen=True, slots=True)
class Update:
    """The micro-batches of one update of the weights: positions in the dataset."""

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]


class Plan:
    """The order of a run's data. Every item comes once an epoch; the last batch of an epoch may be smaller.

    Args:
        num_items: In the training split.
        batch_size: Items in a micro-batch.
        accumulate: Micro-batches in an update; an epoch's last update may have fewer.
    """

    def __init__(self, num_items: int, batch_size: int, *, accumulate: int = 1, seed: int = 0) -> None:
        assert num_items > 0
        self.num_items, self.batch_size, self.accumulate, self.seed = num_items, batch_size, accumulate, seed

    @property
    def updates_per_epoch(self) -> int:
        return -(-self.num_items // (self.batch_size * self.accumulate))

    def epoch_of(self, update: int) -> int:
        """The epoch that an update, counted from 0, belongs to."""
        return max(update, 0) // self.updates_per_epoch

    def epoch(self, epoch: int) -> list[Update]:
        order = np.random.Generator(np.random.PCG64(seed_of("order", self.seed, epoch))).permutation(self.num_items)
        batches = [tuple(order[i : i + self.batch_size].tolist()) for i in range(0, self.num_items, self.batch_size)]
        return [Update(epoch, tuple(batches[i : i + self.accumulate])) for i in range(0, len(batches), self.accumulate)]

    def updates(self, start: int = 0) -> Iterator[Update]:
        """Without end, from the update numbered `start`."""
        epoch, skip = divmod(start, self.updates_per_epoch)
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0
