"""The examiner: a model, a task and a dataset give records; records give a report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zoo import device as devices
from zoo.contract import Dataset, Item, Measures, Splits
from zoo.data.splits import Subset
from zoo.errors import UserError, unknown
from zoo.explain import can_draw, draw_gallery
from zoo.inference import Predictions, portions
from zoo.metrics import intervals
from zoo.registry import open_registry, revise
from zoo.report import Report, commit, draw_curves, versions
from zoo.run import Chosen, Run, open_run
from zoo.specs import RunSpec

SPLITS = ("train", "validation", "test")
ALL = "all"
GALLERY = 8
LISTED = 20


class Joined:
    """Datasets as one, in order."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.places = [(part, index) for part in parts for index in range(len(part))]
        self.ids: Sequence[str] = [part.ids[index] for part, index in self.places]
        self.lengths: Sequence[float] | None = None
        if all(part.lengths is not None for part in parts):
            self.lengths = [length for part in parts for length in part.lengths or ()]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        part, place = self.places[index]
        return part[place]

    def fingerprint(self, index: int) -> str:
        part, place = self.places[index]
        return part.fingerprint(place)


def evaluate(
    run: Run | str | Path,
    data: str | Path | None = None,
    split: str = "test",
    *,
    on_error: Literal["stop", "skip"] | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    device: str | None = None,
) -> Report:
    """Evaluate a run's best checkpoint by validation, such as ``zoo.evaluate("runs/first", "new-data", "all")``.

    Args:
        run: A finished or stopped run, or its folder.
        data: A dataset's name, a folder or a file; the run's own when None.
        split: `train`, `validation`, `test`, or `all` of them together.
        on_error: What unreadable items do; as in the training when None.
        settings: How the data is read, such as ``{"data.text_column": "review"}``, and how scores become predictions,
            ``{"decode.KEY": value}``; else as in the training.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; what the run was trained on when None.

    Returns:
        Figures with intervals, tables and drawings; ``report.write(folder)`` writes them.

    Raises:
        UserError: The run, the split or the data is wrong.
    """
    if split not in (*SPLITS, ALL):
        raise unknown("split", split, (*SPLITS, ALL), "pass one of them with --split")
    run = run if isinstance(run, Run) else open_run(run)
    where = devices.pick(device or run.spec.train.device)
    spec = _revised(run.spec, data, on_error, settings)
    chosen = run.choose()
    splits = run.task_class.datasets(spec, chosen.checkpoint.metadata()["info"])
    notes = [*splits.notes, *_notes(splits, split, seen=spec.data.name == run.spec.data.name)]
    return _examine(run, chosen, spec, splits, split, device=where, notes=notes)


def _revised(
    spec: RunSpec, data: str | Path | None, on_error: str | None, settings: Sequence[str] | Mapping[str, Any]
) -> RunSpec:
    """The run's spec with the data to evaluate. Other data has other groups, and none of them is held out."""
    changes: dict[str, Any] = {}
    if data is not None:
        changes = {"name": open_registry().place(data, spec.task), "holdout_group": None}
    if on_error is not None:
        changes["on_error"] = on_error
    return revise(spec, changes, settings) if changes or settings else spec


def examine(run: Run, splits: Splits, split: str, *, notes: Sequence[str]) -> Report:
    """Evaluate a run on the data that it was trained with and that is still at hand, and draw how it learned.

    Args:
        notes: What the reader should know.

    Raises:
        UserError: The split is empty or cannot be read.
    """
    chosen = run.choose()
    device = devices.pick(run.spec.train.device)
    report = _examine(run, chosen, run.spec, splits, split, device=device, notes=notes)
    curves = partial(draw_curves, rows=run.metrics(), primary=report.primary, best_step=chosen.checkpoint.step)
    return replace(report, figures={**report.figures, "learning-curves": curves})


def _examine(
    run: Run,
    chosen: Chosen,
    spec: RunSpec,
    splits: Splits,
    split: str,
    *,
    device: torch.device,
    notes: Sequence[str],
) -> Report:
    dataset: Dataset = Joined([getattr(splits, each) for each in SPLITS]) if split == ALL else getattr(splits, split)
    place = f"{'all splits' if split == ALL else f'the {split} split'} of '{spec.data.name}'"
    if not len(dataset):
        raise UserError(f"{place} is empty\nevaluate another one with --split")
    checkpoint, which, lost = chosen
    task = run.load_task(checkpoint, spec)
    model = run.load_model(checkpoint).to(device)

    started = time.perf_counter()
    # What is unreadable is skipped here, so that all of it is named at once.
    found = Predictions.of(portions(model, task, dataset, spec=spec, device=device, on_error="skip"))
    seconds = time.perf_counter() - started
    _check(found, place, spec.data.on_error)

    measures = task.measure(found.records)
    figures = dict(measures.figures)
    if can_draw(task, spec):
        figures["attention"] = partial(draw_gallery, model=model, task=task, items=_gallery(dataset, found.skipped))
    return Report(
        task=spec.task,
        model=spec.model,
        data=spec.data.name,
        split=split,
        n=len(found.records),
        seed=spec.train.seed,
        primary=measures.primary,
        loss=found.loss,
        metrics=intervals(measures.statistics, len(found.records), spec.train.seed),
        tables=measures.tables,
        device=devices.describe(device),
        commit=commit(),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        checkpoint={
            "step": checkpoint.step,
            "weights": "averaged" if checkpoint.ema_weights else "trained",
            "chosen": which,
        },
        versions=versions(["attention-zoo", "torch", "numpy"])
        | {stamp.distribution: stamp.version for stamp in spec.plugins.values()},
        seconds=seconds,
        items_per_second=len(found.records) / seconds,
        real_time_factor=seconds / measures.duration_seconds if measures.duration_seconds else None,
        skipped=found.skipped,
        settings={
            f"decode.{key}": value for key, value in spec.decode.items() if run.spec.decode.get(key, value) != value
        },
        notes=[*notes, *([lost] if lost else [])],
        figures=figures,
    )


def _notes(splits: Splits, split: str, *, seen: bool) -> list[str]:
    """What the reader should know of the choice of a split.

    Args:
        seen: The model was trained on this data.
    """
    if split == ALL:
        counts = ", ".join(f"{len(getattr(splits, each))} {each}" for each in SPLITS)
        return [f"all items together: {counts}" + ("; those of train were trained on" if seen else "")]
    part: Dataset = getattr(splits, split)
    train = splits.train
    drawn = isinstance(part, Subset) and isinstance(train, Subset) and part.dataset is train.dataset
    if seen or split == "train" or not drawn or not len(train):
        return []
    share = f"only the share of {len(part)} items that their hashes put there was scored"
    return [f"the data has no {split} split of its own: {share}; pass --split all to score everything"]


def score(measures: Measures, n: int) -> dict[str, float]:
    """Every statistic of `n` records, without intervals: what validation during training needs."""
    weights = np.ones(n)
    return {name: float(statistic(weights)) for name, statistic in measures.statistics.items()}


def _check(found: Predictions, where: str, on_error: str) -> None:
    total = len(found.records) + len(found.unreadable)
    if found.unreadable and (on_error == "stop" or not found.records):
        listed = "".join(f"\n  {name}: {why}" for name, why in found.unreadable[:LISTED])
        more = len(found.unreadable) - LISTED
        raise UserError(
            f"{len(found.unreadable)} of {total} items of {where} cannot be read:{listed}\n"
            + (f"  and {more} more\n" if more > 0 else "")
            + "mend or remove them; 'zoo eval RUN --on-error skip' goes on without them, and so does a training that "
            "began with --set data.on_error=skip"
        )
    without = [record.id for record in found.records if record.target is None]
    if without:
        raise UserError(
            f"{len(without)} of {total} items of {where} have no target, such as '{without[0]}'\n"
            "evaluate a split with targets, or use 'zoo predict'"
        )


def _gallery(dataset: Dataset, skipped: Mapping[str, str]) -> list[Item]:
    """Items spread evenly over those that could be read."""
    readable = [index for index, item_id in enumerate(dataset.ids) if item_id not in skipped]
    chosen = np.linspace(0, len(readable) - 1, min(GALLERY, len(readable))).round().astype(int)
    return [dataset[readable[i]] for i in chosen]
