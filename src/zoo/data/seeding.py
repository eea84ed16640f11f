"""Randomness as a function of names, never of time or of how many workers there are: exact resume is arithmetic."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*names: int | str) -> int:
    """64 bits from the names: independent for any two different tuples."""
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8).digest(), "little")


def item_rng(seed: int, epoch: int, item_id: str) -> np.random.Generator:
    """The generator of one item's augmentation in one epoch."""
    return np.random.Generator(np.random.PCG64(seed_of("item", seed, epoch, item_id)))


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Python's, NumPy's and torch's global generators seeded from `rng` inside and restored after.

    For libraries whose augmentations read the global state. Draws once from `rng`.
    """
    seed = int(rng.integers(2**32))
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
