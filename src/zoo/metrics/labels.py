"""Of several labels each, or none: precision, recall and F1 of label sets, average precision."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

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
    statistics: dict[str, Statistic] = {
        f"{measure}_{kind}": _label_statistic(target, predicted, measure, kind)
        for measure in ("f1", "precision", "recall")
        for kind in ("micro", "macro", "weighted")
    }
    hits, of_both = (target & predicted).sum(1), target.sum(1) + predicted.sum(1)
    statistics["f1_samples"] = mean(ratio(2.0 * hits, of_both.astype(float)))
    statistics["exact_match"] = mean((predicted == target).all(1))
    scores = [record.scores for record in records if record.scores is not None]
    if len(scores) == len(records):
        statistics["average_precision_macro"] = _average_precision(target, np.stack(scores))
    return Measures("f1_micro", statistics, tables={"per label": _per_label(target, predicted, classes)})


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
        return float(np.sum(np.diff(hits, prepend=0.0) * ratio(hits, taken)) / hits[-1]) if hits[-1] else np.nan

    def statistic(weights: np.ndarray) -> float:
        values = np.array([of_class(index, weights) for index in range(target.shape[1])])
        return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else np.nan

    return statistic


def _per_label(target: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Table:
    counts = _label_counts(target, predicted, np.ones(len(target)))
    numbers = zip(classes, counts.precision, counts.recall, counts.f1, counts.support, strict=True)
    return Table(
        ("label", "precision", "recall", "f1", "support"),
        [(name, float(p), float(r), float(f), int(support)) for name, p, r, f, support in numbers],
    )
