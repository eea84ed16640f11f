"""What is handed from the model to the report: records, and what is computed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Record:
    """What a model said of one item. Every figure of a report is computed from records.

    Args:
        prediction: As the task defines it: a class index, a string, a sequence of tags.
        target: Of the same kind; None when unknown.
        scores: Probabilities or the like, (num_classes,), where there are any.
    """

    id: str
    prediction: Any
    target: Any = None
    scores: np.ndarray | None = None
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


Statistic = Callable[["np.ndarray"], float]
"""Weights of the records (n,) → value. All ones give the figure; bootstrap counts give its interval."""

Drawing = Callable[["Figure"], None]
"""Draws on an empty figure."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Measures:
    """What is computed from the records of one split.

    Args:
        primary: The statistic that picks the best checkpoint.
        higher_is_better: Of the primary one; false for an error.
        statistics: By name; closures over the records.
        figures: Drawings by file stem.
        duration_seconds: How long the items last together, where they are of time: sound, films.
    """

    primary: str
    statistics: Mapping[str, Statistic]
    higher_is_better: bool = True
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])
    figures: Mapping[str, Drawing] = field(default_factory=dict[str, Drawing])
    duration_seconds: float | None = None
