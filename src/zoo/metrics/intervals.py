"""A figure and how far it may be trusted.

Percentile bootstrap: Efron & Tibshirani 1993.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from zoo.contract import Statistic

RESAMPLES = 1000


class Value(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def intervals(statistics: Mapping[str, Statistic], n: int, seed: int) -> dict[str, Value]:
    """Every statistic of `n` records with its 95 % percentile-bootstrap interval over records.

    All are from the same `RESAMPLES` resamples; a resample is its counts, used as weights.
    """
    rng = np.random.default_rng(seed)
    samples = np.empty((RESAMPLES, len(statistics)))
    for sample in samples:
        weights = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
        sample[:] = [statistic(weights) for statistic in statistics.values()]
    lows, highs = np.nanpercentile(samples, [2.5, 97.5], axis=0)
    everything = np.ones(n)
    return {
        name: Value(float(statistic(everything)), float(low), float(high))
        for (name, statistic), low, high in zip(statistics.items(), lows, highs, strict=True)
    }


def mean(values: np.ndarray) -> Statistic:
    """The weighted mean of a value an item."""
    values = values.astype(float)
    return lambda weights: float(weights @ values / weights.sum())


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Element by element; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
