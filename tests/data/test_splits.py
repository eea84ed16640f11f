"""Splits: fixed by content, the same whatever the order and the names; equal items on one side."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.contract import Item, Source
from zoo.data.splits import Subset, draw, split
from zoo.errors import UserError
from zoo.specs import DataSpec

DATA = DataSpec(name="letters")


class Letters:
    """Items that are their own content."""

    lengths: Sequence[int] | None = None

    def __init__(self, contents: Sequence[str], targets: Sequence[int] | None = None) -> None:
        self.contents = list(contents)
        self.targets = list(targets or [0] * len(self.contents))
        self.ids = [f"{i}:{content}" for i, content in enumerate(self.contents)]

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> Item:
        return Item(self.ids[index], self.contents[index], self.targets[index])

    def fingerprint(self, index: int) -> str:
        return self.contents[index]


def contents(subset: Subset) -> list[str]:
    return [subset[i].inputs for i in range(len(subset))]


WORDS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=3, max_size=60).filter(
    lambda words: len(set(words)) > 2
)


@settings(max_examples=60, deadline=None)
@given(words=WORDS, order=st.randoms())
def test_content_decides_whatever_the_order_and_nothing_straddles(words: list[str], order: random.Random) -> None:
    *parts, _ = split(Source({"train": Letters(words)}), DATA)
    shuffled = order.sample(words, len(words))
    *again, _ = split(Source({"train": Letters(shuffled)}), DATA)
    for part, other in zip(parts, again, strict=True):
        assert sorted(contents(part)) == sorted(contents(other))
        assert len(part), "no split is empty"
    sides = [set(contents(part)) for part in parts]
    assert sum(map(len, sides)) == len(set(words))
    assert sum(map(len, parts)) == len(words)


def test_the_shares_are_about_what_was_asked() -> None:
    train, validation, test, _ = split(Source({"train": Letters([str(i) for i in range(5000)])}), DATA)
    assert 0.18 < len(test) / 5000 < 0.22
    assert 0.08 < len(validation) / (len(validation) + len(train)) < 0.12


def test_the_rule_stays_what_it_is() -> None:
    """A change here would move items of every dataset there is between train and test."""
    assert [round(draw(str(i), "test"), 4) for i in range(3)] == [0.4295, 0.523, 0.2343]


def test_an_official_split_is_kept_and_what_leaks_is_dropped_and_counted() -> None:
    words = [str(i) for i in range(50)]
    source = Source(
        {"train": Letters([*words, "x", "x", "y"]), "validation": Letters(["x", "z"]), "test": Letters(["z", "y"])}
    )
    train, validation, test, notes = split(source, DATA)
    assert contents(train) == words
    assert contents(validation) == ["x"]
    assert contents(test) == ["z", "y"]
    assert notes == [
        "validation: 1 item dropped, each equal to one of test",
        "train: 1 item dropped, each equal to one of test",
        "train: 2 items dropped, each equal to one of validation",
    ]


def test_validation_is_taken_out_of_train_even_where_test_is_official() -> None:
    source = Source({"train": Letters([str(i) for i in range(500)]), "test": Letters(["7", "t"])})
    train, validation, test, notes = split(source, DATA)
    assert len(test) == 2
    assert not {"7"} & {*contents(train), *contents(validation)}
    assert any("dropped" in note for note in notes)


def test_a_class_that_vanishes_is_noted() -> None:
    words = [str(i) for i in range(40)]
    moved = next(i for i, word in enumerate(words) if draw(word, "test") < DATA.test_fraction)
    targets = [int(i == moved) for i in range(40)]
    *_, notes = split(Source({"train": Letters(words, targets)}, {"classes": ["often", "once"]}), DATA)
    assert "train: no items left after splitting of class 'once'" in notes


def test_targets_without_class_names_are_no_classes() -> None:
    words = [str(i) for i in range(40)]
    *_, notes = split(Source({"train": Letters(words, [i / 7 for i in range(40)])}, {"unit": "metre"}), DATA)
    assert not any("class" in note for note in notes)


def test_too_little_to_split_is_refused() -> None:
    with pytest.raises(UserError, match="2 different items"):
        split(Source({"train": Letters(["a", "a", "b"])}), DATA)
    with pytest.raises(UserError, match="every item"):
        split(Source({"train": Letters(["a"]), "validation": Letters(["a"]), "test": Letters(["b"])}), DATA)
    with pytest.raises(UserError, match=r"data\.test_fraction is 0"):
        split(Source({"train": Letters("abcdef")}), DATA.model_copy(update={"test_fraction": 0.0}))


def test_data_only_to_be_evaluated_on_needs_no_train_split() -> None:
    train, validation, test, _ = split(Source({"test": Letters("abc")}), DATA)
    assert (len(train), len(validation), contents(test)) == (0, 0, ["a", "b", "c"])


def test_fewer_training_items_are_a_part_of_more() -> None:
    words = [f"{first}{second}" for first in "abcdefghij" for second in "klmnop"]

    def trained(count: int | None, order: list[str]) -> tuple[list[str], list[set[str]], list[str]]:
        *parts, notes = split(Source({"train": Letters(order)}), DATA.model_copy(update={"train_items": count}))
        return contents(parts[0]), [set(contents(part)) for part in parts[1:]], notes

    every, held, _ = trained(None, words)
    (ten, held_too, notes), (twenty, _, _) = trained(10, words), trained(20, words)
    assert len(ten) == 10
    assert set(ten) < set(twenty) < set(every)
    assert held == held_too, "the other splits stay"
    assert set(trained(10, words[::-1])[0]) == set(ten)
    assert f"train: 10 of {len(every)} items used, by the hash of each" in notes
    assert set(trained(1000, words)[0]) == set(every)
