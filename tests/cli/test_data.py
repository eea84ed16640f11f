"""`zoo data`: lists, cards, fetching and checks, as a user meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from zoo.cli.data import app
from zoo.errors import UserError


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout


def test_list_says_what_is_here(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "mnist").mkdir(parents=True)
    rows = {row["name"]: row for row in json.loads(run("list", "--json"))}
    assert rows["digits"]["embedded"]
    assert rows["mnist"]["folder"] == str(tmp_path / "mirror" / "mnist")
    assert rows["cifar10"]["folder"] is None
    assert "no; zoo data fetch cifar10" in run("list")
    assert not (tmp_path / "cache").exists(), "listing writes nothing"


def test_show_gives_the_card() -> None:
    card = json.loads(run("show", "mnist", "--json"))
    assert card["splits"] == {"train": 60000, "test": 10000}
    assert len(card["sha256"]) == 64
    assert "train 60000, test 10000" in run("show", "mnist")
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        run("show", "mnits")


def test_what_is_embedded_is_not_fetched() -> None:
    result = CliRunner().invoke(app, ["fetch", "digits"])
    assert result.exit_code == 0
    assert "nothing to fetch" in result.stderr


def test_check_takes_the_task_that_reads_the_place(tmp_path: Path) -> None:
    rows = "\n".join(f"text number {i},{'good' if i % 2 else 'nasty'}" for i in range(40))
    (tmp_path / "a.csv").write_text(f"tweet,mood\n{rows}\nagain,nastly\n")
    data = str(tmp_path / "a.csv")
    assert "none of its columns is called" in run("check", data, status=2)
    columns = ("--set", "data.text_column=tweet", "--set", "data.label_column=mood")
    found = json.loads(run("check", data, *columns, "--json"))
    assert {finding["kind"] for finding in found} == {"reading", "label typo", "tiny class", "imbalance"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="say so with --task; these can be checked: image-classification, speech-"):
        run("check", str(tmp_path / "empty"))


def test_check_names_files_and_exits_with_2_on_errors(tmp_path: Path) -> None:
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.default_rng(100 * label + i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    data = str(tmp_path / "data")
    assert all(finding["severity"] == "note" for finding in json.loads(run("check", data, "--json")))
    (tmp_path / "data" / "cat" / "bad.png").write_text("hello")
    (bad,) = (f for f in json.loads(run("check", data, "--json", status=2)) if f["severity"] == "error")
    assert bad["items"] == ["cat/bad.png"]
    assert "error: unreadable" in run("check", data, "--task", "image-classification", status=2)
    with pytest.raises(UserError, match="unknown dataset or place"):
        run("check", str(tmp_path / "gone"))
