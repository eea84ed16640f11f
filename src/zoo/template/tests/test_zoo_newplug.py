"""The plugin keeps its promises: zoo's conformance kit, and what is our own."""

from collections import Counter

import pytest
import zoo.testing

from zoo_newplug.data import generate


@pytest.mark.parametrize("check", zoo.testing.checks("newplug"), ids=str)
def test_conformance(check: zoo.testing.Check) -> None:
    check()


def test_the_label_is_the_most_frequent_letter() -> None:
    sequences = generate(20, seed=3)
    for text, target in zip(sequences.texts, sequences.targets, strict=True):
        counts = Counter(text)
        assert counts["abcdefgh"[target]] == max(counts.values())
