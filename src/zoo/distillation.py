"""A training that learns from another model too: its scores, softened, beside the true targets.

Hinton et al. 2015, arXiv:1503.02531: (1 - weight) · loss + weight · T² · KL(teacher ‖ student), both at temperature T;
the divergence is the mean over rows of scores, such as a picture's, or a frame's.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from pydantic_core import to_jsonable_python
from torch import Tensor

from zoo import plugins
from zoo.checkpoint import Checkpoint
from zoo.contract import Batch, Task
from zoo.core import Output
from zoo.errors import UserError
from zoo.registry import Resolved
from zoo.run import Run, open_run
from zoo.specs import RunSpec

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from zoo.plugins.lookup import Part

Criterion = Callable[[Output, Batch], tuple[Tensor, Tensor | int]]


def teacher_info(spec: RunSpec) -> Mapping[str, Any]:
    """What a student must share with its teacher, as `Splits.info` has it, such as the classes; nothing without one.

    Raises:
        UserError: The teacher is no run, or of another task.
    """
    return _teacher(spec).checkpoint().metadata()["info"] if spec.train.distill else {}


def pinned(resolved: Resolved) -> RunSpec:
    """The spec of a training that begins, with the hash of what teaches it.

    Raises:
        UserError: The teacher cannot read the batches that the student does.
    """
    spec = resolved.spec
    if spec.train.distill is None:
        return spec
    run = _teacher(spec)
    _require_same_inputs(run, resolved)
    distill = spec.train.distill.model_copy(update={"sha256": _hash(run.checkpoint())})
    return spec.model_copy(update={"train": spec.train.model_copy(update={"distill": distill})})


def criterion(task: Task, spec: RunSpec, device: torch.device) -> Criterion:
    """The loss of a training: the task's, or beside it what a teacher says of the same batch."""
    distill = spec.train.distill
    if distill is None:
        return task.loss
    run = _teacher(spec)
    checkpoint = run.checkpoint()
    if distill.sha256 not in (None, _hash(checkpoint)):
        raise UserError(
            f"the teacher '{run.folder}' changed after the training began\nput its checkpoint back, or train anew"
        )
    teacher = run.load_model(checkpoint).to(device).requires_grad_(False)
    weight, temperature = distill.weight, distill.temperature

    def loss(output: Output, batch: Batch) -> tuple[Tensor, Tensor | int]:
        total, count = task.loss(output, batch)
        with torch.no_grad():
            taught = teacher(batch.inputs).logits
        if taught.shape != output.logits.shape:
            shapes = [list(each.shape) for each in (taught, output.logits)]
            raise UserError(
                f"the teacher gives scores of shape {shapes[0]}, the student {shapes[1]}\n"
                "name a teacher whose first and last rooms are as the student's"
            )
        student, teachers = (F.log_softmax(each.flatten(0, -2) / temperature, -1) for each in (output.logits, taught))
        divergence = F.kl_div(student, teachers, reduction="batchmean", log_target=True) * temperature**2
        return (1 - weight) * total + weight * divergence * count, count

    return loss


def _hash(checkpoint: Checkpoint) -> str:
    with (checkpoint.ema_weights or checkpoint.weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _teacher(spec: RunSpec) -> Run:
    distill = spec.train.distill
    assert distill is not None
    try:
        run = open_run(distill.teacher)
    except UserError as error:
        if distill.sha256 is None:
            raise
        why = str(error).partition("\n")[0]
        raise UserError(
            f"the teacher that the training began with is not there any more: {why}\n"
            "put it back, or write where it lies now into the run's spec.yaml, as train.distill.teacher"
        ) from error
    if plugins.data_task(run.spec.task) != plugins.data_task(spec.task):
        raise UserError(
            f"train.distill.teacher: '{run.folder}' is for {run.spec.task}, not for {spec.task}\n"
            "name a run of that task"
        )
    return run


def _require_same_inputs(run: Run, student: Resolved) -> None:
    spec = student.spec
    tasks = (spec.task, run.spec.task, plugins.data_task(spec.task))
    for key in dict.fromkeys(key for task in tasks for key in plugins.task_entry(task).inputs):
        theirs, ours = (_value(each, key, tasks) for each in (run.spec, spec))
        if theirs != ours:
            settable = student.sources.get(key) != "data" and _field(spec.task, key) is not None
            raise UserError(
                f"the teacher '{run.folder}' has {key} {theirs}, the student {ours}: one batch is not for both\n"
                f"{f'set {key}={theirs}, or ' if settable else ''}name another teacher"
            )


def _value(spec: RunSpec, key: str, tasks: Sequence[str]) -> Any:
    """What stands at a dotted key; the default where the spec was written before there was such a setting, or its task
    has none: then that of the first task that has it."""
    room, _, name = key.partition(".")
    values, kind = getattr(spec, room), plugins.task_part(spec.task, cast("Part", room))
    if kind is None and name in values:
        return values[name]
    if kind is not None and name in kind.model_fields:
        return kind.model_validate(values).model_dump(mode="json")[name]
    known = next((field for task in tasks if (field := _field(task, key)) is not None), None)
    if known is None or known.is_required():
        return None
    return to_jsonable_python(known.get_default(call_default_factory=True))


def _field(task: str, key: str) -> "FieldInfo | None":
    """The setting at a dotted key; None where a task has none."""
    room, _, name = key.partition(".")
    kind = plugins.task_part(task, cast("Part", room))
    return None if kind is None else kind.model_fields.get(name)
