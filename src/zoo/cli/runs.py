"""Commands on trained runs: ``zoo eval``, ``zoo predict``, ``zoo explain`` and ``zoo runs``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zlib import crc32

import typer

from zoo.cli.output import let_any_name_through, note, print_json, print_table
from zoo.errors import UserError, counted

if TYPE_CHECKING:
    from zoo.report import Report

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `zoo train` printed it.")]
Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="What the task reads, such as files and folders; - reads a list, one a line, from stdin. "
        "Write -- before one that begins with a minus.",
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps; what the run was trained on when not given.")
]
Method = Literal["attention", "rollout"]
OnError = Literal["stop", "skip"]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Option(help="A dataset's name, a folder or a file; the run's own when not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation, test, or all of them together.")] = "test",
    on_error: Annotated[
        OnError | None, typer.Option(help="What unreadable items do; as in training when not given.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="How the data is read, such as data.text_column=review; decode.KEY=VALUE, where the task has it.",
        ),
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Evaluate a run's best checkpoint, with intervals, tables and pictures.

    Writes eval-DATA-SPLIT.json, .md and .png into the run folder, over an earlier evaluation of the same name only.
    Of data without a test split a share is one, drawn by hash; --split all scores every item.

    Example: zoo eval runs/vit-small-20260101-120000 --data new-photos --split all
    """
    from zoo import evaluator

    report = evaluator.evaluate(run, data, split, on_error=on_error, settings=settings or (), device=device)
    if json:
        print_json(report.document())
    else:
        report.print()
    note(f"written: {report.write(run, _eval_stem(run, report, split))}")


def predict(
    run: RunFolder,
    inputs: Inputs,
    top_k: Annotated[int, typer.Option(min=1, help="Predictions for an input.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Write a .csv, .jsonl or .txt file, or what else the task has, such as .srt.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="decode.KEY=VALUE",
            help="How scores become predictions, where the task has such settings; as in training when not given.",
        ),
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Predict files, folders or whatever the run's task reads.

    An input that cannot be read is named, the rest goes on, and the exit status is 2.

    Example: zoo predict runs/vit-small-20260101-120000 photo.png my-photos --top-k 3 --out predictions.csv
    """
    from zoo.predictor import answers, check_out, write_answers

    formats = {} if out is None else check_out(out, run)
    found = answers(run, _sources(inputs), top_k=top_k, settings=settings or (), device=device)
    if out is not None:
        found = write_answers(found, out, formats)
    rows: list[dict[str, Any]] = []
    num_predicted = num_failed = 0
    for answer in found:
        if answer.error is not None:
            note(_unreadable(answer.input, answer.error))
            num_failed += 1
            continue
        num_predicted += 1
        if json or out is None:
            rows.append(answer.document if json else answer.row)
    if json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [[_short(value) for value in row.values()] for row in rows])
    if out is not None:
        predicted = counted(num_predicted, "prediction")
        note(f"written: {out}, {predicted}" if num_predicted else f"nothing could be predicted: {out} is as it was")
    _fail_if(num_failed, num_predicted + num_failed)


def explain(
    run: RunFolder,
    inputs: Inputs,
    method: Annotated[
        Method, typer.Option(help="One layer's attention, or its flow through all layers up to it.")
    ] = "attention",
    layer: Annotated[int | None, typer.Option(min=1, help="Counted from 1; the last when not given.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .png file, or for several inputs a folder; NAME-METHOD.png here when not given."),
    ] = None,
    device: Device = None,
) -> None:
    """Draw what the model attends to, a PNG for each input.

    Example: zoo explain runs/vit-small-20260101-120000 photo.png --method rollout --out photo-rollout.png
    """
    from functools import partial

    from zoo import device as devices
    from zoo.data.loader import Skipped
    from zoo.explain import draw_single, explain_dataset, require_drawing
    from zoo.files import write_atomically
    from zoo.report import picture
    from zoo.run import open_run

    opened = open_run(run)
    checkpoint = opened.checkpoint()
    task = opened.load_task(checkpoint)
    require_drawing(task, opened.spec)
    dataset = task.inputs(_sources(inputs))
    paths = _picture_paths(dataset.ids, method, out)
    model = opened.load_model(checkpoint).to(devices.pick(device or opened.spec.train.device))
    heading = f"{method} of layer {layer}" if layer else f"{method}, last layer"
    num_failed = 0
    found = explain_dataset(model, task, dataset, method=method, layer=layer)
    for path, each in zip(paths, found, strict=True):
        if isinstance(each, Skipped):
            note(_unreadable(*each))
            num_failed += 1
            continue
        try:
            write_atomically(path, picture(partial(draw_single, task=task, explanation=each, note=heading)))
        except OSError as error:
            raise UserError(f"cannot write '{path}': {error.strerror}\nname another place with --out") from error
        print(path)
    _fail_if(num_failed, len(dataset))


def compare(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A folder of run folders.")] = Path("runs"),
    json: Json = False,
) -> None:
    """Compare runs side by side: what they trained, how far they came and what they reached in the test.

    Example: zoo runs runs --json
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder '{folder}'\nname a folder of runs, or make one: zoo train vit-small")
    alone = (folder / "spec.yaml").exists()
    folders = [folder] if alone else sorted(each for each in folder.iterdir() if each.is_dir())
    once = {
        each.resolve(): each for each in sorted(folders, key=Path.is_symlink, reverse=True)
    }  # a link is no other run
    rows = [_overview(each) for each in folders if each in once.values()]
    if json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [[_short(value) for value in row.values()] for row in rows])
    else:
        note(f"no runs in '{folder}'; make one: zoo train vit-small --out {folder / 'first'}")


def _overview(folder: Path) -> dict[str, Any]:
    """A run's row; of a broken one what can be known, and why it is broken."""
    from zoo.checkpoint import saved_steps
    from zoo.run import open_run

    columns = "run model data state steps metric value low high seconds modified problem"
    row: dict[str, Any] = dict.fromkeys(columns.split())
    row["run"] = folder.name
    try:
        row["modified"] = f"{datetime.fromtimestamp(_modified(folder)):%Y-%m-%d %H:%M}"
        run = open_run(folder)
        row |= {"model": run.spec.model, "data": run.spec.data.name}
        status = run.status()
        row |= {"state": status.get("state"), "problem": str(status.get("why") or "").partition("\n")[0] or None}
        trained = [each for each in run.metrics() if each["split"] == "train"]
        row["steps"] = max([*saved_steps(run.checkpoints), *(each["step"] for each in trained[-1:])], default=0)
        row["seconds"] = round(sum(each["seconds"] for each in trained))
        if report := run.report():
            row |= {"metric": report.primary, **report.metrics[report.primary]._asdict()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        row["problem"] = str(error).splitlines()[0]
    return row


def _eval_stem(run: Path, report: Report, split: str) -> str:
    """``eval-DATA-SPLIT``; with the step where it is not the best one, a hash of what was set, and of the data's place
    where another has its name."""
    data = report.data
    split += f"-step-{report.checkpoint['step']}" if report.checkpoint["chosen"] != "best" else ""
    split += f"-{crc32(repr(sorted(report.settings.items())).encode()):08x}" if report.settings else ""
    stem = f"eval-{_slug(Path(data).name)}-{split}"
    try:
        before = loads((run / f"{stem}.json").read_text())["data"]
    except (OSError, ValueError, KeyError, TypeError):
        before = data
    return stem if before == data else f"eval-{_slug(Path(data).name)}-{crc32(data.encode()):08x}-{split}"


def _modified(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a live run's unfinished files come and go
            times.append(path.lstat().st_mtime)
    return max(times)


def _sources(inputs: Sequence[str]) -> list[str]:
    """The inputs, with ``-`` replaced by the lines of stdin."""
    let_any_name_through(sys.stdin)
    said = sys.stdin.read().rstrip("\n").split("\n") if "-" in inputs else []
    lines = [line for line in said if line.strip()]
    if lines and len(lines) < len(said):
        note(f"{counted(len(said) - len(lines), 'blank line')} of stdin passed over")
    sources = [each for source in inputs for each in (lines if source == "-" else [source])]
    if not sources:
        raise UserError("stdin named no input\ngive one a line, such as: ls *.png | zoo predict RUN -")
    return sources


def _picture_paths(ids: Sequence[str], method: Method, out: Path | None) -> list[Path]:
    """Where each item's picture goes: the file named, or a file of the item's name in the folder named."""
    if out is not None and out.suffix and out.suffix != ".png":
        raise UserError(f"cannot write '{out}': pictures are written as .png\nrename it")
    if out is not None and out.suffix == ".png" and not out.is_dir():
        if out.resolve() in [Path(each).resolve() for each in ids]:
            raise UserError(f"'{out}' is an input itself\nname another file with --out")
        if len(ids) > 1:
            raise UserError(f"'{out}' holds one picture, but there are {len(ids)} inputs\nname a folder with --out")
        return [out]
    folder = out or Path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder '{folder}': {error.strerror}\nname another one with --out") from error
    names = [_slug(Path(each).stem) for each in ids]
    if len(set(names)) < len(names):
        names = [_slug(each) for each in ids]
    if len(set(names)) < len(names):
        names = [f"{number}-{name}" for number, name in enumerate(names, start=1)]
    return [folder / f"{name}-{method}.png" for name in names]


def _slug(text: str) -> str:
    """The text as part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")[:60] or "input"


def _short(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def _unreadable(name: str, reason: str) -> str:
    return reason if name in reason else f"cannot read '{name}': {reason}"


def _fail_if(num_failed: int, total: int) -> None:
    if num_failed:
        note(f"{num_failed} of {counted(total, 'input')} could not be read")
        raise typer.Exit(2)
