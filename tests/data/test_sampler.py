"""Order is a function of (seed, epoch), starting late is the same as having started early, and ragged items fit."""

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.sampler import SPREAD, Plan, cut

equal = st.builds(Plan, st.integers(1, 60), st.integers(1, 20), accumulate=st.integers(1, 4), seed=st.integers(0, 5))
ragged = st.lists(st.integers(1, 200), min_size=1, max_size=60).flatmap(
    lambda lengths: st.builds(
        Plan,
        st.just(len(lengths)),
        st.integers(1, 20),
        lengths=st.just(lengths),
        batch_length=st.none() | st.integers(1, 500),
        accumulate=st.integers(1, 4),
        seed=st.integers(0, 5),
    )
)
plans = equal | ragged


@given(plans, st.integers(0, 3))
def test_every_item_comes_once_an_epoch(plan: Plan, epoch: int) -> None:
    updates = plan.epoch(epoch)
    items = [item for update in updates for batch in update.micro_batches for item in batch]
    assert sorted(items) == list(range(plan.num_items))
    assert len(updates) == plan.updates_per_epoch
    assert all(len(update.micro_batches) <= plan.accumulate for update in updates)


@given(plans, st.integers(0, 40))
def test_a_late_start_gives_the_same_updates(plan: Plan, start: int) -> None:
    assert list(islice(plan.updates(start), 5)) == list(islice(plan.updates(), start, start + 5))


def test_epochs_and_seeds_differ() -> None:
    for lengths in (None, [1] * 100, list(range(1, 101))):
        plan = Plan(100, 10, lengths=lengths)
        assert plan.epoch(0) != plan.epoch(1)
        assert plan.epoch(0) != Plan(100, 10, lengths=lengths, seed=1).epoch(0)


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=60),
    st.integers(1, 20),
    st.floats(0.01, 500),
    st.integers(0, 3),
)
def test_no_batch_exceeds_its_budget_but_by_a_single_item(
    lengths: list[float], batch_size: int, batch_length: float, epoch: int
) -> None:
    plan = Plan(len(lengths), batch_size, lengths=lengths, batch_length=batch_length)
    for update in plan.epoch(epoch):
        (batch,) = update.micro_batches
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_length


def test_a_batch_holds_items_of_about_equal_length() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, 10_000).tolist()
    ratios = []
    for update in Plan(len(lengths), 16, lengths=lengths).epoch(0):
        held = [lengths[i] for i in update.micro_batches[0]]
        ratios.append(max(held) / min(held))
    assert np.mean(ratios) < SPREAD
    assert max(ratios) < SPREAD**3  # a batch across the border of two buckets


def test_batches_of_different_lengths_come_in_no_order() -> None:
    lengths = list(range(100))
    firsts = [lengths[update.micro_batches[0][0]] for update in Plan(100, 5, lengths=lengths).epoch(0)]
    assert firsts != sorted(firsts)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 10), st.none() | st.integers(1, 100))
def test_cutting_keeps_the_order_and_the_budget(lengths: list[int], batch_size: int, batch_length: int | None) -> None:
    starts = cut(lengths, len(lengths), batch_size, batch_length)
    assert starts == sorted(set(starts))
    for start, end in zip(starts, [*starts[1:], len(lengths)], strict=True):
        assert 0 < end - start <= batch_size
        assert batch_length is None or end - start == 1 or (end - start) * max(lengths[start:end]) <= batch_length
