"""Figures equal to scikit-learn's and torchmetrics' on the same records; intervals that cover what they promise."""

import time
import warnings

import jiwer
import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

from zoo.contract import Record, Statistic
from zoo.metrics import RESAMPLES, Value, classification, intervals, multi_label, transcripts


def some_records(n: int, num_classes: int, *, seed: int = 0, skill: float = 2.0) -> list[Record]:
    """A model that is right now and then; the last class is never a target, the one before never predicted."""
    rng = np.random.default_rng(seed)
    target = rng.integers(num_classes - 1, size=n)
    logits = rng.normal(size=(n, num_classes))
    logits[np.arange(n), target] += skill
    logits[:, num_classes - 2] -= 20
    scores = torch.tensor(logits).softmax(-1).float().numpy()
    return [Record(f"{i:05d}", int(s.argmax()), int(t), s) for i, (s, t) in enumerate(zip(scores, target, strict=True))]


def names(num_classes: int) -> list[str]:
    return [f"class {i}" for i in range(num_classes)]


def values(records: list[Record], num_classes: int) -> dict[str, float]:
    measures = classification(records, names(num_classes))
    return {name: statistic(np.ones(len(records))) for name, statistic in measures.statistics.items()}


@pytest.mark.parametrize(("n", "num_classes"), [(400, 3), (900, 12)])
def test_figures_equal_scikit_learn(n: int, num_classes: int) -> None:
    records = some_records(n, num_classes)
    target, predicted = [r.target for r in records], [r.prediction for r in records]
    scores = np.stack([r.scores for r in records])
    expected = {"accuracy": reference.accuracy_score(target, predicted)}
    for average in ("macro", "weighted"):
        three = reference.precision_recall_fscore_support(target, predicted, average=average, zero_division=0)[:3]
        expected |= {f"{name}_{average}": v for name, v in zip(("precision", "recall", "f1"), three, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows of float32 do not add up to 1 exactly
        expected["log_loss"] = reference.log_loss(target, scores, labels=range(num_classes))
    if num_classes > 5:
        expected["top5"] = reference.top_k_accuracy_score(target, scores, k=5, labels=range(num_classes))

    found = values(records, num_classes)
    ece = found.pop("ece")
    assert found == pytest.approx(expected, abs=1e-6)

    tensors = torch.tensor(scores), torch.tensor(target)
    assert ece == pytest.approx(float(multiclass_calibration_error(*tensors, num_classes, n_bins=15)), abs=1e-6)
    torch_f1 = multiclass_f1_score(*tensors, num_classes, average="macro")
    assert found["f1_macro"] == pytest.approx(float(torch_f1), abs=1e-6)


def test_per_class_table_equals_scikit_learn() -> None:
    records = some_records(300, 6)
    expected = reference.precision_recall_fscore_support(
        [r.target for r in records], [r.prediction for r in records], labels=range(6), zero_division=0
    )
    rows = classification(records, names(6)).tables["per class"].rows
    np.testing.assert_allclose(np.array([row[1:] for row in rows]).T, expected)


def test_most_confused_pairs_are_counted() -> None:
    pairs = [(0, 1)] * 3 + [(1, 0)] * 1 + [(0, 0)] * 3 + [(1, 1)] * 5 + [(2, 2)]
    records = [Record(str(i), prediction, target) for i, (target, prediction) in enumerate(pairs)]
    rows = classification(records, ["a", "b", "c"]).tables["most confused pairs"].rows
    assert rows == [("a", "b", 3, 0.5), ("b", "a", 1, pytest.approx(1 / 6))]


def test_records_without_scores_give_what_they_can() -> None:
    records = [Record(str(i), i % 2, 1) for i in range(10)]
    found = values(records, 2)
    assert found["accuracy"] == 0.5
    assert "ece" not in found
    assert "log_loss" not in found


def test_order_of_records_changes_nothing() -> None:
    records = some_records(200, 7)
    shuffled = [records[i] for i in np.random.default_rng(1).permutation(200)]
    one, other = (
        intervals(classification(each, names(7)).statistics, len(each), seed=3) for each in (records, shuffled)
    )
    assert one == other
    assert one != intervals(classification(records, names(7)).statistics, 200, seed=4)


def test_certainty_and_ties() -> None:
    sure = [Record("a", 0, 0, np.eye(7, dtype=np.float32)[0]), Record("b", 0, 1, np.eye(7, dtype=np.float32)[0])]
    found = values(sure, 7)
    assert found["ece"] == 0.5
    assert np.isfinite(found["log_loss"])
    silent = [Record("a", 0, 0, np.full(7, 1 / 7, np.float32))]
    assert values(silent, 7)["top5"] == 0.0


def interval_of(statistic: Statistic, n: int, seed: int) -> Value:
    return intervals({"": statistic}, n, seed)[""]


def test_interval_is_the_percentile_bootstrap() -> None:
    correct = np.random.default_rng(0).random(300) < 0.9
    rng = np.random.default_rng(5)
    means = [correct[rng.integers(300, size=300)].mean() for _ in range(RESAMPLES)]
    found = interval_of(lambda weights: float(weights @ correct / weights.sum()), 300, seed=5)
    assert found == pytest.approx((correct.mean(), *np.percentile(means, [2.5, 97.5])), abs=1e-12)


def test_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    covered = 0
    for trial in range(60):
        sample = np.random.default_rng([7, trial]).random(100) < 0.8
        found = interval_of(lambda weights, sample=sample: float(weights @ sample / weights.sum()), 100, seed=trial)
        covered += found.low <= 0.8 <= found.high
    assert 53 <= covered <= 60


def test_an_undefined_resample_does_not_spoil_the_interval() -> None:
    mask = np.zeros(20)
    mask[:2] = 1
    with np.errstate(invalid="ignore"):
        found = interval_of(lambda weights: float((weights * mask) @ np.arange(20) / (weights @ mask)), 20, seed=0)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.slow
def test_fifty_thousand_records_take_seconds() -> None:
    records = some_records(50_000, 100)
    measures = classification(records, names(100))
    start = time.process_time()
    intervals(measures.statistics, len(records), seed=0)
    assert time.process_time() - start < 20


def some_label_sets(n: int, num_classes: int, *, seed: int = 0) -> list[Record]:
    """The last class is never a target, the one before never predicted; some items have neither."""
    rng = np.random.default_rng(seed)
    target = rng.random((n, num_classes)) < 0.3
    target[:, -1] = False
    scores = np.round((0.5 * target + rng.random((n, num_classes))) / 1.5, 2)  # with ties
    scores[:, -2] = 0.1
    chosen = [np.flatnonzero(row >= 0.5).tolist() for row in scores]
    wanted = [np.flatnonzero(row).tolist() for row in target]
    return [Record(f"{i:05d}", p, t, s) for i, (p, t, s) in enumerate(zip(chosen, wanted, scores, strict=True))]


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_of_several_labels_equal_scikit_learn(weighted: bool) -> None:
    n, num_classes = 300, 7
    records = some_label_sets(n, num_classes)
    weights = np.random.default_rng(1).integers(0, 4, n).astype(float) if weighted else np.ones(n)
    target, predicted = np.zeros((n, num_classes), dtype=int), np.zeros((n, num_classes), dtype=int)
    for i, record in enumerate(records):
        target[i, record.target], predicted[i, record.prediction] = 1, 1
    scores = np.stack([record.scores for record in records])
    options = {"zero_division": 0, "sample_weight": weights}
    expected = {"exact_match": reference.accuracy_score(target, predicted, sample_weight=weights)}
    for average in ("micro", "macro", "weighted"):
        three = reference.precision_recall_fscore_support(target, predicted, average=average, **options)[:3]
        expected |= {f"{name}_{average}": v for name, v in zip(("precision", "recall", "f1"), three, strict=True)}
    expected["f1_samples"] = reference.f1_score(target, predicted, average="samples", **options)
    expected["average_precision_macro"] = np.mean(
        [reference.average_precision_score(target[:, i], scores[:, i], sample_weight=weights) for i in range(6)]
    )
    measures = multi_label(records, names(num_classes))
    found = {name: statistic(weights) for name, statistic in measures.statistics.items()}
    assert found == pytest.approx(expected, abs=1e-9)
    assert measures.primary == "f1_micro"
    first = measures.tables["per label"].rows[0]
    assert first[1:4] == pytest.approx(
        [float(each[0]) for each in reference.precision_recall_fscore_support(target, predicted, zero_division=0)[:3]]
    )


def test_error_rates_equal_jiwer() -> None:
    rng = np.random.default_rng(0)
    vocabulary = ["one", "won", "two", "to", "three", "tree", "four", "for", "five"]

    def said(most: int) -> str:
        return " ".join(rng.choice(vocabulary, rng.integers(1, most)))

    records = [Record(f"{i:03d}", said(7), said(6)) for i in range(200)]
    records += [Record("empty", "", "three two"), Record("right", "one two", "one two")]
    references, hypotheses = [r.target for r in records], [r.prediction for r in records]
    words, characters = jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)
    measures = transcripts(records)
    found = {name: statistic(np.ones(len(records))) for name, statistic in measures.statistics.items()}
    length = words.hits + words.substitutions + words.deletions
    assert found == pytest.approx(
        {
            "wer": words.wer,
            "cer": characters.cer,
            "word_substitutions": words.substitutions / length,
            "word_deletions": words.deletions / length,
            "word_insertions": words.insertions / length,
            "exact_match": sum(r == h for r, h in zip(references, hypotheses, strict=True)) / len(records),
        }
    )
    assert not measures.higher_is_better
    worst = [row[1] for row in measures.tables["worst"].rows]
    assert worst == sorted(worst, reverse=True)
