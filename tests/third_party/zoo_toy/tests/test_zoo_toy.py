"""The plugin keeps its promises."""

import pytest
import zoo.testing

from zoo_toy.data import tags_of


@pytest.mark.parametrize("check", zoo.testing.checks("toy"), ids=str)
def test_conformance(check: zoo.testing.Check) -> None:
    check()


def test_letters_above_the_mean_are_high() -> None:
    assert tags_of("abca") == [0, 1, 1, 0]
    assert tags_of("zz") == [0, 0]
