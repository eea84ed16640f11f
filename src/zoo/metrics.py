"""The scales: from records to figures with intervals, for any task.

Percentile bootstrap: Efron & Tibshirani 1993; expected calibration error: Guo et al. 2017, arXiv:1706.04599.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from zoo.contract import Measures, Record, Statistic, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 1000
NUM_BINS = 15
RIGHT, WRONG = "Blues", "Oranges"  # told apart by every kind of colour vision


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

    statistics: dict[str, Statistic] = {"accuracy": _mean(predicted == target)}
    statistics |= _averages(target, predicted, len(classes))
    matrix = np.bincount(target * len(classes) + predicted, minlength=len(classes) ** 2).reshape(len(classes), -1)
    figures: dict[str, Callable[[Figure], None]] = {
        "confusion-matrix": lambda figure: draw_confusion(figure, matrix, classes)
    }
    if len(scores) == len(records):
        probability = np.stack(scores)
        bins = Bins.of(probability[np.arange(len(records)), predicted], predicted == target)
        statistics |= _probabilistic(target, probability)
        statistics["ece"] = bins.error
        figures["reliability"] = lambda figure: draw_reliability(figure, bins)
    tables = {"per class": _per_class(target, predicted, classes), "most confused pairs": _pairs(matrix, classes)}
    return Measures("accuracy", statistics, tables=tables, figures=figures)


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
    statistics: dict[str, Statistic] = {"f1_micro": _label_statistic(target, predicted, "f1", "micro")}
    for measure in ("precision", "recall", "f1"):
        for kind in ("micro", "macro", "weighted"):
            statistics[f"{measure}_{kind}"] = _label_statistic(target, predicted, measure, kind)
    hits, of_both = (target & predicted).sum(1), target.sum(1) + predicted.sum(1)
    statistics["f1_samples"] = _mean(_ratio(2.0 * hits, of_both.astype(float)))
    statistics["exact_match"] = _mean((predicted == target).all(1))
    scores = [record.scores for record in records if record.scores is not None]
    if len(scores) == len(records):
        statistics["average_precision_macro"] = _average_precision(target, np.stack(scores))
    return Measures("f1_micro", statistics, tables={"per label": _per_label(target, predicted, classes)})


# ---------------------------------------------------------------- statistics


class ClassCounts(NamedTuple):
    """Weighted counts of each class, (num_classes,)."""

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        return _ratio(self.hits, self.support)

    @property
    def f1(self) -> np.ndarray:
        return _ratio(2 * self.hits, self.support + self.predicted)

    @property
    def present(self) -> np.ndarray:
        return (self.support + self.predicted > 0).astype(float)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _count(target: np.ndarray, predicted: np.ndarray, weights: np.ndarray, num_classes: int) -> ClassCounts:
    hits = np.bincount(target, weights * (target == predicted), num_classes)
    return ClassCounts(hits, np.bincount(target, weights, num_classes), np.bincount(predicted, weights, num_classes))


def _mean(values: np.ndarray) -> Statistic:
    values = values.astype(float)
    return lambda weights: float(weights @ values / weights.sum())


def _averages(target: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, Statistic]:
    def average(measure: str, by: str) -> Statistic:
        def statistic(weights: np.ndarray) -> float:
            counts = _count(target, predicted, weights, num_classes)
            return float(np.average(getattr(counts, measure), weights=getattr(counts, by)))

        return statistic

    kinds = {"macro": "present", "weighted": "support"}
    return {f"{m}_{kind}": average(m, by) for m in ("precision", "recall", "f1") for kind, by in kinds.items()}


def _indicators(labels: Sequence[Sequence[int]], num_classes: int) -> Bool[np.ndarray, "n num_classes"]:
    given = np.zeros((len(labels), num_classes), dtype=bool)
    for row, indices in zip(given, labels, strict=True):
        row[list(indices)] = True
    return given


def _label_counts(target: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> ClassCounts:
    return ClassCounts(weights @ (target & predicted), weights @ target, weights @ predicted)


def _label_statistic(target: np.ndarray, predicted: np.ndarray, measure: str, kind: str) -> Statistic:
    def statistic(weights: np.ndarray) -> float:
        counts = _label_counts(target, predicted, weights)
        if kind == "micro":
            counts = ClassCounts(*(each.sum(keepdims=True) for each in counts))
        by = counts.support if kind == "weighted" and counts.support.any() else np.ones(len(counts.support))
        return float(np.average(getattr(counts, measure), weights=by))

    return statistic


def _average_precision(target: np.ndarray, scores: np.ndarray) -> Statistic:
    """Mean over classes of Σ (R_i - R_(i-1)) · P_i, from the highest score down; equal scores are one step."""
    orders = np.argsort(-scores, axis=0, kind="stable")

    def of_class(index: int, weights: np.ndarray) -> float:
        order = orders[:, index]
        score, weight = scores[order, index], weights[order]
        hits = np.cumsum(weight * target[order, index])
        last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
        hits, taken = hits[last], np.cumsum(weight)[last]
        return float(np.sum(np.diff(hits, prepend=0.0) * _ratio(hits, taken)) / hits[-1]) if hits[-1] else np.nan

    def statistic(weights: np.ndarray) -> float:
        values = np.array([of_class(index, weights) for index in range(target.shape[1])])
        return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else np.nan

    return statistic


def _probabilistic(
    target: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n num_classes"]
) -> dict[str, Statistic]:
    of_target = probability[np.arange(len(target)), target]
    smallest = np.finfo(probability.dtype).eps  # as in scikit-learn: a probability of 0 must not cost infinitely much
    statistics = {"log_loss": _mean(-np.log(of_target.clip(smallest, 1 - smallest)))}
    if probability.shape[1] > 5:
        # a tie counts as wrong: a model that says nothing gets nothing
        statistics["top5"] = _mean((probability >= of_target[:, None]).sum(1) <= 5)
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


def _per_label(target: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Table:
    counts = _label_counts(target, predicted, np.ones(len(target)))
    numbers = zip(classes, counts.precision, counts.recall, counts.f1, counts.support, strict=True)
    return Table(
        ("label", "precision", "recall", "f1", "support"),
        [(name, float(p), float(r), float(f), int(support)) for name, p, r, f, support in numbers],
    )


def _pairs(matrix: Int[np.ndarray, "target predicted"], classes: Sequence[str], limit: int = 10) -> Table:
    """The commonest mistakes and which share of the target's items they take."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(index), len(matrix)) for index in order if wrong.flat[index]]
    rows = [(classes[t], classes[p], int(matrix[t, p]), float(matrix[t, p] / matrix[t].sum())) for t, p in pairs]
    return Table(("target", "predicted", "items", "share"), rows)


# ---------------------------------------------------------------- figures


def draw_confusion(figure: Figure, matrix: Int[np.ndarray, "target predicted"], classes: Sequence[str]) -> None:
    """Counts, shaded by their share of the row: right ones blue, wrong ones orange by its root, so that few show."""
    num_classes = len(classes)
    side = min(max(0.42 * num_classes + 2.4, 4.2), 16)
    figure.set_size_inches(side, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    right = np.eye(num_classes, dtype=bool)
    axes.imshow(np.where(right & (matrix > 0), share, np.nan), cmap=RIGHT, vmin=0, vmax=1.25)
    axes.imshow(np.where(right | (matrix == 0), np.nan, np.sqrt(share)), cmap=WRONG, vmin=-0.15, vmax=1)
    if num_classes <= 30:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            dark = share[row, column] > (0.6 if row == column else 0.35)
            count = f"{matrix[row, column]}"
            axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black", size=9)

    every = -(-num_classes // 100)
    ticks = range(0, num_classes, every)
    names = [classes[i] if len(classes[i]) <= 20 else classes[i][:19] + "…" for i in ticks]
    size = float(np.clip(9 - (num_classes - 10) / 20, 5, 9))
    crowded = max(map(len, names)) * num_classes > 12 * side
    axes.set_xticks(ticks, names, rotation=90 if crowded else 0, size=size)
    axes.set_yticks(ticks, names, size=size)
    edges = np.arange(1, num_classes) - 0.5
    axes.hlines(edges, -0.5, num_classes - 0.5, color="0.93", linewidth=0.6)
    axes.vlines(edges, -0.5, num_classes - 0.5, color="0.93", linewidth=0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_color("0.8")
    axes.set(xlabel="predicted", ylabel="target")
    axes.set_title(f"Confusion · {int(np.trace(matrix))} of {int(matrix.sum())} right", size=11)


def draw_reliability(figure: Figure, bins: Bins) -> None:
    """Accuracy against confidence, and how many predictions each bin holds."""
    figure.set_size_inches(4.6, 5)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    everything = np.ones(len(bins.index))
    count = bins.sums(everything)
    centres, width = (np.arange(NUM_BINS) + 0.5) / NUM_BINS, 0.9 / NUM_BINS
    upper.bar(centres, _ratio(bins.sums(bins.correct), count), width, color="#4c8bbf", label="accuracy of the bin")
    upper.plot([0, 1], [0, 1], "--", color="#d95f02", linewidth=1.2, label="perfectly calibrated")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8, frameon=False)
    lower.bar(centres, count, width, color="0.6")
    lower.set(xlabel="confidence", ylabel="items")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Reliability · ECE {bins.error(everything):.3f} · n = {len(bins.index)}", size=11)
