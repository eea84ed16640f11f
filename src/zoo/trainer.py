"""The one trainer: `train` sets a run up and reports on it, `fit` is the loop that trains every model of every task.

Read `fit` top to bottom: schedule → accumulate → clip → step → log → evaluate → save. Data order, augmentation and
dropout are functions of (seed, step), so going on from a checkpoint is arithmetic, not replay.
"""

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import device as devices
from zoo import evaluator, plugins, registry
from zoo.checkpoint import newest_checkpoint, prune, restore, save_checkpoint, write_atomically
from zoo.contract import Splits
from zoo.data.loader import training_batches
from zoo.data.sampler import Plan
from zoo.data.seeding import seed_of
from zoo.errors import UserError
from zoo.optim import average, build_optimizer, learning_rate
from zoo.progress import TrainingProgress, Window
from zoo.run import Run, create_run, resume_run
from zoo.signals import Preempted, StopSignal


@dataclasses.dataclass
class State:
    """What a training knows besides tensors; stored with every checkpoint."""

    step: int = 0
    best: dict[str, Any] | None = None
    since_best: int = 0
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)


def train(
    name: str,
    *,
    recipe: str | None = None,
    data: str | None = None,
    task: str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Run:
    """Train a registered model and write its test report.

    Args:
        recipe: A recipe of the model; its default one when neither `recipe` nor `data` is given.
        data: A dataset's name, a folder or a file.
        task: Another task than the model's own.
        settings: Spec values by dotted key, ``{"train.lr": 1e-3}`` or ``["train.lr=1e-3"]``.
        steps, seed, device, precision: Short for ``train.steps`` and so on in `settings`.
        out: The run folder; ``runs/NAME-DATETIME`` when not given.
        resume: Go on with the run in `out`, bit for bit.

    Returns:
        The finished run.

    Raises:
        UserError: An argument, the data or the folder is wrong.
        Preempted: A signal asked to stop; the run is saved and can be resumed.
    """
    flags = {"steps": steps, "seed": seed, "device": device, "precision": precision}
    said = [f"train.{key}={value}" for key, value in flags.items() if value is not None]
    given = (
        [f"{key}={json.dumps(value)}" for key, value in settings.items()] if isinstance(settings, Mapping) else settings
    )
    asked = registry.open_registry().resolve(name, recipe=recipe, data=data, task=task, settings=[*given, *said])
    devices.pick(asked.spec.train.device)
    if resume:
        run = resume_run(out, asked)
        splits = plugins.task_class(run.spec.task).datasets(run.spec)
    else:
        # The data is looked at before a folder is made: a mistyped path leaves nothing behind.
        splits = plugins.task_class(asked.spec.task).datasets(asked.spec)
        spec = registry.settle(asked, splits.settings).spec
        run = create_run(out, spec.model_copy(update={"plugins": plugins.stamps(spec.task)}))
    if run.status().get("state") == "done":
        return run
    run.set_status("running")
    try:
        state = fit(run, splits, show_progress=show_progress)
        notes = [*splits.notes, *(f"skipped in training: {id}: {why}" for id, why in state.skipped.items())]
        evaluator.evaluate(run, notes=notes, splits=splits).write(run.folder)
    except Preempted as stopped:
        run.set_status("preempted", why=str(stopped), step=stopped.step)
        raise
    except BaseException as error:
        run.set_status("failed", why=f"{type(error).__name__}: {error}")
        raise
    run.set_status("done", step=state.step, best=state.best)
    return run


def fit(run: Run, splits: Splits, *, show_progress: bool = True) -> State:
    """Train the run's spec on `splits`, from its newest checkpoint where there is one."""
    spec, train = run.spec, run.spec.train
    task = plugins.task_class(spec.task)(spec, splits.info)
    device = devices.pick(train.device)
    plan = Plan(len(splits.train), train.batch_size, accumulate=train.accumulate, seed=train.seed)
    total = train.steps or train.epochs * plan.updates_per_epoch
    eval_every = train.eval_every or plan.updates_per_epoch

    torch.manual_seed(seed_of("weights", train.seed))
    model = task.build(spec).to(device)
    ema = average(model, train.ema_decay) if train.ema_decay else None
    optimizer = build_optimizer(model, train)
    state = State()
    newest, broken = newest_checkpoint(run.checkpoints)
    if newest is not None:
        restore(newest, model, optimizer, ema)
        state = State(**newest.trainer())
    _forget_after(run, state.step)

    progress = TrainingProgress(total, state.step, math.ceil(total / plan.updates_per_epoch), show=show_progress)
    for note in [*splits.notes, *broken, *([f"going on from step {state.step}"] if newest else [])]:
        progress.note(note)
    trackers = plugins.trackers(spec, run.folder)
    metadata = {"spec": spec.model_dump(mode="json"), "info": dict(splits.info)}

    def log(split: str, epoch: int, values: Mapping[str, float]) -> None:
        with run.metrics_file.open("a") as file:
            file.write(json.dumps({"step": state.step, "epoch": epoch, "split": split, **values}) + "\n")
        for tracker in trackers:
            tracker.log(state.step, {f"{split}/{name}": value for name, value in values.items()})

    def validate(epoch: int) -> None:
        evaluated = ema.module if ema else model
        result = evaluator.predictions(evaluated, task, splits.validation, spec=spec, device=device)
        measures = task.measure(result.records)
        values = {"loss": result.loss, **evaluator.score(measures, len(result.records))}
        log("validation", epoch, values)
        progress.evaluated(state.step, epoch, values, measures.primary)
        value = values[measures.primary]
        gain = 0.0 if state.best is None else value - state.best["value"]
        if state.best is None or (gain > 0 if measures.higher_is_better else gain < 0):
            state.best, state.since_best = {"step": state.step, "metric": measures.primary, "value": value}, 0
        else:
            state.since_best += 1

    def save() -> None:
        trainer = dataclasses.asdict(state)
        save_checkpoint(
            run.checkpoints, state.step, model=model, optimizer=optimizer, ema=ema, trainer=trainer, metadata=metadata
        )
        prune(run.checkpoints, train.keep, state.best["step"] if state.best else None)

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
    window = Window()
    with StopSignal() as stop, progress:
        while state.step < total and (train.patience is None or state.since_best < train.patience):
            asked_at = time.perf_counter()
            update, loaded = next(updates)
            window.waited += time.perf_counter() - asked_at

            lr = learning_rate(state.step, total, train)
            for group in optimizer.param_groups:
                group["lr"] = lr

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
                    loss, number = task.loss(forward(batch.inputs), batch)
                loss.backward()
                loss_sum, count = loss_sum + loss.item(), count + float(number)
                window.saw(batch)

            if count:
                # Sums so far; divided once, by the true count of all micro-batches.
                gradients = [p.grad for p in model.parameters() if p.grad is not None]
                torch._foreach_mul_(gradients, 1 / count)
                norm = float(nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm or math.inf))
                if not math.isfinite(loss_sum) or not math.isfinite(norm):
                    save()
                    raise _not_finite(run, state.step, loss_sum / count, norm, loaded)
                optimizer.step()
                if ema:
                    ema.update_parameters(model)
                window.stepped(loss_sum, count, norm)
            state.step += 1

            progress.step(state.step, update.epoch)
            if window.count and (state.step % train.log_every == 0 or state.step == total):
                values = window.close() | {"lr": lr, "memory_bytes": devices.peak_memory_bytes(device)}
                log("train", update.epoch, values)
                progress.logged(values)

            paused_at = time.perf_counter()
            evaluating = state.step % eval_every == 0 or state.step == total
            if evaluating and len(splits.validation):
                validate(update.epoch)
            if evaluating or stop.number or (train.save_every and state.step % train.save_every == 0):
                save()
            window.pause(time.perf_counter() - paused_at)
            if stop.number and state.step < total:
                raise Preempted(stop.number, run.folder, state.step)
    for tracker in trackers:
        tracker.close()
    return state


def _forget_after(run: Run, step: int) -> None:
    """Drop the lines of metrics.jsonl that a killed run wrote after its last checkpoint; they come again."""
    kept = [row for row in run.metrics() if row["step"] <= step]
    write_atomically(run.metrics_file, "".join(json.dumps(row) + "\n" for row in kept))


def _not_finite(run: Run, step: int, loss: float, norm: float, loaded: Sequence[Any]) -> UserError:
    ids = [item for batch, _ in loaded if batch is not None for item in batch.ids]
    listed = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return UserError(
        f"step {step + 1} gave loss {loss:.6g} and gradient norm {norm:.6g}; its update was not made\n"
        f"items of the step: {listed}\n"
        f"the weights of step {step} are saved in '{run.folder}'; "
        "look at these items, lower train.lr, or train with --precision fp32"
    )
