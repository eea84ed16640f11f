"""Does it pay to pretrain? ``python -m benchmarks.transfer [--only ROW] [--seeds 0 1 2]``.

A model is pretrained once, without labels, on training splits alone, and fine-tuned with few or all labels by every
seed; beside it the same model, of the same recipe and as many labelled steps, from random numbers. What is compared is
the test split, seen once, by the checkpoint that was best on validation.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.baselines import Baseline, of_texts, words
from zoo import device, plugins
from zoo.registry import open_registry


@dataclass(frozen=True)
class Experiment:
    """What is pretrained, what it is then taught, and with how many labels.

    Args:
        pretraining: Arguments of its `zoo train`.
        labels: Training items; None is all.
        settings: Of the fine-tuning and of the training from random numbers.
        alone: Further settings of the latter, which the weights decide of the former.
        otherwise: Further trainings from random numbers, by name, that the weights do not allow.
        to_hear: Makes the folder to pretrain on, where it is no dataset of the catalogue.
    """

    model: str
    recipe: str
    pretraining: Sequence[str]
    labels: int | None
    settings: Sequence[str] = ()
    alone: Sequence[str] = ()
    otherwise: Mapping[str, Sequence[str]] = field(default_factory=dict)
    metric: str = "accuracy"
    higher_is_better: bool = True
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    to_hear: Callable[[Path], None] | None = None

    @property
    def fine_tuning(self) -> list[str]:
        limit = [] if self.labels is None else [f"data.train_items={self.labels}"]
        return [*limit, *self.settings]


def _settings(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _all_training_recordings(folder: Path) -> None:
    """Links to what two datasets train and validate with; not one of a test split."""
    for model, recipe in (("stt-conformer-micro", "asterisk-en"), ("stt-micro", "spoken-digits")):
        spec = open_registry().resolve(model, recipe=recipe).spec
        splits = plugins.task_class(spec.task).datasets(spec)
        for split, part in (("train", splits.train), ("validation", splits.validation)):
            for item in (part[i] for i in range(len(part))):
                link = folder / split / recipe / item.id
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(item.inputs)


WORDS = {"TF-IDF (1–2 words) + logistic regression": of_texts(words)}
definitions = partial(
    Experiment,
    "text-micro",
    "wordnet-definitions",
    ("--recipe", "masked-definitions"),
    baselines=WORDS,
)
asterisk = partial(
    Experiment,
    "stt-conformer-micro",
    "asterisk-en",
    (
        *("--recipe", "asterisk-en", "--task", "masked-audio"),
        *_settings(["head.target=clusters", "train.steps=5000", "data.test_fraction=0.02"]),
    ),
    labels=100,
    metric="cer",
    higher_is_better=False,
    to_hear=_all_training_recordings,
)
ROWS = {
    "definitions-1000": definitions(labels=1000, settings=("train.steps=600", "train.eval_every=60")),
    "definitions": definitions(labels=None),
    "mnist-1000": Experiment(
        "vit-micro",
        "mnist",
        ("--recipe", "masked-mnist"),
        labels=1000,
        settings=("train.steps=1200", "train.eval_every=120"),
        alone=("embed.stem=patch", "embed.patch_size=4"),
        otherwise={"from random numbers, the recipe's convolutional stem": ()},
    ),
    "asterisk-en-100-short": asterisk(settings=("train.steps=1000", "train.eval_every=100")),
    "asterisk-en-100": asterisk(settings=("train.steps=2000", "train.eval_every=200")),
}
IDENTITY = ("experiment", "device")


def measure(name: str, row: Experiment, seeds: Sequence[int], steps: int | None, where: str) -> dict[str, Any]:
    """Pretrain, fine-tune with every seed, and train from random numbers with every seed."""
    common = ["--device", where, *(["--steps", str(steps)] if steps else [])]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data: list[str] = []
        if row.to_hear is not None:
            row.to_hear(work / "recordings")
            data = ["--data", str(work / "recordings")]
        pretrained = work / "pretrained"
        pretraining = ["train", row.model, *row.pretraining]
        seconds = _train(*pretraining, *data, *common, "--seed", "0", "--out", str(pretrained))
        pretrained_report = json.loads((pretrained / "report.json").read_text())

        def figures(kind: str, *arguments: str) -> tuple[list[float], float]:
            values: list[float] = []
            slowest = 0.0
            for seed in seeds:
                out = work / f"{kind}-{seed}"
                started = ["train", row.model, "--recipe", row.recipe, *arguments, *common]
                slowest = max(slowest, _train(*started, "--seed", str(seed), "--out", str(out)))
                values.append(json.loads((out / "report.json").read_text())["metrics"][row.metric]["value"])
            return values, slowest

        settings = _settings(row.fine_tuning)
        after, slowest = figures("after", *settings, "--weights", str(pretrained))
        alone, _ = figures("alone", *settings, *_settings(row.alone))
        otherwise = {
            each: statistics.mean(figures(f"otherwise-{number}", *settings, *_settings(further))[0])
            for number, (each, further) in enumerate(row.otherwise.items())
        }
    baselines = _baselines(row)
    ahead = all(statistics.mean(after) > value for value in baselines.values())
    return {
        "experiment": name,
        "data": row.recipe,
        "labels": row.labels,
        "model": row.model,
        "metric": row.metric,
        "higher_is_better": row.higher_is_better,
        "device": device.pick(where).type,
        "mean": statistics.mean(after),
        "std": _std(after),
        "values": after,
        "seeds": list(seeds),
        "seconds": slowest,
        "pretraining": {
            "command": " ".join(["zoo", *pretraining]),
            "seconds": seconds,
            "metrics": {key: value["value"] for key, value in pretrained_report["metrics"].items()},
        },
        "controls": {
            "from random numbers": statistics.mean(alone),
            **otherwise,
            **baselines,
        },
        "from_random_numbers": {"values": alone, "std": _std(alone)},
        "pays": _pays(after, alone, row.higher_is_better),
        "above_baselines": ahead if row.higher_is_better and baselines else None,
        "command": f"python -m benchmarks.transfer --only {name} --seeds {' '.join(map(str, seeds))}",
    }


def _pays(after: Sequence[float], alone: Sequence[float], higher_is_better: bool) -> bool:
    """Whether the mean is better by more than the two deviations together."""
    better = statistics.mean(after) - statistics.mean(alone)
    return (better if higher_is_better else -better) > (_std(after) or 0.0) + (_std(alone) or 0.0)


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _train(*arguments: str) -> float:
    """Seconds that it took."""
    started = time.perf_counter()
    if record.zoo(*arguments).returncode:
        raise SystemExit(f"zoo {' '.join(arguments)} failed")
    return time.perf_counter() - started


def _baselines(row: Experiment) -> dict[str, float]:
    spec = open_registry().resolve(row.model, recipe=row.recipe, settings=row.fine_tuning).spec
    splits = plugins.task_class(spec.task).datasets(spec)
    return {name: fit(splits.train, splits.test) for name, fit in row.baselines.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--only", choices=ROWS, help="one row")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="20 steps a training, nothing written: does it run?")
    options = parser.parse_args()
    for name, row in ROWS.items():
        if options.only in (None, name):
            seeds = options.seeds[:1] if options.quick else options.seeds
            result = measure(name, row, seeds, 20 if options.quick else None, options.device)
            if not options.quick:
                hardware = device.describe(device.pick(options.device))
                record.write("transfer", [result], identity=IDENTITY, hardware=hardware)
            alone = result["controls"]["from random numbers"]
            print(f"{name}: {row.metric} {result['mean']:.4f}, from random numbers {alone:.4f}; {result['pays']}")


if __name__ == "__main__":
    main()
