"""A training, from what is asked for to its report: a run begins or goes on, `fit` trains it, the test split judges.

Read on in `trainer`, whose `fit` is the loop.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from zoo import device as devices
from zoo import evaluator, plugins, registry
from zoo.checkpoint import Found, newest_checkpoint
from zoo.contract import Splits
from zoo.cost import training_memory_bytes
from zoo.errors import UserError, counted
from zoo.progress import say
from zoo.run import Run, new_run, open_run, refuse_other
from zoo.signals import Preempted, StopSignal
from zoo.specs import RunSpec
from zoo.trainer import fit


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
        ready = _going_on(run)
    else:
        ready = _beginning(out, name, **asked)
    with ready as (run, splits, found), StopSignal() as stop, _followed(run, stop):
        state = fit(run, splits, stop, found, show_progress=show_progress)
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
    """What a training goes on from: its folder, locked, its data, and its newest checkpoint, if any."""

    run: Run
    splits: Splits
    found: Found


@contextmanager
def _beginning(out: str | Path | None, name: str, **asked: Any) -> Iterator[Ready]:
    """A new run. Its data is looked at before a folder is made: a mistyped path leaves nothing behind."""
    resolved = registry.open_registry().resolve(name, **asked)
    devices.pick(resolved.spec.train.device)
    splits = plugins.task_class(resolved.spec.task).datasets(resolved.spec)
    _refuse_unfit(splits, resolved.spec)
    spec = registry.settle(resolved, splits.settings).spec
    with new_run(out, spec.model_copy(update={"plugins": plugins.stamps(spec.task)})) as run:
        yield Ready(run, splits, Found(None, []))


@contextmanager
def _going_on(run: Run) -> Iterator[Ready]:
    """A run that goes on. What was learnt from its data is not learnt again."""
    with run.lock():
        found = newest_checkpoint(run.checkpoints)
        info = found.checkpoint.metadata()["info"] if found.checkpoint else None
        yield Ready(run, run.task_class.datasets(run.spec, info), found)


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
