"""A run folder: what a training leaves behind, and how the rest of the zoo finds its way in it.

spec.yaml    metrics.jsonl    checkpoints/    report.json report.md *.png    status.json
"""

import fcntl
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from zoo import plugins, registry
from zoo.checkpoint import Checkpoint, checkpoint_at, load_state, newest_checkpoint
from zoo.contract import Task
from zoo.core import merge_lora
from zoo.errors import RunWarning, UserError
from zoo.files import user_path, write_atomically
from zoo.optim import choose_trained
from zoo.registry import Resolved
from zoo.specs import RunSpec, StartSpec

if TYPE_CHECKING:
    from zoo.core.model import Model
    from zoo.report import Report


class Chosen(NamedTuple):
    """A checkpoint, what it is to its run, and what to know where a better one is lost."""

    checkpoint: Checkpoint
    which: Literal["best", "best left", "newest"]
    note: str | None = None


class Left(NamedTuple):
    """An evaluation by validation, and its checkpoint."""

    evaluation: dict[str, Any]
    checkpoint: Checkpoint


def rank(evaluation: Mapping[str, Any]) -> tuple[float, float]:
    """The better an evaluation by validation, the higher. On a small split many tie; the lower loss then decides."""
    sign = 1 if evaluation["higher_is_better"] else -1
    return sign * evaluation["value"], -evaluation["loss"]


@dataclass(frozen=True)
class Run:
    """A training's folder, finished or not."""

    folder: Path

    @cached_property
    def spec(self) -> RunSpec:
        return registry.read_run_spec(self.folder / "spec.yaml")

    @cached_property
    def task_class(self) -> type[Task]:
        """
        Raises:
            UserError: The plugin that the run was made with is not installed, or cannot be loaded.
        """
        try:
            return plugins.task_class(self.spec.task)
        except UserError as error:
            known = {row.name for row in plugins.rows()}
            lost = [stamp for name, stamp in self.spec.plugins.items() if name not in known and name != plugins.SESSION]
            if not lost:
                raise
            listed = ", ".join(f"{stamp.distribution} {stamp.version}" for stamp in lost)
            raise UserError(
                f"run '{self.folder}' was made with {listed}, which is not installed\n"
                "install it from where you have it, or load it with -p or ZOO_PLUGINS"
            ) from error

    def moved(self, now: Mapping[str, StartSpec]) -> "Run":
        """The run that remembers where lies now what it began with, by the field of its spec."""
        spec = self.spec.model_copy(update=now)
        registry.write_run_spec(spec, self.folder / "spec.yaml")
        return Run(self.folder)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def status(self) -> dict[str, Any]:
        """``{"state": "running" | "done" | "preempted" | "failed" | "killed", ...}``; empty where it cannot be read.

        A killed training could not write so itself: it says that it runs, but nobody holds its lock.
        """
        try:
            read: Any = json.loads((self.folder / "status.json").read_text())
        except (OSError, ValueError):
            read = None
        status: dict[str, Any] = read if isinstance(read, dict) else {}
        if status.get("state") == "running" and not self.is_locked():
            status |= {"state": "killed", "why": "the process ended without a word; --resume goes on"}
        return status

    def is_blank(self) -> bool:
        """Nothing was learnt here yet."""
        kept = [*self.checkpoints.glob("*"), *self.folder.glob("report.*")]
        return not self.metrics() and not kept and self.status().get("state") != "done"

    def is_locked(self) -> bool:
        """Some process trains here."""
        try:
            with (self.folder / ".lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # never locked, or not ours to look at
            return False
        return False

    def set_status(self, state: str, **facts: Any) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        write_atomically(self.folder / "status.json", json.dumps({"state": state, "at": now, **facts}, indent=2))

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line cut short by a kill is left out."""
        rows: list[dict[str, Any]] = []
        for line in self.metrics_file.read_text().splitlines() if self.metrics_file.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def report(self) -> "Report | None":
        """The test report that training ended with."""
        from zoo.report import Report

        path = self.folder / "report.json"
        return Report.from_json(path.read_text()) if path.exists() else None

    def choose(self) -> Chosen:
        """The best checkpoint by validation; where that is lost, with a `RunWarning`, the best that is left.

        Raises:
            UserError: There is no whole checkpoint.
        """
        newest, broken = self._newest()
        remembered = self._remembered_best()
        best: int | None = remembered or (newest.trainer()["best"] or {}).get("step")
        note = "; ".join(broken) if remembered is None else ""  # it may have been the best
        if best in (None, newest.step):
            chosen = Chosen(newest, "newest" if best is None else "best")
        elif (whole := checkpoint_at(self.checkpoints, best)) is not None:
            chosen = Chosen(whole, "best")
        else:
            left, note = self.best_left(best, newest)
            chosen = Chosen(left.checkpoint, "best left") if left else Chosen(newest, "newest")
        if not note:
            return chosen
        note = f"{note}; step {chosen.checkpoint.step} was used"
        remedy = "train again" if self.status().get("state") == "done" else self._resume
        warnings.warn(f"run '{self.folder}': {note}\ncopy the lost folder back, or {remedy}", RunWarning, stacklevel=2)
        return chosen._replace(note=note)

    def best_left(self, lost: int, newest: Checkpoint) -> tuple[Left | None, str]:
        """The best evaluation by validation whose checkpoint is whole, and a word on the one of step `lost`, which is
        not."""
        known = newest.trainer()["best"]
        rows = self.metrics() if known and "higher_is_better" in known else []  # older runs do not say
        evaluations = [
            {**known, "step": row["step"], "value": row[known["metric"]], "loss": row["loss"]}
            for row in rows
            if row["split"] == "validation" and None not in (row.get(known["metric"]), row["loss"])
        ]
        ranked = sorted(evaluations, key=rank, reverse=True)
        places = ((each, checkpoint_at(self.checkpoints, each["step"])) for each in ranked)
        left = next((Left(each, whole) for each, whole in places if whole), None)
        told = f"the best checkpoint by validation, of step {lost}, is missing or broken"
        return left, told + (f"; the best that is left is of step {left.checkpoint.step}" if left else "")

    def checkpoint(self, which: Literal["best", "newest"] = "best") -> Checkpoint:
        """The best checkpoint by validation, as `choose` has it, or the newest.

        Raises:
            UserError: There is no whole checkpoint.
        """
        return self.choose().checkpoint if which == "best" else self._newest()[0]

    def _newest(self) -> tuple[Checkpoint, Sequence[str]]:
        """The newest whole checkpoint, and a line on each newer one that is broken."""
        newest, broken = newest_checkpoint(self.checkpoints)
        if newest is None:
            why = "".join(f"\n  {line}" for line in broken)
            lost = broken or self.status().get("state") == "done"
            remedy = "copy its checkpoints back, or train anew in another folder" if lost else self._resume
            ended = str(self.status().get("why") or "").partition("\n")[0]
            why = f": {ended}{why}" if ended and not lost else why
            raise UserError(f"run '{self.folder}' has no checkpoint to load{why}\n{remedy}")
        return newest, broken

    @property
    def _resume(self) -> str:
        return f"go on with 'zoo train {self.spec.model} --out {self.folder} --resume'"

    def _remembered_best(self) -> int | None:
        """The best step as a finished run's status has it, even where the newest checkpoint is broken."""
        best = self.status().get("best")
        step = best.get("step") if isinstance(best, dict) else None
        return step if isinstance(step, int) else None

    def load_task(self, checkpoint: Checkpoint | None = None, spec: RunSpec | None = None) -> Task:
        """The run's task, told what the training data decided, such as the class names.

        Args:
            checkpoint: The best by validation when None.
            spec: The run's own, perhaps revised.
        """
        info: Mapping[str, Any] = (checkpoint or self.checkpoint()).metadata()["info"]
        return self.task_class(spec or self.spec, info)

    def load_model(self, checkpoint: Checkpoint | None = None) -> "Model":
        """The trained model, in evaluation mode, on the CPU; the averaged weights where the run keeps an average.

        Args:
            checkpoint: The best by validation when None.
        """
        from safetensors.torch import load_file

        checkpoint = checkpoint or self.checkpoint()
        if self.spec.train.lora is not None:
            model = self.load_adapted(checkpoint)
            merge_lora(model.core)
            return model.eval()
        model = self.task_class.build(self.spec)
        model.load_state_dict(load_file(checkpoint.ema_weights or checkpoint.weights))
        return model.eval()

    def load_adapted(self, checkpoint: Checkpoint) -> "Model":
        """The model of a run with `train.lora`, its adapters apart."""
        from safetensors.torch import load_file

        from zoo.weights.start import start_of  # which knows runs

        model = self.task_class.build(self.spec)

        start = start_of(self.spec)  # a checkpoint holds what was trained of it, and no more
        assert start is not None, "adapters are trained upon weights"
        start.put_into(model, self.spec, checkpoint.metadata()["info"])
        choose_trained(model, self.spec.train)
        load_state(model, load_file(checkpoint.ema_weights or checkpoint.weights))
        return model

    @contextmanager
    def lock(self) -> Iterator["Run"]:
        """One training at a time in a folder.

        Raises:
            UserError: Another process trains here, or the folder cannot be written.
        """
        try:
            file = (self.folder / ".lock").open("a")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        with file:
            for patience in (0.2, 0.0):  # whoever asks `is_locked` holds it for an instant
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(patience)
            else:
                raise UserError(f"another process trains in '{self.folder}'\nwait for it, or train in another folder")
            yield self


def open_run(path: str | Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: It is no run folder.
    """
    folder = user_path(path)
    if not (folder / "spec.yaml").is_file():
        what = "is no run folder: it has no spec.yaml" if folder.is_dir() else "is a file, not a run folder"
        what = what if folder.exists() else "does not exist"
        raise UserError(f"'{folder}' {what}\nname the folder that 'zoo train' printed, or list them with 'zoo runs'")
    return Run(folder)


@contextmanager
def new_run(out: str | Path | None, spec: RunSpec) -> Iterator[Run]:
    """A new folder with the spec in it, locked; ``runs/NAME-DATETIME`` when none is named.

    A run that failed before its first step does not hold its place.

    Raises:
        UserError: The folder holds something already, or cannot be written.
    """
    folder = (
        user_path(out) if out is not None else Path("runs") / f"{_file_name(spec.model)}-{datetime.now():%Y%m%d-%H%M%S}"
    )
    run, holds_run = Run(folder), (folder / "spec.yaml").exists()

    def refuse_used() -> None:
        if (folder / "spec.yaml").exists() and not run.is_blank():
            raise UserError(f"'{folder}' holds a run already\nadd --resume to go on with it, or name another folder")

    refuse_used()
    try:
        if not holds_run and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"'{folder}' is not an empty folder\nname a new or an empty one with --out")
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with run.lock():
        refuse_used()  # another may have begun just now
        try:
            registry.write_run_spec(spec, folder / "spec.yaml")
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield run


def _file_name(model: str) -> str:
    """A model's name without slashes; of a long path its end."""
    return "-".join(part for part in model.split("/") if part)[-60:].strip("-.")


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write to the run folder '{folder}': {error.strerror}\nname a folder you can write to with --out"
    )


def refuse_other(run: Run, asked: Resolved, *, recipe: bool) -> None:
    """Hold what a command says itself against the run that it would resume.

    Args:
        recipe: The command names a recipe: its values count too. Else only what was said value by value does, since
            defaults and recipes may have changed after the run was made.

    Raises:
        UserError: They differ: every difference is named.
    """
    ours, theirs = asked.spec.model_dump(mode="json"), run.spec.model_dump(mode="json")
    counted = {"command", "recipe"} if recipe else {"command"}
    said = ["model", "task", "data.name", *(key for key, source in asked.sources.items() if source in counted)]
    differing = [
        f"{key}: the run has {json.dumps(_at(theirs, key))}, the command {json.dumps(_at(ours, key))}"
        for key in dict.fromkeys(said)
        if _at(theirs, key) != _at(ours, key)
    ]
    if differing:
        listed = "".join(f"\n  {line}" for line in differing)
        raise UserError(
            f"'{run.folder}' belongs to another spec:{listed}\n"
            "resume with the original arguments, or train in another folder"
        )


def _at(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
