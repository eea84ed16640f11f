"""A training, from what is asked for to its report: a run begins or goes on, `fit` trains it, the test split judges.

Read on in `trainer`, whose `fit` is the loop.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo import device as devices
from zoo import evaluator, plugins, registry
from zoo.checkpoint import Found, newest_checkpoint
from zoo.contract import Splits
from zoo.core import Model
from zoo.cost import training_memory_bytes
from zoo.data.seeding import seed_of
from zoo.distillation import criterion, pinned, teacher_info
from zoo.errors import UserError, counted
from zoo.files import user_path
from zoo.optim import choose_trained
from zoo.progress import say
from zoo.run import Run, new_run, open_run, refuse_other
from zoo.signals import Preempted, StopSignal
from zoo.specs import RunSpec
from zoo.trainer import fit
from zoo.weights.start import Start, open_start, place_of, start_of
from zoo.weights.transplant import Transplant, open_transplant, transplant_of


def train(
    name: str,
    *,
    recipe: str | None = None,
    data: str | None = None,
    weights: str | Path | None = None,
    core: str | Path | None = None,
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
        weights: What to start from: a run folder, a name among the model's weights, ``hf:OWNER/NAME``, or a file or
            folder of published weights. Random numbers when None.
        core: A run folder, of any task, whose core the model begins with; the two cores must be equal.
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
        run = _run_to_resume(out, name, weights, core, **asked)
        if run.status().get("state") == "done" and run.report() is not None:
            run.choose()  # tells what of it is lost
            say("the run is finished already; this is its report", show=show_progress)
            return run
        ready = _going_on(run)
    else:
        ready = _beginning(out, name, weights, core, **asked)
    with ready as (run, model, splits, found), StopSignal() as stop, _followed(run, stop):
        state = fit(run, model, splits, stop, found, show_progress=show_progress)
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


class Ready(NamedTuple):
    """What a training goes on from: its folder, locked, its model as it began, its data, its newest checkpoint."""

    run: Run
    model: Model
    splits: Splits
    found: Found


@contextmanager
def _beginning(
    out: str | Path | None, name: str, weights: str | Path | None, core: str | Path | None, **asked: Any
) -> Iterator[Ready]:
    """A new run. Its weights and data are looked at before a folder is made: a mistyped path leaves nothing behind."""
    if (bridging := plugins.bridge_of(name)) is not None:
        bridging.fetch(name)
    resolved = registry.open_registry().resolve(name, **asked)
    devices.pick(resolved.spec.train.device)
    start = None if weights is None else open_start(place_of(weights, name), resolved.spec.task)
    if start is not None:
        resolved = start.decide(resolved)
    transplant = None if core is None else open_transplant(core, resolved.spec)
    known = _inherited(resolved.spec, start)
    try:
        splits = plugins.task_class(resolved.spec.task).datasets(resolved.spec, known or None)
    except UserError as error:
        if resolved.spec.train.distill is None:
            raise
        raise UserError(f"{error}\n('the model' is the teacher, '{resolved.spec.train.distill.teacher}')") from error
    _refuse_unfit(splits, resolved.spec)
    spec = pinned(registry.settle(resolved, splits.settings))
    if transplant is not None:
        spec = spec.model_copy(update={"core_from": transplant.stamp})
    model, splits = _begun(spec, splits, start, transplant)
    _refuse_dead_end(model)
    with new_run(out, spec.model_copy(update={"plugins": plugins.stamps(spec.task)})) as run:
        yield Ready(run, model, splits, Found(None, []))


@contextmanager
def _going_on(run: Run) -> Iterator[Ready]:
    """A run that goes on. What was learnt from its data is not learnt again."""
    with run.lock():
        found = newest_checkpoint(run.checkpoints)
        start = start_of(run.spec) if found.checkpoint is None or run.spec.train.lora else None
        transplant = transplant_of(run.spec) if found.checkpoint is None else None
        info = found.checkpoint.metadata()["info"] if found.checkpoint else _inherited(run.spec, start)
        splits = run.task_class.datasets(run.spec, info or None)
        yield Ready(run, *_begun(run.spec, splits, start, transplant), found)


def _inherited(spec: RunSpec, start: Start | None) -> dict[str, Any]:
    """What the data must follow: of the weights that a training begins with, and of the model that it learns from.

    Raises:
        UserError: They contradict each other.
    """
    begun, taught = start.inherited if start else {}, teacher_info(spec)
    if differing := [key for key in begun if key in taught and begun[key] != taught[key]]:
        raise UserError(
            f"the weights and the teacher differ in {', '.join(differing)}\n"
            "begin with random numbers, or name a teacher that was trained from the same weights"
        )
    return {**begun, **taught}


def _begun(spec: RunSpec, splits: Splits, start: Start | None, transplant: Transplant | None) -> tuple[Model, Splits]:
    """The model as a training begins with it, and its data with what the reader should know of that.

    Raises:
        UserError: The model does not fit into memory or the weights into the model, what is to be trained is not there,
            or the teacher teaches something else.
    """
    train = spec.train
    if train.lora and start is None:
        raise UserError("train.lora adapts weights that were trained before\nname them with --weights")
    if train.lora and spec.core_from is not None:
        raise UserError(
            "train.lora adapts a core as its weights have it\nleave --core out, or train without train.lora"
        )
    torch.manual_seed(seed_of("weights", train.seed))
    try:
        model = plugins.task_class(spec.task).build(spec)
    except Exception as error:
        if devices.is_out_of_memory(error):
            raise _too_large(spec) from error
        raise
    notes = [f"weights: {spec.weights.source} ({spec.weights.family})"] if spec.weights else []
    notes = [start.put_into(model, spec, splits.info)] if start else notes
    if spec.core_from is not None:
        notes.append(
            transplant.put_into(model) if transplant else f"core: of {spec.core_from.source} ({spec.core_from.family})"
        )
    choose_trained(model, train)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trained, whole = sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)
    if trained < whole:
        random = (
            ""
            if spec.weights or spec.core_from
            else "; what is frozen are random numbers: --weights names trained ones"
        )
        notes.append(f"trained: {trained:,} of {whole:,} parameters{random}")
    if train.distill is not None:
        _refuse_teacher(model, spec, splits)
    return model, replace(splits, notes=[*splits.notes, *notes])


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
        told = _too_large(run.spec) if devices.is_out_of_memory(error) else error
        run.set_status("failed", why=f"{type(told).__name__}: {told}")
        if told is error:
            raise
        raise told from error


def _run_to_resume(
    out: str | Path | None, name: str, weights: str | Path | None, core: str | Path | None, **asked: Any
) -> Run:
    """The run in `out`, if it was made from what the command says. What it does not say, the run's spec says."""
    if out is None:
        raise UserError("--resume needs the run's folder\nname it with --out")
    run = open_run(out)
    if weights is not None:
        run = _begun_with(run, weights, place_of(weights, name))
    if core is not None:
        run = _begun_with_core(run, core)
    if name != run.spec.model or any(asked.values()):
        chosen = asked["data"] or (None if asked["recipe"] or name != run.spec.model else run.spec.data.name)
        same = None if asked["recipe"] or name != run.spec.model else run.spec.task
        resolved = registry.open_registry().resolve(name, **{**asked, "data": chosen, "task": asked["task"] or same})
        if run.spec.weights is not None and asked["recipe"]:  # they decide more than it does
            resolved = open_start(Path(run.spec.weights.source), resolved.spec.task).decide(resolved)
        refuse_other(run, resolved, recipe=asked["recipe"] is not None)
    devices.pick(run.spec.train.device)
    return run


def _begun_with(run: Run, named: str | Path, place: Path) -> Run:
    """The run, if it began with these weights, wherever they lie now.

    Raises:
        UserError: It began otherwise.
    """
    began = run.spec.weights
    if began is not None and place == Path(began.source):
        return run
    if began is not None and place.exists():
        now = open_start(place, run.spec.task).stamp
        if now.sha256 == began.sha256:
            return run.moved({"weights": now})
    was = f"the weights '{began.source}'" if began else "random numbers"
    raise UserError(
        f"'{run.folder}' began with {was}, not with '{named}'\nleave --weights out, or train in another folder"
    )


def _begun_with_core(run: Run, named: str | Path) -> Run:
    """The run, if it began with the core of this one, wherever that lies now.

    Raises:
        UserError: It began otherwise.
    """
    began, place = run.spec.core_from, user_path(named).absolute()
    if began is not None and place == Path(began.source):
        return run
    if began is not None:
        now = open_transplant(place, run.spec).stamp
        if now.sha256 == began.sha256:
            return run.moved({"core_from": now})
    was = f"that of '{began.source}'" if began else "a core of its own"
    raise UserError(
        f"'{run.folder}' began with {was}, not with the core of '{named}'\nleave --core out, or train in another folder"
    )


def _refuse_unfit(splits: Splits, spec: RunSpec) -> None:
    for split in ("train", "test"):
        if not len(getattr(splits, split)):
            raise UserError(
                f"the {split} split of '{spec.data.name}' is empty\n"
                "add items, or set data.test_fraction and data.validation_fraction so that every split gets some"
            )
    if spec.train.batch_length is not None and splits.train.lengths is None:
        raise UserError(
            f"train.batch_length: the items of '{spec.data.name}' have no lengths\nset train.batch_size instead"
        )


def _refuse_dead_end(model: Model) -> None:
    """Raise where a new layer of the head is frozen: new ones begin with zeros, and let no gradient through."""
    frozen = [
        name
        for name, each in model.head.named_parameters()
        if not each.requires_grad and each.ndim > 1 and not each.any()
    ]
    if frozen:
        raise UserError(
            f"train.freeze: head.{frozen[0]} is new, all zeros, and frozen: nothing can be learnt through it\n"
            "leave it out of train.freeze"
        )


def _refuse_teacher(model: Model, spec: RunSpec, splits: Splits) -> None:
    """Raise where a teacher cannot read, or does not score, what its student does: tried on one item."""
    task = plugins.task_class(spec.task)(spec, splits.info)
    item = splits.train[0]
    batch = task.collate([task.transform(item, None)], [item.id])
    try:
        criterion(task, spec, torch.device("cpu"))(model(batch.inputs), batch)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"the teacher cannot read what the student does: {error}\nname one whose first room is as the student's"
        ) from error


def _too_large(spec: RunSpec) -> UserError:
    cost = plugins.cost(spec)
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
