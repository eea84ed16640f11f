"""The checks of a task: its gradients, invariances, records and resume. Each is a function of the task's name."""

import json
import math
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from zoo import plugins
from zoo.contract import Batch, Elaborate, Generating, Record, Splitting, Task
from zoo.core import Model, Output
from zoo.data.seeding import item_rng
from zoo.specs import RunSpec
from zoo.testing.subject import NUM_ITEMS, SETTINGS, Subject, subject_of
from zoo.training import train

TOLERANCE = 1e-5
OVERFIT_STEPS = 300


def formula(task: str) -> None:
    """The cost formula counts as many parameters as the model has."""
    subject = subject_of(task)
    cost = plugins.cost(subject.spec)
    if cost is None:
        raise SkipTest("the task has no formula; 'zoo show' says so")
    counted, built = cost.parameters, sum(p.numel() for p in subject.model().parameters())
    assert counted == built, f"the formula says {counted:,} parameters, {subject.model_name} has {built:,}"


def gradients(task: str) -> None:
    """Forward and backward: the loss is finite, and every parameter gets a finite gradient."""
    subject = subject_of(task)
    model, batch = subject.model(), subject.batch(subject.indices)
    loss, count = subject.task.loss(model.train()(batch.inputs), batch)
    assert count > 0, f"the loss counts {count} of {len(batch.ids)} items"
    (loss / count).backward()
    assert math.isfinite(loss.item()), f"the loss is {loss.item()}"
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient reaches {', '.join(without)}"
    broken = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    assert not broken, f"the gradient is not finite at {', '.join(broken)}"


@torch.no_grad()
def alone_as_in_a_batch(task: str) -> None:
    """Padding and packing change nothing: an item alone gives what it gives among others, in any order."""
    subject = subject_of(task)
    model = subject.model()
    rows = [model(subject.batch([index]).inputs).logits for index in subject.indices]
    alone = [each.flatten() for each in rows]
    for order in (list(subject.indices), list(subject.indices)[::-1]):
        together = _by_item(model(subject.batch(order).inputs), [len(rows[index]) for index in order])
        for index, logits in zip(order, together, strict=True):
            shapes = f"{tuple(logits.shape)} values in a batch, {tuple(alone[index].shape)} alone"
            assert logits.shape == alone[index].shape, f"item {index} has {shapes}"
            difference = (logits - alone[index]).abs().max().item()
            assert difference <= TOLERANCE, f"item {index} differs by {difference:.1e}, more than {TOLERANCE:.0e}"


def _by_item(output: Output, num_rows: Sequence[int]) -> list[Tensor]:
    """Each item's logits, without those of pads, flat.

    Args:
        num_rows: Of each item alone.
    """
    logits, layout, num_items = output.logits, output.layout, len(num_rows)
    if layout.cu_seqlens is not None and len(logits) == int(layout.cu_seqlens[-1]):
        return [each.flatten() for each in logits.split(layout.cu_seqlens.diff().tolist())]
    if layout.packed and len(logits) == sum(num_rows):  # rows of some tokens only
        return [each.flatten() for each in logits.split(list(num_rows))]
    assert len(logits) == num_items, f"{len(logits)} rows of logits for {num_items} items"
    if layout.valid is not None and logits.shape[:2] == layout.valid.shape:
        return [each[valid].flatten() for each, valid in zip(logits, layout.valid, strict=True)]
    return [each.flatten() for each in logits]


@torch.no_grad()
def loss_adds_up(task: str) -> None:
    """The loss is (sum, count): that of a batch is the sum of its items', so that accumulation is exact."""
    subject = subject_of(task)
    model = subject.model()

    def loss(indices: Sequence[int]) -> tuple[float, float]:
        batch = subject.batch(indices)
        total, count = subject.task.loss(model(batch.inputs), batch)
        return total.item(), float(count)

    parts = [loss([index]) for index in subject.indices]
    for found, expected, what in zip(
        loss(subject.indices), map(sum, zip(*parts, strict=True)), ("sum", "count"), strict=True
    ):
        assert math.isclose(found, expected, rel_tol=TOLERANCE), f"{what} {found} of the batch, {expected} of its items"


@torch.no_grad()
def records(task: str) -> None:
    """Predictions are a record an item, in order, known target or not; they can be measured and described."""
    subject = subject_of(task)
    model, batch = subject.model(), subject.batch(subject.indices)
    records = _said(subject.task, model, batch)
    assert all(isinstance(record, Record) for record in records), "a prediction is something else than a zoo.Record"
    assert tuple(record.id for record in records) == batch.ids, "the records' ids are not the batch's, in order"
    unknown = subject.batch(subject.indices, targets=False)
    blind = _said(subject.task, model, unknown)
    if isinstance(subject.task, Generating):  # what it makes without targets may be another thing
        again = _said(subject.task, model, unknown)
        assert [r.prediction for r in blind] == [r.prediction for r in again], "`generate` is no function"
        assert tuple(record.id for record in blind) == batch.ids, "`generate`: the records' ids are not the batch's"
    else:
        assert [r.prediction for r in blind] == [r.prediction for r in records], "predictions depend on the targets"
    measures = subject.task.measure(records)
    assert measures.primary in measures.statistics, f"primary '{measures.primary}' is no statistic"
    for name, statistic in measures.statistics.items():
        assert isinstance(statistic(np.ones(len(records))), float), f"statistic '{name}' is no float"
    said = [dict(subject.task.describe(record, 3)) for record in blind]
    assert all(list(each) == list(said[0]) for each in said), "describe gives differing keys"
    nested = [key for key, value in said[0].items() if not isinstance(value, str | int | float | bool | None)]
    assert not nested, f"describe gives values that are not flat JSON: {', '.join(nested)}"
    json.dumps(said)
    if isinstance(subject.task, Elaborate):
        json.dumps([dict(subject.task.details(record)) for record in blind])
    if isinstance(subject.task, Splitting):
        _of_parts(subject, subject.task, model, records)


def _said(task: Task, model: Model, batch: Batch) -> Sequence[Record]:
    """What the task makes of a batch, as it is asked when evaluating."""
    if isinstance(task, Generating):
        return task.generate(model, batch, None if batch.targets is None else model(batch.inputs))
    return task.decode(model(batch.inputs), batch)


def _of_parts(subject: Subject, task: Splitting, model: Model, records: Sequence[Record]) -> None:
    """Items in parts give what they give whole, where one part is the whole."""
    parts = task.parts(subject.splits.train)
    assert len(parts.dataset) == len(parts.whole), "`parts` does not say of each part whose it is"
    assert list(dict.fromkeys(parts.whole)) == list(range(len(subject.splits.train))), (
        "the parts of an item do not follow each other, or an item has none"
    )
    for index, record in zip(subject.indices, records, strict=True):
        own = [place for place, whole in enumerate(parts.whole) if whole == index]
        batch = subject.batch(own, dataset=parts.dataset)
        found = _said(subject.task, model, batch)
        joined = task.join(record.id, found)
        assert task.join("another", found).id == "another", "`join` does not give the record the id that it is told"
        assert joined.target == record.target, f"item '{record.id}' in parts has another target than whole"
        assert list(subject.task.describe(joined, 3)) == list(subject.task.describe(record, 3)), (
            f"item '{record.id}' in parts is described by other keys than whole"
        )
        if len(own) == 1:
            assert joined.prediction == record.prediction, f"item '{record.id}' in one part is predicted otherwise"


def transform(task: str) -> None:
    """`transform` is a function of its generator alone, whatever the global ones hold: resume depends on it."""
    subject = subject_of(task)
    for index in subject.indices:
        item = subject.splits.train[index]
        for evaluating in (True, False):
            samples: list[Any] = []
            for seed in (1, 2):
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(seed)
                rng = None if evaluating else item_rng(0, 0, item.id)
                samples.append(subject.task.transform(item, rng))
            kind = "without a generator" if evaluating else "with equal generators"
            assert _equal(*samples), f"two calls for item '{item.id}' {kind} differ"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return np.array_equal(one, other) if isinstance(one, np.ndarray | Tensor) else one == other


def overfits(task: str) -> None:
    """It can learn: the loss of one batch, repeated, falls below a tenth, and the primary figure gets no worse."""
    subject = subject_of(task)
    model, batch = subject.model(awake=False), subject.batch(subject.shortest)

    @torch.no_grad()
    def primary() -> tuple[str, float]:
        """The figure that picks the best checkpoint, the higher the better."""
        measures = subject.task.measure(_said(subject.task, model, batch))
        value = measures.statistics[measures.primary](np.ones(len(batch.ids)))
        return measures.primary, value if measures.higher_is_better else -value

    name, before = primary()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    first = last = math.nan
    for step in range(OVERFIT_STEPS):
        total, count = subject.task.loss(model(batch.inputs), batch)
        last = total.item() / float(count)
        first = last if step == 0 else first
        if last < first / 10:
            after = primary()[1]
            assert not after < before, f"'{name}' got worse while the loss fell; is Measures.higher_is_better right?"
            return
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    raise AssertionError(f"the loss went from {first:.3g} to {last:.3g} in {OVERFIT_STEPS} steps")


@torch.no_grad()
def save_and_load(task: str) -> None:
    """A model built again from its stored spec, info and weights gives the same output, bit for bit."""
    subject = subject_of(task)
    model, batch = subject.model(), subject.batch(subject.indices)
    weights = safetensors.torch.save({name: value.contiguous() for name, value in model.state_dict().items()})
    spec = RunSpec.model_validate_json(subject.spec.model_dump_json())
    info = json.loads(json.dumps(dict(subject.splits.info)))
    torch.manual_seed(1)
    task_class = plugins.task_class(task)
    again = task_class.build(spec).eval()
    again.load_state_dict(safetensors.torch.load(weights))
    before, after = model(batch.inputs), again(batch.inputs)
    assert torch.equal(after.logits, before.logits), "the output is another after loading"
    losses = [float(each.loss(before, batch)[0]) for each in (subject.task, task_class(spec, info))]
    assert losses[0] == losses[1], "the task is another when made from its stored info"


def resume(task: str) -> None:
    """Two steps, a stop and two more give the weights of four steps, bit for bit."""
    subject = subject_of(task)
    size = max(1, min(NUM_ITEMS, len(subject.splits.train) // 2))
    check_resume(subject.model_name, {"train.batch_size": size}, data=subject.data, task=task)


def check_resume(model: str, settings: Mapping[str, Any], *, data: str | None = None, task: str | None = None) -> None:
    """Hold `resume` of a model with settings of its own, on its own data or on other.

    Raises:
        AssertionError: Some weights or a state are other than those of a run that was never stopped.
    """
    steps = {"train.steps": 4, "train.save_every": 2, "train.eval_every": 4, "train.keep": 2, "train.workers": 0}
    asked = {**SETTINGS, **steps, **settings}
    with tempfile.TemporaryDirectory() as place:
        whole, stopped = Path(place, "whole"), Path(place, "stopped")
        train(model, data=data, task=task, settings=asked, out=whole, show_progress=False)
        shutil.copytree(whole, stopped)
        last = Path("checkpoints", "step-00000004")
        shutil.rmtree(stopped / last)
        (stopped / "status.json").unlink()
        train(model, data=data, task=task, settings=asked, out=stopped, resume=True, show_progress=False)
        one, other = (
            {path.relative_to(folder / last): path.read_bytes() for path in (folder / last).rglob("*.safetensors")}
            for folder in (whole, stopped)
        )
        assert one.keys() == other.keys(), "a resumed run saves other files"
        assert {Path("model.safetensors"), Path("state/optimizer.safetensors")} <= one.keys()
        for file, content in one.items():
            assert content == other[file], f"{file} is another after a resume"


CHECKS = (
    formula,
    gradients,
    alone_as_in_a_batch,
    loss_adds_up,
    records,
    transform,
    overfits,
    save_and_load,
    resume,
)
