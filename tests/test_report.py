"""A report comes back from its JSON as it was, reads as a page, and never writes over another."""

import dataclasses
import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo import report as reports
from zoo.contract import Record, Table
from zoo.errors import UserError
from zoo.evaluator import evaluate
from zoo.metrics import Value, classification
from zoo.report import Report, commit, draw_curves, picture
from zoo.run import Run


def some_report() -> Report:
    return Report(
        task="t",
        model="m",
        data="d",
        split="test",
        n=3,
        seed=0,
        primary="accuracy",
        loss=math.nan,
        metrics={"accuracy": Value(0.5, 0.25, 0.75)},
        tables={"per class": Table(("class", "f1"), [("a|b", 0.5)]), "pairs": Table(("target",), [])},
        device="cpu",
        commit=None,
        date="2026-01-01T00:00:00+00:00",
        checkpoint={"step": 3, "weights": "averaged", "chosen": "best"},
        versions={"python": "3.11"},
        seconds=0.1,
        items_per_second=30.0,
        skipped={"x.png": "truncated"},
        notes=["two duplicates"],
        figures={"line": lambda figure: figure.subplots().plot([0, 1])},
    )


def test_json_round_trip() -> None:
    report = dataclasses.replace(some_report(), loss=0.5)
    back = Report.from_json(report.to_json())
    assert back.document() == report.document()
    assert back.metrics == report.metrics
    assert back.tables["per class"].rows == [("a|b", 0.5)]


def test_json_is_what_scripts_rely_on() -> None:
    document = json.loads(some_report().to_json())
    assert document["metrics"] == {"accuracy": {"value": 0.5, "low": 0.25, "high": 0.75}}
    assert {"task", "data", "split", "n", "seed", "device", "commit"} <= set(document)
    assert document["loss"] is None
    assert "figures" not in document


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metrics": {}, "tables": {}}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no report"):
        Report.from_json(text)


def test_write_puts_page_and_pictures_beside_and_nothing_over_the_report(tmp_path: Path) -> None:
    some_report().write(tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    path = dataclasses.replace(some_report(), split="train").write(tmp_path, "eval-d-train")
    assert path == tmp_path / "eval-d-train.json"
    assert (tmp_path / "report.json").read_bytes() == before
    written = {each.name for each in tmp_path.iterdir()}
    assert written == {
        *("report.json", "report.md", "line.png"),
        *("eval-d-train.json", "eval-d-train.md", "eval-d-train-line.png"),
    }
    page = (tmp_path / "eval-d-train.md").read_text()
    assert "![line](eval-d-train-line.png)" in page
    assert "| accuracy | 0.5000 | 0.2500 | 0.7500 |" in page
    assert "| a\\|b | 0.5000 |" in page
    assert "- `x.png`: truncated" in page
    assert "- two duplicates" in page


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write the report into .*missing"):
        some_report().write(tmp_path / "missing")


def test_the_terminal_shows_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    some_report().print()
    shown = capsys.readouterr().out
    for part in (
        "m on d, test split, n = 3",
        "0.2500 – 0.7500",
        "a|b",
        "best by validation",
        "averaged",
        "as in training",
        "x.png",
        "two duplicates",
    ):
        assert part in shown


def test_the_page_of_a_run_shows_every_picture(trained: Run) -> None:
    page = (trained.folder / "report.md").read_text()
    for name in evaluate(trained).figures:
        assert f"![{name}]({name}.png)" in page
        with Image.open(trained.folder / f"{name}.png") as image:
            assert len(image.convert("L").getcolors() or range(256)) > 16, f"{name}.png is empty"


@pytest.mark.parametrize("num_classes", [2, 30, 120])
def test_pictures_of_few_and_many_classes_keep_a_readable_size(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(num_classes), size=500)
    records = [Record(f"{i:03d}", int(s.argmax()), i % num_classes, s) for i, s in enumerate(scores)]
    measures = classification(records, [f"kind {i}" for i in range(num_classes)])
    for draw in measures.figures.values():
        content = picture(draw)
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        assert 600 <= width <= 2600
        assert 600 <= height <= 2600


def test_curves_of_a_run_without_validation() -> None:
    rows = [{"step": 1, "split": "train", "loss": 1.0, "lr": 0.1}]
    assert picture(lambda figure: draw_curves(figure, rows, "accuracy", 1)).startswith(b"\x89PNG")


def test_a_report_is_replaced_whole_and_its_json_comes_last(tmp_path: Path) -> None:
    path = some_report().write(tmp_path)
    before = path.read_bytes()

    def fails(_: object) -> None:
        raise RuntimeError("no picture")

    with pytest.raises(RuntimeError, match="no picture"):
        dataclasses.replace(some_report(), n=4, figures={"line": fails}).write(tmp_path)
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"report.json", "report.md", "line.png"}


def test_a_file_whose_name_is_no_text_can_be_skipped(tmp_path: Path) -> None:
    skipped = {os.fsdecode(b"caf\xe9.png"): "truncated"}
    path = dataclasses.replace(some_report(), skipped=skipped).write(tmp_path)
    assert Report.from_json(path.read_text(encoding="utf-8")).skipped == skipped


def test_commit_is_the_zoos_own_wherever_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        name = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(
            ["git", *name, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    monkeypatch.delenv("GIT_DIR", raising=False)
    package = tmp_path / "src" / "report.py"
    package.parent.mkdir()
    package.write_text("1")
    monkeypatch.setattr(reports, "__file__", str(package))
    assert commit() is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "of another project, with the zoo installed below it")
    assert commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "the zoo's own")
    monkeypatch.chdir("/")
    assert commit() == git("rev-parse", "HEAD")
    package.write_text("2")
    assert commit() == git("rev-parse", "HEAD") + "+changes"
