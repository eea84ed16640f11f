"""The one trainer: `fit` is the loop that trains every model of every task.

Read it top to bottom: schedule → accumulate → clip → step → log → evaluate → save. Data order, augmentation and
dropout are functions of (seed, step), so going on from a checkpoint is arithmetic, not replay.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from zoo import device as devices
from zoo import evaluator, inference, plugins
from zoo.checkpoint import Found, checkpoint_at, discard_after, prune, restore, save_checkpoint
from zoo.contract import Dataset, Splits
from zoo.core import Model
from zoo.data.loader import Loaded, training_batches
from zoo.data.sampler import Plan
from zoo.data.seeding import seed_of
from zoo.data.splits import Labelled
from zoo.distillation import criterion
from zoo.errors import UserError, counted, listing
from zoo.files import to_json, write_atomically
from zoo.optim import average, build_optimizer, learning_rate
from zoo.progress import TrainingProgress, Window
from zoo.run import Run, rank
from zoo.signals import Preempted, StopSignal
from zoo.specs import TrainSpec


@dataclasses.dataclass
class State:
    """What a training knows besides tensors; stored with every checkpoint.

    Args:
        updates: Steps that changed the weights: a step whose items all are unreadable does not.
        data: Number and hash of each split's items, which must be the same when the run is resumed.
        skipped: Items that could not be read, and why.
    """

    step: int = 0
    updates: int = 0
    best: dict[str, Any] | None = None
    since_best: int = 0
    data: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)


def fit(run: Run, model: Model, splits: Splits, stop: StopSignal, found: Found, *, show_progress: bool = True) -> State:
    """Train a model as the run's spec says.

    Args:
        model: As a new training begins with it.
        found: The checkpoint to go on from, if any, and what is wrong with others.

    Raises:
        UserError: A loss is not finite, an item cannot be read, or the data is not what the run began with.
        Preempted: `stop` asked for it; the run is saved.
    """
    spec, train = run.spec, run.spec.train
    task = run.task_class(spec, splits.info)
    device = devices.pick(train.device)
    plan = _plan(splits.train, train)
    total = train.steps or train.epochs * plan.updates_per_epoch
    eval_every = train.eval_every or plan.updates_per_epoch

    model = model.to(device)
    ema = average(model, train.ema_decay) if train.ema_decay else None
    optimizer = build_optimizer(model, train)
    state, going_on = _restored(run, splits, found, model, optimizer, ema)

    progress = TrainingProgress(total, state.step, math.ceil(total / plan.updates_per_epoch), show=show_progress)
    for note in [*splits.notes, *going_on]:
        progress.note(note)
    window = Window()
    _refuse_unstorable(splits.info)
    trackers = plugins.trackers(spec, run.folder)
    metadata = {"spec": spec.model_dump(mode="json"), "info": dict(splits.info)}

    def log(split: str, epoch: int, values: Mapping[str, float]) -> None:
        with run.metrics_file.open("a") as file:
            file.write(to_json({"step": state.step, "epoch": epoch, "split": split, **values}, indent=None) + "\n")
        for tracker in trackers:
            tracker.log(state.step, {f"{split}/{name}": value for name, value in values.items()})

    def log_window(epoch: int) -> None:
        if window.count:
            lr = learning_rate(state.step - 1, total, train)
            values = window.close() | {"lr": lr, "memory_bytes": devices.peak_memory_bytes(device)}
            log("train", epoch, values)
            progress.logged(values)

    def validate(epoch: int) -> None:
        evaluated: Any = ema.module if ema else model
        result = inference.predictions(evaluated, task, splits.validation, spec=spec, device=device)
        state.skipped.update(result.skipped)
        if not result.records:
            raise UserError(f"no item of the validation split can be read: {', '.join(list(result.skipped)[:10])}")
        measures = task.measure(result.records)
        values = {"loss": result.loss, **evaluator.score(measures, len(result.records))}
        log("validation", epoch, values)
        progress.evaluated(state.step, epoch, values, measures.primary)
        found = {
            "step": state.step,
            "metric": measures.primary,
            "value": values[measures.primary],
            "loss": result.loss,
            "higher_is_better": measures.higher_is_better,
        }
        state.since_best += 1
        if state.best is not None:  # older runs do not say which way is better
            state.best = {"higher_is_better": measures.higher_is_better, **state.best}
        if math.isfinite(found["value"]) and (state.best is None or rank(found) > rank(state.best)):
            state.best, state.since_best = found, 0

    def save() -> None:
        trainer = dataclasses.asdict(state)
        save_checkpoint(
            run.checkpoints, state.step, model=model, optimizer=optimizer, ema=ema, trainer=trainer, metadata=metadata
        )
        prune(run.checkpoints, train.keep, state.best["step"] if state.best else None)

    loss_of = criterion(task, spec, device)
    forward: nn.Module = torch.compile(model) if train.compile else model  # pyright: ignore[reportAssignmentType]
    updates = training_batches(
        task,
        splits.train,
        plan.updates(state.step),
        seed=train.seed,
        on_error=spec.data.on_error,
        workers=train.workers,
        pin=device.type == "cuda",
    )
    with ExitStack() as closing, progress:
        for tracker in trackers:
            closing.callback(tracker.close)
        while state.step < total and (train.patience is None or state.since_best < train.patience):
            asked_at = time.perf_counter()
            update, loaded = next(updates)
            window.waited += time.perf_counter() - asked_at

            lr = learning_rate(state.step, total, train)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["lr_scale"]

            model.train()
            optimizer.zero_grad()
            loss_sum = count = 0.0
            for micro, (batch, skipped) in enumerate(loaded):
                state.skipped.update(skipped)
                if batch is None:
                    continue
                torch.manual_seed(seed_of("dropout", train.seed, state.step, micro))
                batch = batch.to(device)
                with devices.autocast(device, train.precision):
                    loss, number = loss_of(forward(batch.inputs), batch)
                loss.backward()
                loss_sum, count = loss_sum + loss.item(), count + float(number)
                window.saw(batch)

            if count:
                # Sums so far; divided once, by the true count of all micro-batches.
                gradients = [p.grad for p in model.parameters() if p.grad is not None]
                torch._foreach_mul_(gradients, 1 / count)  # pyright: ignore[reportPrivateImportUsage]
                norm = float(nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm or math.inf))
                if not math.isfinite(loss_sum) or not math.isfinite(norm):
                    save()
                    raise _not_finite(run, state.step, loss_sum / count, norm, loaded)
                optimizer.step()
                state.updates += 1
                if ema:
                    ema.update_parameters(model)
                window.stepped(loss_sum, count, norm)
            state.step += 1

            progress.step(state.step, update.epoch)
            if state.step % train.log_every == 0 or state.step == total:
                log_window(update.epoch)

            paused_at = time.perf_counter()
            evaluating = state.step % eval_every == 0 or state.step == total
            if evaluating and len(splits.validation):
                validate(update.epoch)
            asked = stop.number  # once: it may come at any time
            if evaluating or asked or (train.save_every and state.step % train.save_every == 0):
                save()
            window.pause(time.perf_counter() - paused_at)
            if asked and state.step < total:
                raise Preempted(asked, run.folder, state.step)
        log_window(plan.epoch_of(state.step - 1))  # what patience cut short
    return state


def _plan(data: Dataset, train: TrainSpec) -> Plan:
    return Plan(
        len(data),
        train.batch_size,
        lengths=data.lengths,
        batch_length=train.batch_length,
        accumulate=train.accumulate,
        seed=train.seed,
    )


def _refuse_unstorable(info: Mapping[str, Any]) -> None:
    for key, value in info.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"Splits.info['{key}'] cannot be stored with the weights: {error}\n"
                "make it of JSON values, such as by .tolist()"
            ) from error


def _restored(
    run: Run, splits: Splits, found: Found, model: nn.Module, optimizer: Optimizer, ema: AveragedModel | None
) -> tuple[State, list[str]]:
    """The state to go on from, tensors put back, and what the user should know of it.

    Raises:
        UserError: Every checkpoint is broken, or the data is not what the run began with.
    """
    parts: dict[str, Dataset] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    data = {name: {"items": len(part), "sha256": _fingerprint(part)} for name, part in parts.items()}
    newest, notes = found.checkpoint, list(found.broken)
    if newest is None:
        if notes:
            listed = "".join(f"\n  {note}" for note in notes)
            raise UserError(f"no checkpoint of '{run.folder}' is whole:{listed}\ntrain anew in another folder")
        begun = run.metrics()
        _forget_after(run, 0)
        return State(data=data), ["no checkpoint is left: the training begins anew"] if begun else []
    restore(newest, model, optimizer, ema)
    state = State(**newest.trainer())
    for name in parts:
        before, now = state.data[name], data[name]
        if before != now:
            others = " others" if before["items"] == now["items"] else ""
            raise UserError(
                f"the {name} data of '{run.folder}' changed: it had {counted(before['items'], 'item')}, now it has "
                f"{now['items']:,}{others}\nput the data back as it was, or train in another folder"
            )
    best = state.best["step"] if state.best else state.step
    if best != state.step and checkpoint_at(run.checkpoints, best) is None:
        left, lost = run.best_left(best, newest)
        state.best = left.evaluation if left else None
        notes.append(lost)
    if run.spec.plugins != plugins.stamps(run.spec.task):
        notes.append("the plugin's code changed since the run began; the rest may differ from a run never stopped")
    discard_after(run.checkpoints, state.step)
    _forget_after(run, state.step)
    return state, [*notes, f"going on from step {state.step}"]


def _fingerprint(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for index, item_id in enumerate(dataset.ids):
        digest.update(f"{item_id}\n{dataset.fingerprint(index)}\n".encode("utf-8", "surrogateescape"))
    if isinstance(dataset, Labelled):
        digest.update(repr(list(dataset.targets)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _forget_after(run: Run, step: int) -> None:
    """Drop the lines of metrics.jsonl that a killed run wrote after its last checkpoint; they come again."""
    kept = [row for row in run.metrics() if row["step"] <= step]
    write_atomically(run.metrics_file, "".join(json.dumps(row) + "\n" for row in kept))


def _not_finite(run: Run, step: int, loss: float, norm: float, loaded: Sequence[Loaded]) -> UserError:
    ids = [item for batch, _ in loaded if batch is not None for item in batch.ids]
    return UserError(
        f"step {step + 1} gave loss {loss:.6g} and gradient norm {norm:.6g}; its update was not made\n"
        f"items of the step: {listing(ids, 8)}\n"
        f"the weights of step {step} are saved in '{run.folder}'\n"
        "look at these items, or train in another folder with a lower train.lr or --precision fp32"
    )
