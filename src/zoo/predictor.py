"""The counter: a trained run answers for what a user hands it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from zoo import device as devices
from zoo.contract import Elaborate, Record, Task
from zoo.errors import UserError
from zoo.files import flush, to_json
from zoo.inference import portions
from zoo.registry import revise
from zoo.run import Run, open_run

SUFFIXES = (".csv", ".jsonl", ".txt")


Formats = Mapping[str, Callable[[Mapping[str, Any]], str]]


class Answer(NamedTuple):
    """What a run says of one input: the task's own columns, or why the input could not be read.

    Args:
        details: What a row of a table does not hold, such as when each word was said; nested JSON values.
    """

    input: str
    values: Mapping[str, Any]
    error: str | None = None
    details: Mapping[str, Any] = {}

    @property
    def row(self) -> dict[str, Any]:
        return {"input": self.input, **self.values}

    @property
    def document(self) -> dict[str, Any]:
        return {**self.row, **self.details}


def predict(
    run: Run | str | Path,
    inputs: str | Path | Sequence[str | Path],
    *,
    top_k: int = 1,
    settings: Sequence[str] | Mapping[str, Any] = (),
    device: str | None = None,
) -> list[Answer]:
    """Predict inputs in order, such as ``zoo.predict("runs/first", "new-item")[0].values["label"]``.

    An input that cannot be read is answered by its error, and the rest goes on.

    Args:
        run: A finished or stopped run, or its folder; its best checkpoint by validation answers.
        inputs: One or several of what the task reads, such as files and folders.
        top_k: Predictions for an input, where the task has several.
        settings: How scores become predictions, ``{"decode.KEY": value}``; else as in the training.
        device: What the run was trained on when None.

    Raises:
        UserError: The run has no model yet, or a setting is wrong.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else inputs
    return list(answers(run, inputs, top_k=top_k, settings=settings, device=device))


def answers(
    run: Run | str | Path,
    inputs: Sequence[str | Path],
    *,
    top_k: int = 1,
    settings: Sequence[str] | Mapping[str, Any] = (),
    device: str | None = None,
) -> Iterator[Answer]:
    """`predict`, each answer as soon as it is known."""
    if top_k < 1:
        raise UserError(f"top_k must be at least 1, got {top_k}")
    run = run if isinstance(run, Run) else open_run(run)
    checkpoint = run.checkpoint()
    task = run.load_task(checkpoint, revise(run.spec, {}, settings, rooms=("decode",)) if settings else None)
    dataset = task.inputs([str(each) for each in inputs])
    where = devices.pick(device or run.spec.train.device)
    model = run.load_model(checkpoint).to(where)
    ids = iter(dataset.ids)
    for part in portions(model, task, dataset, spec=run.spec, device=where, on_error="skip"):
        found = {record.id: _answer(task, record, top_k) for record in part.records}
        found |= {name: Answer(name, {}, why) for name, why in part.unreadable}
        yield from (found[each] for each in islice(ids, len(part.records) + len(part.unreadable)))


def _answer(task: Task, record: Record, top_k: int) -> Answer:
    details = task.details(record) if isinstance(task, Elaborate) else {}
    return Answer(record.id, task.describe(record, top_k), details=details)


def write_answers(found: Iterable[Answer], path: Path, formats: Formats) -> Iterator[Answer]:
    """Write what could be predicted as it comes, and hand every answer on. The file appears at the end, whole; where
    nothing could be predicted, whatever stood there stays.

    Args:
        formats: The task's own, as `check_out` gives them.

    Raises:
        UserError: The file cannot be written, or is of one input and there are several.
    """
    with ExitStack() as opened:
        write: Callable[[Answer], object] | None = None
        for number, answer in enumerate(found):
            if number and path.suffix in formats:
                raise UserError(
                    f"'{path}' is of one input, and there are several\nname one input, or a .csv or .jsonl file"
                )
            if answer.error is None:
                write = write or _writer(opened.enter_context(_whole_file(path)), answer, path.suffix, formats)
                write(answer)
            yield answer


def _writer(file: TextIO, first: Answer, suffix: str, formats: Formats) -> Callable[[Answer], object]:
    """What writes an answer into a file of this kind."""
    if suffix in formats:
        return lambda answer: file.write(formats[suffix](answer.document))
    if suffix == ".jsonl":
        return lambda answer: file.write(to_json(answer.document, indent=None) + "\n")
    if suffix == ".txt":
        return lambda answer: file.write(f"{next(iter(answer.values.values()))}\n")
    table = csv.DictWriter(file, list(first.row))
    table.writeheader()
    return lambda answer: table.writerow(answer.row)


def check_out(path: Path, run: Run | str | Path) -> Formats:
    """Refuse a file that `write_answers` cannot write, before any work is done.

    Returns:
        The formats that the run's task has besides `SUFFIXES`.

    Raises:
        UserError: The suffix is of no format, or the file's folder is missing or read-only.
    """
    run = run if isinstance(run, Run) else open_run(run)
    formats: Formats = getattr(run.task_class, "formats", {})
    if path.suffix not in (*SUFFIXES, *formats):
        known = " or ".join((*SUFFIXES, *formats))
        raise UserError(f"cannot write '{path}': predictions are written as {known}\nrename it")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write '{path}'\nname a file in a folder that exists and can be written")
    return formats


@contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    part = path.with_name(f".{path.name}.part")
    try:
        # File names need not be text: what is no UTF-8 in them goes through as it is.
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        flush(part)
        part.replace(path)
    except OSError as error:  # a full disk too; inputs that cannot be read have become answers
        raise UserError(f"cannot write '{path}': {error.strerror}\nname a file elsewhere with --out") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
