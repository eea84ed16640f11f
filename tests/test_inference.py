"""Items in parts: whole records in order, however the parts fell into batches and whichever could not be read."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from zoo.contract import Batch, Item, Parts, Record
from zoo.data.loader import Skipped
from zoo.inference import Predictions, _joined, _of_batch


class Names:
    def __init__(self, ids: Sequence[str]) -> None:
        self.ids, self.lengths = ids, None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        return Item(self.ids[index], None)

    def fingerprint(self, index: int) -> str:
        return self.ids[index]


class Adding:
    """A task whose items are sums over their parts."""

    def parts(self, dataset: Names) -> Parts:
        raise NotImplementedError

    def join(self, item_id: str, records: Sequence[Record]) -> Record:
        return Record(item_id, [record.prediction for record in records])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_parts_become_items_again(counts: list[int], data: st.DataObject) -> None:
    # The second half of the items are the first once more: one may ask for a file twice.
    names = [f"item {i % max(1, len(counts) // 2)}" for i in range(len(counts))]
    whole = [i for i, count in enumerate(counts) for _ in range(count)]
    places = [(i, k) for i, count in enumerate(counts) for k in range(count)]
    parts = Names([f"{names[i]} part {k}" for i, k in places])
    broken = data.draw(st.sets(st.sampled_from(parts.ids)))
    cuts = sorted({0, len(whole), *data.draw(st.sets(st.integers(0, len(whole))))})

    def portions() -> Iterator[Predictions]:
        for begin, end in pairwise(cuts):
            own = range(begin, end)
            yield Predictions(
                [Record(parts.ids[i], places[i]) for i in own if parts.ids[i] not in broken],
                1.0,
                2.0,
                [Skipped(parts.ids[i], f"why {parts.ids[i]}") for i in own if parts.ids[i] in broken],
            )

    found = list(_joined(Adding(), Names(names), Parts(parts, whole), portions()))
    records = [record for each in found for record in each.records]
    skipped = [skip for each in found for skip in each.unreadable]
    spoilt = {i for i, k in places if f"{names[i]} part {k}" in broken}
    assert [record.prediction for record in records] == [
        [(i, k) for k in range(count)] for i, count in enumerate(counts) if i not in spoilt
    ]
    assert [skip.id for skip in skipped] == [names[i] for i in sorted(spoilt)]
    assert all(skip.reason.startswith(f"why {skip.id} part") for skip in skipped)
    assert Predictions.of(found).loss == 0.5


class Counting:
    """A task that says what it was asked."""

    def loss(self, output: str, batch: Batch) -> tuple[int, int]:
        return 6, 2

    def decode(self, output: str, batch: Batch) -> list[Record]:
        return [Record("decoded", output)]


class Stepping(Counting):
    def generate(self, model: object, batch: Batch, output: str | None) -> list[Record]:
        return [Record("generated", output)]


def test_who_predicts_step_by_step_is_asked_in_place_of_decode() -> None:
    def model(inputs: object) -> str:
        return "output"

    known, unknown = Batch({}, "targets", ("a",)), Batch({}, None, ("a",))
    assert _of_batch(model, Counting(), known) == ([Record("decoded", "output")], 6, 2)
    assert _of_batch(model, Counting(), unknown) == ([Record("decoded", "output")], 0, 0)
    assert _of_batch(model, Stepping(), known) == ([Record("generated", "output")], 6, 2)
    assert _of_batch(model, Stepping(), unknown) == ([Record("generated", None)], 0, 0)
