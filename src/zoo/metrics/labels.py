"""Of several labels each, or none: precision, recall and F1 of label sets, average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from zoo.contract import Measures, Record, Statistic, Table
from zoo.metrics.classes import ClassCounts
from zoo.metrics.intervals import mean, ratio


def multi_label(records: Sequence[Record], classes: Sequence[str]) -> Measures:
    """Precision, recall and F1 (micro, macro, weighted, by item), exact matches and average precision of label sets.

    As in scikit-learn: a macro average is over all classes; nothing predicted counts as precision 0, and an item with
    neither target nor prediction as 0. Average precision is over the classes that occur among targets.

    Args:
        records: In any order; `prediction` and `target` are lists of indices into `classes`.
    """
    records = sorted(records, key=lambda record: record.id)
    predicted, target = (
        _indicators([getattr(record, name) for record in records], len(classes)) for name in ("prediction", "target")
    )
    count = _counter(target, predicted)
    statistics: dict[str, Statistic] = {
        f"{measure}_{kind}": _label_statistic(count, measure, kind)
        for measure in ("f1", "precision", "recall")
        for kind in ("micro", "macro", "weighted")
    }
    hits, of_both = (target & predicted).sum(1), target.sum(1) + predicted.sum(1)
    statistics["f1_samples"] = mean(ratio(2.0 * hits, of_both.astype(float)))
    statistics["exact_match"] = mean((predicted == target).all(1))
    scores = [record.scores for record in records if record.scores is not None]
    if len(scores) == len(records):
        statistics["average_precision_macro"] = _average_precision(target, np.stack(scores))
    return Measures("f1_micro", statistics, tables={"per label": _per_label(count(np.ones(len(target))), classes)})


def label_records(
    ids: Sequence[str],
    scores: Float[np.ndarray, "n num_classes"],
    targets: Sequence[Sequence[int]] | None,
    threshold: float,
) -> list[Record]:
    """A record an item, all classes being predicted whose probability reaches the threshold.

    Args:
        targets: Class indices of each; None when unknown.
    """
    known = [None] * len(ids) if targets is None else targets
    return [
        Record(id=each, prediction=np.flatnonzero(score >= threshold).tolist(), target=target, scores=score)
        for each, score, target in zip(ids, scores, known, strict=True)
    ]


def _indicators(labels: Sequence[Sequence[int]], num_classes: int) -> Bool[np.ndarray, "n num_classes"]:
    given = np.zeros((len(labels), num_classes), dtype=bool)
    for row, indices in zip(given, labels, strict=True):
        row[list(indices)] = True
    return given


def _counter(target: np.ndarray, predicted: np.ndarray) -> Callable[[np.ndarray], ClassCounts]:
    """Counts by weights of the items; of many labels an item has few, so that the zeros are left out."""
    hits, support, given = (csr_array(each, dtype=float) for each in (target & predicted, target, predicted))
    return lambda weights: ClassCounts(weights @ hits, weights @ support, weights @ given)


def _label_statistic(count: Callable[[np.ndarray], ClassCounts], measure: str, kind: str) -> Statistic:
    def statistic(weights: np.ndarray) -> float:
        counts = count(weights)
        if kind == "micro":
            counts = ClassCounts(*(each.sum(keepdims=True) for each in counts))
        by = counts.support if kind == "weighted" and counts.support.any() else np.ones(len(counts.support))
        return float(np.average(getattr(counts, measure), weights=by))

    return statistic


class Ranking(NamedTuple):
    """A class's items from the highest score down; of the steps of equal scores those that hold a target."""

    order: Int[np.ndarray, " n"]
    targets: Int[np.ndarray, " targets"]
    last_target: Int[np.ndarray, " steps"]
    last: Int[np.ndarray, " steps"]

    @classmethod
    def of(cls, target: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Ranking:
        order = np.argsort(-score, kind="stable")
        places = np.flatnonzero(target[order])
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
        steps = np.searchsorted(ends, places)
        last_target = np.flatnonzero(np.diff(steps, append=len(ends)))
        return cls(order, order[places], last_target, ends[steps[last_target]])

    def average_precision(self, weights: np.ndarray) -> float:
        """Σ (R_i - R_(i-1)) · P_i; nan without a target."""
        hits = np.cumsum(weights[self.targets])[self.last_target]
        if not len(hits) or not hits[-1]:
            return np.nan
        taken = np.cumsum(weights[self.order])[self.last]
        return float(np.diff(hits, prepend=0.0) @ ratio(hits, taken) / hits[-1])


def _average_precision(target: np.ndarray, scores: np.ndarray) -> Statistic:
    """The mean over the classes that have a target."""
    rankings = [Ranking.of(*each) for each in zip(target.T, scores.T, strict=True)]

    def statistic(weights: np.ndarray) -> float:
        values = np.array([each.average_precision(weights) for each in rankings])
        return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else np.nan

    return statistic


def _per_label(counts: ClassCounts, classes: Sequence[str]) -> Table:
    numbers = zip(classes, counts.precision, counts.recall, counts.f1, counts.support, strict=True)
    return Table(
        ("label", "precision", "recall", "f1", "support"),
        [(name, float(p), float(r), float(f), int(support)) for name, p, r, f, support in numbers],
    )
