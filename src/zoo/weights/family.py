"""What a plugin says of published weights that its models can begin with."""

from collections.abc import Mapping
from typing import Any, Protocol

from zoo.specs import RunSpec
from zoo.weights.files import Published
from zoo.weights.table import Table


class Family(Protocol):
    """Published weights of one kind, in a task's own words.

    It may have `of_their_head` too, as `settings`: what the library's own model computes once it has a head, where a
    spec may say otherwise. Adapters leave with their head only where it says the same.
    """

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...
    def recognises(self, published: Published) -> bool: ...
    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key, such as ``{"core.norm_eps": 1e-12}``."""
        ...

    def info(self, published: Published) -> Mapping[str, Any]:
        """What comes with the weights, as `Splits.info` has it, such as a vocabulary, or a classifier's class names."""
        ...

    def table(self, spec: RunSpec) -> Table:
        """Which published tensor is which of a model's, built from `spec`."""
        ...
