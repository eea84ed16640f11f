"""A task that is another's but for its model: whatever it is asked, the other answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.contract import Splits, Task, Variant

if TYPE_CHECKING:
    from zoo.core.model import Model
    from zoo.specs import RunSpec


@dataclass(frozen=True, slots=True)
class Alike:
    """Stands where a task's class stands; what it makes is an instance of the other task."""

    other: type[Task]
    variant: Variant

    def __call__(self, spec: RunSpec, info: Mapping[str, Any]) -> Task:
        return self.other(self.variant.translate(spec), info)

    @property
    def formats(self) -> Mapping[str, Callable[[Mapping[str, Any]], str]]:
        return getattr(self.other, "formats", {})

    def datasets(self, spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        known = {**(info or {}), **self.variant.know(spec, info or {})}
        return self.other.datasets(self.variant.translate(spec), known or None)

    def build(self, spec: RunSpec) -> Model:
        return self.variant.build(spec)
