"""The one trainer: `train` sets a run up and reports on it, `fit` is the loop that trains every model of every task.

Read `fit` top to bottom: schedule → accumulate → clip → step → log → evaluate → save. Data order, augmentation and
dropout are functions of (seed, step), so going on from a checkpoint is arithmetic, not replay.
"""

import dataclasses
import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from zoo import device as devices
from zoo import evaluator, plugins, registry
from zoo.checkpoint import discard_after, newest_checkpoint, prune, restore, save_checkpoint
from zoo.contract import Dataset, Splits
from zoo.cost import training_memory_bytes
from zoo.data.loader import Loaded, training_batches
from zoo.data.sampler import Plan
from zoo.data.seeding import seed_of
from zoo.errors import UserError, counted
from zoo.files import write_atomically
from zoo.optim import average, build_optimizer, learning_rate
from zoo.progress import TrainingProgress, Window, say
from zoo.run import Run, new_run, open_run, refuse_other
from zoo.signals import Preempted, StopSignal


@dataclasses.dataclass
class State:
    """What a training knows besides tensors; stored with every checkpoint.

    Args:
        data: Number and hash of each split's items, which must be the same when the run is resumed.
        skipped: Items that could not be read, and why.
    """

    step: int = 0
    best: dict[str, Any] | None = None
    since_best: int = 0
    data: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
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
        Preempted: A signal asked to stop; the run can be resumed.
    """
    flags = {"steps": steps, "seed": seed, "device": device, "precision": precision}
    asked = {"recipe": recipe, "data": data, "task": task, "settings": _with_flags(settings, flags)}
    if resume:
        run = _run_to_resume(out, name, **asked)
        if run.status().get("state") == "done" and run.report() is not None:
            say("the run is finished already; this is its report", show=show_progress)
            return run
        splits, locked = _data_again(run), run.lock()
    else:
        splits, locked = _begin(out, name, **asked)
    with locked as run, StopSignal() as stop, _followed(run, stop):
        state = fit(run, splits, stop, show_progress=show_progress)
        stop.at_once = True  # nothing can be lost any more
        notes = [*splits.notes, *_skipped_note(state.skipped)]
        evaluator.examine(run, splits, "test", notes=notes).write(run.folder)
        run.set_status("done", step=state.step, best=state.best, skipped=state.skipped)
    return run


def _with_flags(settings: Sequence[str] | Mapping[str, Any], flags: Mapping[str, Any]) -> Any:
    """The settings with what is short for ``train.KEY`` among them."""
    said = {f"train.{key}": value for key, value in flags.items() if value is not None}
    if isinstance(settings, Mapping):
        return {**settings, **said}
    return [*settings, *(f"{key}={value}" for key, value in said.items())]


def _begin(out: str | Path | None, name: str, **asked: Any) -> tuple[Splits, AbstractContextManager[Run]]:
    """The data of a new run, and its folder, which is made when it is entered."""
    resolved = registry.open_registry().resolve(name, **asked)
    devices.pick(resolved.spec.train.device)
    # The data is looked at before a folder is made: a mistyped path leaves nothing behind.
    splits = plugins.task_class(resolved.spec.task).datasets(resolved.spec)
    _refuse_empty(splits, resolved.spec.data.name)
    spec = registry.settle(resolved, splits.settings).spec
    return splits, new_run(out, spec.model_copy(update={"plugins": plugins.stamps(spec.task)}))


def _data_again(run: Run) -> Splits:
    """The data of a run that goes on. What was learnt from it, such as a tokenizer, is not learnt again."""
    newest, _ = newest_checkpoint(run.checkpoints)
    return run.task_class.datasets(run.spec, newest and newest.metadata()["info"])


@contextmanager
def _followed(run: Run, stop: StopSignal) -> Iterator[None]:
    """The run's status says what becomes of it, if it does not come to its end."""
    run.set_status("running")
    try:
        yield
    except (Preempted, KeyboardInterrupt) as stopped:
        by = stopped.number if isinstance(stopped, Preempted) else stop.number or signal.SIGINT
        newest, _ = newest_checkpoint(run.checkpoints)
        preempted = Preempted(by, run.folder, newest.step if newest else None)
        run.set_status("preempted", why=str(preempted))
        raise preempted from None
    except BaseException as error:
        told = _too_large(run) if devices.is_out_of_memory(error) else error
        run.set_status("failed", why=f"{type(told).__name__}: {told}")
        if told is error:
            raise
        raise told from error


def _run_to_resume(out: str | Path | None, name: str, **asked: Any) -> Run:
    """The run in `out`, if it was made from what the command says. What it does not say, the run's spec says."""
    if out is None:
        raise UserError("--resume needs the run's folder\nname it with --out")
    run = open_run(out)
    if name != run.spec.model or any(asked.values()):
        chosen = asked["data"] or (None if asked["recipe"] or name != run.spec.model else run.spec.data.name)
        resolved = registry.open_registry().resolve(name, **{**asked, "data": chosen})
        refuse_other(run, resolved, recipe=asked["recipe"] is not None)
    devices.pick(run.spec.train.device)
    return run


def _refuse_empty(splits: Splits, name: str) -> None:
    for split in ("train", "test"):
        if not len(getattr(splits, split)):
            raise UserError(
                f"the {split} split of '{name}' is empty\n"
                "add items, or set data.test_fraction and data.validation_fraction so that every split gets some"
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


def _too_large(run: Run) -> UserError:
    spec, cost = run.spec, plugins.cost(run.spec)
    needs = f", about {training_memory_bytes(cost, spec.train) / 2**30:.2g} GiB by formula," if cost else ""
    return UserError(
        f"training '{spec.model}' with batches of {spec.train.batch_size}{needs} does not fit into the memory of "
        f"{devices.pick(spec.train.device).type}\n"
        "lower train.batch_size; train.accumulate, raised by as much, keeps the updates the same"
    )


def _skipped_note(skipped: Mapping[str, str]) -> list[str]:
    if not skipped:
        return []
    listed = "; ".join(f"{name} ({why})" for name, why in list(skipped.items())[:20])
    more = f"; {len(skipped) - 20} more, all in status.json" if len(skipped) > 20 else ""
    return [f"{counted(len(skipped), 'item')} could not be read in training: skipped: {listed}{more}"]


def fit(run: Run, splits: Splits, stop: StopSignal, *, show_progress: bool = True) -> State:
    """Train the run's spec on `splits`, from its newest checkpoint where there is one.

    Raises:
        UserError: A loss is not finite, an item cannot be read, or the data is not what the run began with.
        Preempted: `stop` asked for it; the run is saved.
    """
    spec, train = run.spec, run.spec.train
    task = run.task_class(spec, splits.info)
    device = devices.pick(train.device)
    plan = Plan(
        len(splits.train),
        train.batch_size,
        lengths=splits.train.lengths,
        batch_length=train.batch_length,
        accumulate=train.accumulate,
        seed=train.seed,
    )
    total = train.steps or train.epochs * plan.updates_per_epoch
    eval_every = train.eval_every or plan.updates_per_epoch

    torch.manual_seed(seed_of("weights", train.seed))
    model = run.task_class.build(spec).to(device)
    ema = average(model, train.ema_decay) if train.ema_decay else None
    optimizer = build_optimizer(model, train)
    state, going_on = _restored(run, splits, model, optimizer, ema)

    progress = TrainingProgress(total, state.step, math.ceil(total / plan.updates_per_epoch), show=show_progress)
    for note in [*splits.notes, *going_on]:
        progress.note(note)
    window = Window()
    _refuse_unstorable(splits.info)
    trackers = plugins.trackers(spec, run.folder)
    metadata = {"spec": spec.model_dump(mode="json"), "info": dict(splits.info)}

    def log(split: str, epoch: int, values: Mapping[str, float]) -> None:
        with run.metrics_file.open("a") as file:
            file.write(json.dumps({"step": state.step, "epoch": epoch, "split": split, **values}) + "\n")
        for tracker in trackers:
            tracker.log(state.step, {f"{split}/{name}": value for name, value in values.items()})

    def log_window(epoch: int) -> None:
        if window.count:
            lr = optimizer.param_groups[0]["lr"]
            values = window.close() | {"lr": lr, "memory_bytes": devices.peak_memory_bytes(device)}
            log("train", epoch, values)
            progress.logged(values)

    def validate(epoch: int) -> None:
        evaluated: Any = ema.module if ema else model
        result = evaluator.predictions(evaluated, task, splits.validation, spec=spec, device=device)
        state.skipped.update(result.skipped)
        if not result.records:
            raise UserError(f"no item of the validation split can be read: {', '.join(list(result.skipped)[:10])}")
        measures = task.measure(result.records)
        values = {"loss": result.loss, **evaluator.score(measures, len(result.records))}
        log("validation", epoch, values)
        progress.evaluated(state.step, epoch, values, measures.primary)
        # On a small split many evaluations tie; the lower loss then decides.
        sign = 1 if measures.higher_is_better else -1
        found = {"step": state.step, "metric": measures.primary, "value": values[measures.primary], "loss": result.loss}
        state.since_best += 1
        if math.isfinite(found["value"]) and (state.best is None or _rank(found, sign) > _rank(state.best, sign)):
            state.best, state.since_best = found, 0

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
    with ExitStack() as closing, progress:
        for tracker in trackers:
            closing.callback(tracker.close)
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
                torch._foreach_mul_(gradients, 1 / count)  # pyright: ignore[reportPrivateImportUsage]
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


def _rank(evaluation: Mapping[str, Any], sign: int) -> tuple[float, float]:
    return sign * evaluation["value"], -evaluation["loss"]


def _restored(
    run: Run, splits: Splits, model: nn.Module, optimizer: Optimizer, ema: AveragedModel | None
) -> tuple[State, list[str]]:
    """The state to go on from, tensors put back, and what the user should know of it.

    Raises:
        UserError: Every checkpoint is broken, or the data is not what the run began with.
    """
    parts: dict[str, Dataset] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    data = {name: {"items": len(part), "sha256": _fingerprint(part)} for name, part in parts.items()}
    newest, notes = newest_checkpoint(run.checkpoints)
    if newest is None:
        if notes:
            listed = "".join(f"\n  {note}" for note in notes)
            raise UserError(f"no checkpoint of '{run.folder}' is whole:{listed}\ntrain anew in another folder")
        _forget_after(run, 0)
        return State(data=data), []
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
    if run.spec.plugins != plugins.stamps(run.spec.task):
        notes.append("the plugin's code changed since the run began; the rest may differ from a run never stopped")
    discard_after(run.checkpoints, state.step)
    _forget_after(run, state.step)
    return state, [*notes, f"going on from step {state.step}"]


def _fingerprint(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for index, item_id in enumerate(dataset.ids):
        digest.update(f"{item_id}\n{dataset.fingerprint(index)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _forget_after(run: Run, step: int) -> None:
    """Drop the lines of metrics.jsonl that a killed run wrote after its last checkpoint; they come again."""
    kept = [row for row in run.metrics() if row["step"] <= step]
    write_atomically(run.metrics_file, "".join(json.dumps(row) + "\n" for row in kept))


def _not_finite(run: Run, step: int, loss: float, norm: float, loaded: Sequence[Loaded]) -> UserError:
    ids = [item for batch, _ in loaded if batch is not None for item in batch.ids]
    listed = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return UserError(
        f"step {step + 1} gave loss {loss:.6g} and gradient norm {norm:.6g}; its update was not made\n"
        f"items of the step: {listed}\n"
        f"the weights of step {step} are saved in '{run.folder}'\n"
        "look at these items, or train in another folder with a lower train.lr or --precision fp32"
    )
