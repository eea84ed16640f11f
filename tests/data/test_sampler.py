"""Order is a function of (seed, epoch), and starting late is the same as having started early."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from zoo.data.sampler import Plan

plans = st.builds(Plan, st.integers(1, 60), st.integers(1, 20), accumulate=st.integers(1, 4), seed=st.integers(0, 5))


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
    plan = Plan(100, 10)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != Plan(100, 10, seed=1).epoch(0)
