"""The examiner: a model, a task and a dataset give records; records give a report."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from zoo import device as devices
from zoo.contract import Dataset, Drawable, Item, Measures, Record, Splits, Task
from zoo.core.model import Model
from zoo.data.loader import evaluation_batches
from zoo.errors import UserError, unknown
from zoo.explain import draw_gallery
from zoo.metrics import intervals
from zoo.report import Report, commit, draw_curves, versions
from zoo.run import Run, open_run
from zoo.specs import RunSpec

SPLITS = ("train", "validation", "test")
GALLERY = 8


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model made of items.

    Args:
        loss_sum: Of the items with targets; `loss_count` is what it is divided by.
        skipped: Items that could not be read, and why.
    """

    records: Sequence[Record]
    loss_sum: float
    loss_count: float
    skipped: Mapping[str, str]

    @property
    def loss(self) -> float:
        """Mean loss; not a number where no target is known."""
        return self.loss_sum / self.loss_count if self.loss_count else math.nan


def evaluate(
    run: Run | str | Path,
    data: str | None = None,
    split: str = "test",
    *,
    on_error: Literal["stop", "skip"] | None = None,
    device: str | None = None,
    splits: Splits | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Evaluate a run's best checkpoint by validation.

    Args:
        data: A dataset's name, a folder or a file; the run's own when None.
        split: `train`, `validation` or `test`.
        on_error: What unreadable items do; as in the training when None.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; what the run was trained on when None.
        splits: The run's own data from its training, not to be loaded again; the report then has learning curves too.
        notes: What the reader should know besides.

    Raises:
        UserError: The run, the split or the data is wrong.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, "pass one of them with --split")
    run = run if isinstance(run, Run) else open_run(run)
    asked = {"name": data or run.spec.data.name, "on_error": "skip"}  # all that is unreadable is named at once, below
    spec = run.spec.model_copy(update={"data": run.spec.data.model_copy(update=asked)})
    where = devices.pick(device or spec.train.device)
    task, checkpoint = run.load_task(), run.checkpoint()
    after_training = splits is not None
    if splits is None:
        splits = type(task).datasets(spec, checkpoint.metadata()["info"])
        notes = [*splits.notes, *notes]
    dataset: Dataset = getattr(splits, split)
    if not len(dataset):
        raise UserError(f"the {split} split of '{spec.data.name}' is empty\nevaluate another one with --split")
    model = run.load_model().to(where)

    started = time.perf_counter()
    found = predictions(model, task, dataset, spec=spec, device=where)
    seconds = time.perf_counter() - started
    _check(found, f"the {split} split of '{spec.data.name}'", on_error or run.spec.data.on_error)

    measures = task.measure(found.records)
    figures = dict(measures.figures)
    if isinstance(task, Drawable):
        figures["attention"] = partial(draw_gallery, model=model, task=task, items=_gallery(dataset, found.records))
    if after_training:
        step = checkpoint.step
        figures["learning-curves"] = partial(draw_curves, rows=run.metrics(), primary=measures.primary, best_step=step)
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
        device=devices.describe(where),
        commit=commit(),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        checkpoint={"step": checkpoint.step, "weights": "averaged" if checkpoint.ema_weights else "trained"},
        versions=versions(["torch", "numpy"]) | {stamp.distribution: stamp.version for stamp in spec.plugins.values()},
        seconds=seconds,
        items_per_second=len(found.records) / seconds,
        skipped=found.skipped,
        notes=notes,
        figures=figures,
    )


def predictions(model: Model, task: Task, dataset: Dataset, *, spec: RunSpec, device: torch.device) -> Predictions:
    """Every item's record, in the dataset's order, and the mean loss."""
    parts = list(portions(model, task, dataset, spec=spec, device=device, on_error=spec.data.on_error))
    return Predictions(
        [record for part in parts for record in part.records],
        sum(part.loss_sum for part in parts),
        sum(part.loss_count for part in parts),
        {name: why for part in parts for name, why in part.skipped.items()},
    )


def portions(
    model: Model, task: Task, dataset: Dataset, *, spec: RunSpec, device: torch.device, on_error: str
) -> Iterator[Predictions]:
    """The predictions of a dataset batch by batch, without augmentation; items need no targets.

    Args:
        on_error: What an unreadable item does: `stop` or `skip`.
    """
    model.eval()
    batches = evaluation_batches(
        task,
        dataset,
        batch_size=spec.train.batch_size,
        on_error=on_error,
        workers=spec.train.workers,
        pin=device.type == "cuda",
    )
    for batch, skipped in batches:
        reasons = dict(skipped)
        if batch is None:
            yield Predictions((), 0.0, 0.0, reasons)
            continue
        batch = batch.to(device)
        loss, count = 0.0, 0.0
        with torch.no_grad(), devices.autocast(device, spec.train.precision):
            output = model(batch.inputs)
            if batch.targets is not None:
                loss, count = task.loss(output, batch)
        yield Predictions(task.decode(output, batch), float(loss), float(count), reasons)


def score(measures: Measures, n: int) -> dict[str, float]:
    """Every statistic of `n` records, without intervals: what validation during training needs."""
    weights = np.ones(n)
    return {name: float(statistic(weights)) for name, statistic in measures.statistics.items()}


def _check(found: Predictions, where: str, on_error: str) -> None:
    total = len(found.records) + len(found.skipped)
    if found.skipped and (on_error == "stop" or not found.records):
        listed = "".join(f"\n  {name}: {why}" for name, why in list(found.skipped.items())[:20])
        raise UserError(
            f"{len(found.skipped)} of {total} items of {where} cannot be read:{listed}\n"
            "mend or remove them; to go on without them, pass --on-error skip to 'zoo eval' "
            "or --set data.on_error=skip to 'zoo train'"
        )
    without = [record.id for record in found.records if record.target is None]
    if without:
        raise UserError(
            f"{len(without)} of {total} items of {where} have no target, such as '{without[0]}'\n"
            "evaluate a split with targets, or use 'zoo predict'"
        )


def _gallery(dataset: Dataset, records: Sequence[Record]) -> list[Item]:
    """Items spread evenly over those that could be read."""
    position = {item_id: index for index, item_id in enumerate(dataset.ids)}
    chosen = np.linspace(0, len(records) - 1, min(GALLERY, len(records))).round().astype(int)
    return [dataset[position[records[i].id]] for i in chosen]
