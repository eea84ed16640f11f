"""How well do registered models learn real data? ``python -m benchmarks.accuracy [--only ROW] [--seeds 0 1 2]``.

Each row trains by the command line, seed by seed, and is judged on the test split once, by the checkpoint that was
best on validation. Baselines are fitted in the same run on the same splits.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torchaudio.transforms import MelSpectrogram

from benchmarks import record
from benchmarks.render import BASELINE_PICTURES
from zoo import device, plugins
from zoo.contract import Dataset
from zoo.registry import open_registry
from zoo_speech.audio import load

Baseline = Callable[[Dataset, Dataset], float]
"""Fits on the first split and gives its figure on the second."""


@dataclass(frozen=True)
class Row:
    """A model × a dataset, and what it must reach.

    Args:
        bar: Least mean of `metric` over the seeds; the highest, where that is an error rate.
        floor: Least value in every run, likewise; None asks for none.
        seconds: Longest training.
        beside: Further metrics to report.
    """

    model: str
    recipe: str
    bar: float
    seconds: float
    floor: float | None = None
    higher_is_better: bool = True
    metric: str = "accuracy"
    beside: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)

    def holds(self, values: Sequence[float]) -> bool:
        sign = 1 if self.higher_is_better else -1
        floor = -math.inf if self.floor is None else sign * self.floor
        return sign * statistics.mean(values) >= sign * self.bar and min(sign * value for value in values) >= floor


def of_pictures(make: Callable[[], object]) -> Baseline:
    """A classifier of flat pictures."""

    def fit(train: Dataset, test: Dataset) -> float:
        return _accuracy(make(), _pictures(train, BASELINE_PICTURES), _pictures(test, len(test)))

    return fit


def _pictures(dataset: Dataset, limit: int) -> tuple[Any, list[int]]:
    items = [dataset[i] for i in range(min(limit, len(dataset)))]
    return np.stack([np.asarray(item.inputs, dtype=np.float32).ravel() for item in items]), [
        item.target for item in items
    ]


def of_texts(make: Callable[[], object]) -> Baseline:
    """A classifier of texts."""

    def fit(train: Dataset, test: Dataset) -> float:
        return _accuracy(make(), _texts(train), _texts(test))

    return fit


def _texts(dataset: Dataset) -> tuple[Any, list[int]]:
    items = [dataset[i] for i in range(len(dataset))]
    return [item.inputs for item in items], [item.target for item in items]


def _accuracy(model: Any, train: tuple[Any, list[int]], test: tuple[Any, list[int]]) -> float:
    return float(np.mean(model.fit(*train).predict(test[0]) == np.array(test[1])))


def of_recordings(train: Dataset, test: Dataset) -> float:
    """Word error rate of the nearest neighbours' transcription, by each recording's mean log-mel frame."""
    model = KNeighborsClassifier(3).fit(*_mean_log_mel(train))
    features, targets = _mean_log_mel(test)
    return float(np.mean(model.predict(features) != np.array(targets)))


def _mean_log_mel(dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    items = [dataset[i] for i in range(len(dataset))]
    mel = MelSpectrogram(8000, n_fft=256, n_mels=40)
    frames = [torch.log(mel(torch.from_numpy(load(item.inputs, 8000))) + 1e-6).mean(-1).numpy() for item in items]
    return np.stack(frames), [item.target for item in items]


def logistic_regression() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def nearest_neighbours() -> object:
    return KNeighborsClassifier(3)


def words() -> object:
    """TF-IDF of words and pairs of them, and logistic regression."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )


def words_and_characters() -> object:
    """TF-IDF of words and pairs of them and of 2 to 5 characters, and logistic regression."""
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    return make_pipeline(features, LogisticRegression(max_iter=2000))


PICTURES = {
    "logistic regression": of_pictures(logistic_regression),
    "3 nearest neighbours": of_pictures(nearest_neighbours),
}
LOG_MEL = {"3 nearest neighbours of mean log-mel": of_recordings}
WORDS = {"TF-IDF (1–2 words) + logistic regression": of_texts(words)}
CHARACTERS = {"TF-IDF (1–2 words, 2–5 characters) + logistic regression": of_texts(words_and_characters)}
ROWS = {
    "digits": Row("vit-small", "digits", bar=0.98, floor=0.97, seconds=480, baselines=PICTURES),
    "mnist": Row("vit-micro", "mnist", bar=0.992, seconds=1200, seeds=(0,), baselines=PICTURES),
    "cifar10-jpeg": Row("vit-micro", "cifar10-jpeg", bar=0.70, seconds=1800, seeds=(0,), baselines=PICTURES),
    "wordnet-definitions": Row(
        "text-micro", "wordnet-definitions", bar=0.89, seconds=600, beside=("f1_macro",), baselines=WORDS
    ),
    "movie-reviews": Row("text-micro", "movie-reviews", bar=0.76, seconds=600, baselines=CHARACTERS),
    "morse": Row("stt-micro", "morse", metric="cer", higher_is_better=False, bar=0.03, seconds=600, beside=("wer",)),
    "spoken-digits": Row(
        "stt-micro",
        "spoken-digits",
        metric="wer",
        higher_is_better=False,
        bar=0.02,
        seconds=600,
        beside=("cer",),
        baselines=LOG_MEL,
    ),
}


def measure(row: Row, seeds: tuple[int, ...], steps: int | None, where: str) -> dict[str, object]:
    """Train with every seed and put the test reports together."""
    reports, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            out = Path(folder) / f"seed-{seed}"
            arguments = ["train", row.model, "--recipe", row.recipe, "--seed", str(seed), "--out", str(out)]
            arguments += ["--device", where] + (["--steps", str(steps)] if steps else [])
            started = time.perf_counter()
            if record.zoo(*arguments).returncode:
                raise SystemExit(f"zoo {' '.join(arguments)} failed")
            seconds.append(time.perf_counter() - started)
            reports.append(json.loads((out / "report.json").read_text()))
    values = [report["metrics"][row.metric]["value"] for report in reports]
    mean = statistics.mean(values)
    spec = open_registry().resolve(row.model, recipe=row.recipe).spec
    splits = plugins.task_class(spec.task).datasets(spec)
    return {
        "data": spec.data.name,
        "split": "test",
        "n_train": len(splits.train),
        "n_validation": len(splits.validation),
        "n_test": len(splits.test),
        "model": row.model,
        "recipe": row.recipe,
        "device": device.pick(where).type,
        "metric": row.metric,
        "mean": mean,
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
        "seeds": list(seeds),
        "seconds": max(seconds),
        "beside": {name: statistics.mean(r["metrics"][name]["value"] for r in reports) for name in row.beside},
        "baselines": {name: fit(splits.train, splits.test) for name, fit in row.baselines.items()},
        "higher_is_better": row.higher_is_better,
        "bar": row.bar,
        "floor": row.floor,
        "bar_seconds": row.seconds,
        "holds": row.holds(values) and max(seconds) <= row.seconds,
        "command": f"python -m benchmarks.accuracy --only {row.recipe} --seeds {' '.join(map(str, seeds))}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--only", choices=ROWS, help="one row")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the row's own")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="20 steps a row, nothing written: does it run?")
    options = parser.parse_args()
    for name, row in ROWS.items():
        if options.only in (None, name):
            seeds = tuple(options.seeds or row.seeds)
            result = measure(row, seeds[:1] if options.quick else seeds, 20 if options.quick else None, options.device)
            if not options.quick:
                hardware = device.describe(device.pick(options.device))
                record.write("accuracy", [result], identity=("data", "model", "device"), hardware=hardware)
            print(
                f"{name}: {result['metric']} {result['mean']:.4f}, {result['seconds']:.0f} s; holds: {result['holds']}"
            )


if __name__ == "__main__":
    main()
