"""Of a class each: accuracy, precision, recall, F1, calibration.

Expected calibration error: Guo et al. 2017, arXiv:1706.04599.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from zoo.contract import Drawing, Measures, Record, Statistic, Table
from zoo.metrics.drawing import draw_confusion, draw_reliability
from zoo.metrics.intervals import mean, ratio

NUM_BINS = 15


def classification(records: Sequence[Record], classes: Sequence[str]) -> Measures:
    """Accuracy, precision, recall and F1 (macro and weighted), top-5, calibration and log loss of class predictions.

    A macro average is over the classes that occur among targets or predictions, as in scikit-learn; nothing predicted
    counts as precision 0. Figures that need probabilities are left out where records have no scores.

    Args:
        records: In any order; `prediction` and `target` are indices into `classes`.
    """
    records = sorted(records, key=lambda record: record.id)
    predicted = np.array([record.prediction for record in records], dtype=np.int64)
    target = np.array([record.target for record in records], dtype=np.int64)
    scores = [record.scores for record in records if record.scores is not None]

    statistics: dict[str, Statistic] = {"accuracy": mean(predicted == target)}
    statistics |= _averages(target, predicted, len(classes))
    matrix = np.bincount(target * len(classes) + predicted, minlength=len(classes) ** 2).reshape(len(classes), -1)
    figures: dict[str, Drawing] = {"confusion-matrix": partial(draw_confusion, matrix=matrix, classes=classes)}
    if len(scores) == len(records):
        probability = np.stack(scores)
        bins = Bins.of(probability[np.arange(len(records)), predicted], predicted == target)
        statistics |= _probabilistic(target, probability)
        statistics["ece"] = bins.error
        figures["reliability"] = partial(draw_reliability, **bins.table(), error=bins.error(np.ones(len(records))))
    tables = {"per class": _per_class(target, predicted, classes), "most confused pairs": _pairs(matrix, classes)}
    return Measures("accuracy", statistics, tables=tables, figures=figures)


def class_records(
    ids: Sequence[str], scores: Float[np.ndarray, "n num_classes"], targets: Sequence[int] | None
) -> list[Record]:
    """A record an item, the class of the highest score being predicted.

    Args:
        scores: Probabilities.
        targets: Class indices; None when unknown.
    """
    known = [None] * len(ids) if targets is None else targets
    return [
        Record(id=each, prediction=int(score.argmax()), target=target, scores=score)
        for each, score, target in zip(ids, scores, known, strict=True)
    ]


def likeliest(scores: Float[np.ndarray, " num_classes"], classes: Sequence[str], top_k: int) -> dict[str, Any]:
    """The `top_k` likeliest classes as a user reads them: ``label``, ``probability``, then ``label_2`` and so on."""
    said: dict[str, Any] = {}
    for rank, index in enumerate(np.argsort(-scores, kind="stable")[:top_k].tolist(), start=1):
        number = "" if rank == 1 else f"_{rank}"
        said |= {f"label{number}": classes[index], f"probability{number}": float(scores[index])}
    return said


# ---------------------------------------------------------------- statistics


class ClassCounts(NamedTuple):
    """Weighted counts of each class, (num_classes,)."""

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        return ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        return ratio(self.hits, self.support)

    @property
    def f1(self) -> np.ndarray:
        return ratio(2 * self.hits, self.support + self.predicted)

    @property
    def present(self) -> np.ndarray:
        return (self.support + self.predicted > 0).astype(float)


def _count(target: np.ndarray, predicted: np.ndarray, weights: np.ndarray, num_classes: int) -> ClassCounts:
    hits = np.bincount(target, weights * (target == predicted), num_classes)
    return ClassCounts(hits, np.bincount(target, weights, num_classes), np.bincount(predicted, weights, num_classes))


def _averages(target: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, Statistic]:
    def average(measure: str, by: str) -> Statistic:
        def statistic(weights: np.ndarray) -> float:
            counts = _count(target, predicted, weights, num_classes)
            return float(np.average(getattr(counts, measure), weights=getattr(counts, by)))

        return statistic

    kinds = {"macro": "present", "weighted": "support"}
    return {f"{m}_{kind}": average(m, by) for m in ("precision", "recall", "f1") for kind, by in kinds.items()}


def _probabilistic(
    target: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n num_classes"]
) -> dict[str, Statistic]:
    of_target = probability[np.arange(len(target)), target]
    smallest = np.finfo(probability.dtype).eps  # as in scikit-learn: a probability of 0 must not cost infinitely much
    statistics = {"log_loss": mean(-np.log(of_target.clip(smallest, 1 - smallest)))}
    if probability.shape[1] > 5:
        # a tie counts as wrong: a model that says nothing gets nothing
        statistics["top5"] = mean((probability >= of_target[:, None]).sum(1) <= 5)
    return statistics


@dataclass(frozen=True, slots=True)
class Bins:
    """Predictions sorted by confidence into `NUM_BINS` bins of equal width, open below: ((m - 1)/M, m/M]."""

    index: Int[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    correct: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, confidence: np.ndarray, correct: np.ndarray) -> Bins:
        edges = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
        return cls(np.searchsorted(edges, confidence, side="left"), confidence.astype(float), correct.astype(float))

    def sums(self, values: np.ndarray) -> Float[np.ndarray, " bins"]:
        return np.bincount(self.index, values, NUM_BINS)

    def table(self) -> dict[str, np.ndarray]:
        """Of each bin, how many predictions it holds and the share of them that is right."""
        count = self.sums(np.ones(len(self.index)))
        return {"count": count, "accuracy": ratio(self.sums(self.correct), count)}

    def error(self, weights: np.ndarray) -> float:
        """Expected calibration error: Σ over bins of |B| / n · |accuracy(B) - confidence(B)|."""
        return float(np.abs(self.sums(weights * (self.correct - self.confidence))).sum() / weights.sum())


# ---------------------------------------------------------------- tables


def _per_class(target: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Table:
    counts = _count(target, predicted, np.ones(len(target)), len(classes))
    numbers = zip(classes, counts.precision, counts.recall, counts.f1, counts.support, strict=True)
    return Table(
        ("class", "precision", "recall", "f1", "support"),
        [(name, float(p), float(r), float(f), int(support)) for name, p, r, f, support in numbers],
    )


def _pairs(matrix: Int[np.ndarray, "target predicted"], classes: Sequence[str], limit: int = 10) -> Table:
    """The commonest mistakes and which share of the target's items they take."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(index), len(matrix)) for index in order if wrong.flat[index]]
    rows = [(classes[t], classes[p], int(matrix[t, p]), float(matrix[t, p] / matrix[t].sum())) for t, p in pairs]
    return Table(("target", "predicted", "items", "share"), rows)
