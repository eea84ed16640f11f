"""Predictions come in order and survive broken inputs; files are whole or absent."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from zoo.errors import UserError
from zoo.predictor import Answer, check_out, predict, write_answers
from zoo.run import Run


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Twenty files of four numbers, more than a batch; the sixth is broken."""
    folder = tmp_path / "files"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02d}.txt").write_text("no number" if i == 5 else f"{i / 10} 0 0.5 0.5")
    return sorted(map(str, folder.iterdir()))


def test_predictions_equal_the_models_one_by_one(trained: Run, files: list[str]) -> None:
    found = predict(trained.folder, files)
    assert [answer.input for answer in found] == files
    model, classes = trained.load_model(), ["no", "yes"]
    for i, answer in enumerate(found):
        if i == 5:
            continue
        with torch.no_grad():
            scores = model({"numbers": torch.tensor([[i / 10, 0, 0.5, 0.5]])}).logits.softmax(-1)[0]
        assert answer.values["label"] == classes[int(scores.argmax())]
        assert answer.values["probability"] == pytest.approx(float(scores.max()), abs=1e-5)


def test_a_broken_input_is_answered_in_its_place(trained: Run, files: list[str]) -> None:
    found = predict(trained, files)
    assert [answer.error is not None for answer in found] == [i == 5 for i in range(20)]
    assert "could not convert" in str(found[5].error)


def test_a_single_input_needs_no_list_and_may_come_twice(trained: Run, files: list[str]) -> None:
    assert predict(trained, files[0]) == predict(trained, files)[:1]
    assert predict(trained, [files[0], files[0]]) == predict(trained, files[0]) * 2
    assert predict(trained, Path(files[0])) == predict(trained, [Path(files[0])]) == predict(trained, files[0])


def test_a_broken_input_that_comes_twice_is_answered_twice(trained: Run, files: list[str]) -> None:
    asked = [files[5], files[0], files[5], files[1]]
    found = predict(trained, asked)
    assert [answer.input for answer in found] == asked
    assert [answer.error is not None for answer in found] == [True, False, True, False]


def test_a_missing_input_is_answered_by_its_error(trained: Run, files: list[str]) -> None:
    missing, good = predict(trained, ["nowhere.txt", files[0]])
    assert "nowhere.txt" in (missing.error or "")
    assert good.error is None


ANSWERS = [
    Answer('a "quoted", name\n.png', {"label": "x,y", "probability": 0.5}),
    Answer("broken.png", {}, "truncated"),
    Answer("b.png", {"label": "ü", "probability": 1.0}, details={"more": [1, 2]}),
]


def test_csv_is_quoted_and_leaves_out_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert list(write_answers(ANSWERS, path, {})) == ANSWERS
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"input": ANSWERS[0].input, "label": "x,y", "probability": "0.5"},
        {"input": "b.png", "label": "ü", "probability": "1.0"},
    ]


def test_jsonl_has_a_line_for_each_prediction(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    list(write_answers(ANSWERS, path, {}))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [ANSWERS[0].row, {**ANSWERS[2].row, "more": [1, 2]}]


def test_txt_has_the_first_value_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    list(write_answers(ANSWERS, path, {}))
    assert path.read_text(encoding="utf-8") == "x,y\nü\n"


def test_a_task_s_format_is_of_one_input(tmp_path: Path) -> None:
    path = tmp_path / "out.up"
    formats = {".up": lambda row: f"{row['label'].upper()} {row['more']}"}
    assert list(write_answers(ANSWERS[2:], path, formats)) == ANSWERS[2:]
    assert path.read_text(encoding="utf-8") == "Ü [1, 2]"
    path.unlink()
    with pytest.raises(UserError, match="is of one input"):
        list(write_answers(ANSWERS[1:], path, formats))
    assert not path.exists()


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    assert list(write_answers(ANSWERS[1:2], path, {})) == ANSWERS[1:2]
    assert path.read_text() == "before"

    def fails() -> Iterator[Answer]:
        yield ANSWERS[0]
        assert path.read_text() == "before"
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        list(write_answers(fails(), path, {}))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.xlsx", "out", "missing/out.csv", "."])
def test_a_file_that_cannot_be_written_is_refused_at_once(trained: Run, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot write"):
        check_out(tmp_path / name, trained)
