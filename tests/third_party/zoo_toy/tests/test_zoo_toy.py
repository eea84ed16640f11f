"""The plugin keeps its promises."""

import pytest
import zoo.testing
from zoo_toy.data import tags_of


@pytest.mark.parametrize("check", zoo.testing.checks("toy"), ids=str)
def test_conformance(check: zoo.testing.Check) -> None:
    check()


def test_a_letter_that_occurs_again_is_tagged() -> None:
    assert tags_of("abca") == [1, 0, 0, 1]
