"""Draws depend on names alone, and leave the global generators as they were."""

import random

import numpy as np
import torch

from zoo.data.seeding import item_rng, seed_of, seeded


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_names_alone_decide() -> None:
    assert seed_of("a", 1) == seed_of("a", 1)
    assert len({seed_of("a", 1), seed_of("a", "1"), seed_of("a1"), seed_of(1, "a")}) == 4
    assert item_rng(0, 3, "x").random() == item_rng(0, 3, "x").random()
    assert item_rng(0, 3, "x").random() != item_rng(0, 4, "x").random()


def test_global_generators_are_seeded_inside_and_restored() -> None:
    with seeded(item_rng(0, 0, "x")):
        inside = draws()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with seeded(item_rng(0, 0, "x")):
        assert draws() == inside
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
