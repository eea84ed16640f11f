"""Commands on runs as a user meets them: what stands on stdout and on disk, and the exit status."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from zoo.cli import main
from zoo.inference import predictions
from zoo.run import Run
from zoo.training import train


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ended]:
    """The command line, run in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three inputs; the second is broken."""
    folder = tmp_path / "files"
    folder.mkdir()
    paths = [folder / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, text in zip(paths, ("1 1 0 0", "no number", "0 0 1 1"), strict=True):
        path.write_text(text)
    return paths


def test_eval_writes_beside_the_report_and_prints_one_document(zoo: Callable[..., Ended], trained: Run) -> None:
    before = (trained.folder / "report.json").read_bytes()
    ended = zoo("eval", trained.folder, "--split", "validation", "--json")
    assert ended.status == 0
    path = trained.folder / "eval-sums-validation.json"
    assert json.loads(path.read_text()) == ended.document
    assert ended.document["split"] == "validation"
    assert str(path) in ended.err
    assert (trained.folder / "report.json").read_bytes() == before


def test_eval_of_all_splits_has_a_name_of_its_own(zoo: Callable[..., Ended], trained: Run) -> None:
    ended = zoo("eval", trained.folder, "--split", "all", "--json")
    assert ended.status == 0
    assert (ended.document["split"], ended.document["n"]) == ("all", 210)
    assert (trained.folder / "eval-sums-all.json").exists()


def test_eval_shows_the_report(zoo: Callable[..., Ended], trained: Run) -> None:
    shown = zoo("eval", trained.folder).out
    assert "tiny on sums, test split, n = 100" in shown
    assert "f1_macro" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "nowhere"], "'nowhere' does not exist"),
        (["eval", "RUN", "--split", "tset"], "unknown split 'tset'; did you mean 'test'"),
        (["predict", "RUN", "nowhere.txt"], "nowhere.txt"),
        (["predict", "RUN", "FILE", "--out", "/proc/x.csv"], "cannot write '/proc/x.csv'"),
        (["predict", "RUN", "-"], "stdin named no input"),
        (["predict", "RUN", "FILE", "--out", "x.xlsx"], "written as .csv or .jsonl"),
        (["predict", "RUN", "FILE", "--top-k", "0"], "top-k"),
        (["explain", "RUN", "FILE", "--layer", "99"], "no layer 99"),
        (["explain", "RUN", "FILE", "--out", "x.jpg"], "written as .png"),
        (["explain", "RUN", "FILE", "FILE", "--out", "x.png"], "holds one picture, but there are 2 inputs"),
        (["runs", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_what_a_user_may_get_wrong_is_one_message(
    zoo: Callable[..., Ended], trained: Run, files: list[Path], arguments: list[str], message: str
) -> None:
    meant = {"RUN": trained.folder, "FILE": files[0]}
    ended = zoo(*(meant.get(each, each) for each in arguments))
    assert ended.status == 2
    assert message in ended.err
    assert ended.out == ""
    assert list(Path().iterdir()) == []


def test_predict_names_what_is_broken_and_goes_on(zoo: Callable[..., Ended], trained: Run, files: list[Path]) -> None:
    ended = zoo("predict", trained.folder, *files, "--json")
    assert ended.status == 2
    assert [row["input"] for row in ended.document] == [str(files[0]), str(files[2])]
    assert all({"label", "probability"} <= row.keys() for row in ended.document)
    assert f"cannot read '{files[1]}'" in ended.err
    assert "1 of 3 inputs could not be read" in ended.err


def test_predict_reads_stdin_and_writes_a_file(zoo: Callable[..., Ended], trained: Run, files: list[Path]) -> None:
    ended = zoo("predict", trained.folder, "-", "--out", "x.csv", stdin=f"{files[0]}\n\n{files[2]}\n")
    assert ended.status == 0
    assert ended.out == ""
    lines = Path("x.csv").read_text().splitlines()
    assert lines[0] == "input,label,probability"
    assert [line.split(",")[0] for line in lines[1:]] == [str(files[0]), str(files[2])]


def test_predict_says_that_the_best_checkpoint_is_lost(trained: Run, files: list[Path]) -> None:
    best = trained.checkpoint()
    shutil.copytree(best.folder, trained.checkpoints / f"step-{best.step + 1:08d}")
    for folder in trained.checkpoints.iterdir():
        if folder.name != f"step-{best.step + 1:08d}":
            (folder / "model.safetensors").write_bytes(b"")
    command = [sys.executable, "-W", "ignore", "-m", "zoo", "predict", str(trained.folder), str(files[0]), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(ended.stdout)) == 1
    assert ended.stderr == (
        f"zoo: run '{trained.folder}': the best checkpoint by validation, of step {best.step}, is missing or broken; "
        f"step {best.step + 1} was used\ncopy the lost folder back, or train again\n"
    )


def test_predict_prints_a_table(zoo: Callable[..., Ended], trained: Run, files: list[Path]) -> None:
    lines = zoo("predict", trained.folder, files[0]).out.splitlines()
    assert lines[0].split() == ["input", "label", "probability"]
    assert lines[1].split()[0] == str(files[0])


def test_explain_draws_a_picture_for_each_input(zoo: Callable[..., Ended], trained: Run, files: list[Path]) -> None:
    ended = zoo("explain", trained.folder, files[0], files[2])
    assert ended.status == 0
    assert ended.out.splitlines() == ["a-attention.png", "c-attention.png"]
    assert Path("a-attention.png").read_bytes().startswith(b"\x89PNG")

    zoo("explain", trained.folder, files[0], "--method", "rollout", "--out", "one.png")
    assert Path("one.png").read_bytes() != Path("a-attention.png").read_bytes()

    ended = zoo("explain", trained.folder, *files, "--out", "many")
    assert ended.status == 2
    assert sorted(path.name for path in Path("many").iterdir()) == ["a-attention.png", "c-attention.png"]


def test_inputs_of_one_name_get_pictures_of_their_own(
    zoo: Callable[..., Ended], trained: Run, files: list[Path]
) -> None:
    twin = files[0].parent / "more" / "a.txt"
    twin.parent.mkdir()
    twin.write_text("0 0 1 1")
    ended = zoo("explain", trained.folder, files[0], twin, "--out", "many")
    assert len({*ended.out.splitlines()}) == len(list(Path("many").iterdir())) == 2


def test_runs_stand_side_by_side_and_broken_ones_say_why(zoo: Callable[..., Ended], trained: Run) -> None:
    folder = trained.folder.parent
    (folder / "no-run").mkdir()
    (folder / "no-spec").mkdir()
    (folder / "no-spec" / "spec.yaml").write_text("model: 3\n")
    ended = zoo("runs", folder, "--json")
    assert ended.status == 0
    rows = {row["run"]: row for row in ended.document}
    report = json.loads((trained.folder / "report.json").read_text())
    good = rows["run"]
    assert (good["model"], good["data"], good["state"], good["steps"]) == ("tiny", "sums", "done", 12)
    assert (good["metric"], good["problem"]) == ("accuracy", None)
    assert {key: good[key] for key in ("value", "low", "high")} == report["metrics"]["accuracy"]
    assert "no spec.yaml" in rows["no-run"]["problem"]
    assert rows["no-spec"]["problem"]

    (trained.folder / "report.json").write_text("{")
    trained.set_status("failed", why="out of memory")
    (row,) = zoo("runs", trained.folder, "--json").document
    assert row["state"] == "failed"
    assert row["steps"] == 12
    assert row["problem"]
    assert "tiny" in zoo("runs", folder).out


def test_runs_knows_the_killed_and_counts_links_once(zoo: Callable[..., Ended], trained: Run) -> None:
    trained.set_status("running")  # as one whose process is gone
    (trained.folder.parent / "latest").symlink_to(trained.folder)
    rows = {row["run"]: row for row in zoo("runs", trained.folder.parent, "--json").document}
    assert rows["run"]["state"] == "killed"
    assert "latest" not in rows
    with trained.lock():
        (row,) = zoo("runs", trained.folder, "--json").document
    assert row["state"] == "running"


def test_runs_counts_steps_up_to_the_newest_checkpoint(zoo: Callable[..., Ended], trained: Run) -> None:
    (newest,) = (each for each in trained.checkpoints.iterdir() if each.name == "step-00000012")
    newest.rename(newest.with_name("step-00000021"))  # after the last row that was logged
    (row,) = zoo("runs", trained.folder, "--json").document
    assert row["steps"] == 21


def test_runs_of_a_live_run_survives_files_that_go(
    zoo: Callable[..., Ended], trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: [*listed(self), self / ".status.json.part"])
    (row,) = zoo("runs", trained.folder, "--json").document
    assert (row["state"], row["problem"]) == ("done", None)
    assert row["modified"]


def test_picture_files_are_read_as_the_test_split_is(zoo: Callable[..., Ended], tmp_path: Path) -> None:
    out = tmp_path / "digits"
    run = train("vit-micro", recipe="digits", steps=30, device="cpu", out=out, show_progress=False)
    task, spec = run.load_task(), run.spec
    dataset = task.datasets(spec).test
    expected = predictions(run.load_model(), task, dataset, spec=spec, device=torch.device("cpu")).records[:12]
    Path("pictures").mkdir()
    for i, record in enumerate(expected):
        Image.fromarray(dataset[i].inputs[0]).save(f"pictures/{record.id}.png")
    Path("pictures/broken.png").write_text("no picture")

    ended = zoo("predict", out, "pictures", "--top-k", "3", "--json")
    assert ended.status == 2
    assert "broken.png" in ended.err
    found = {Path(row["input"]).stem: row for row in ended.document}
    assert found.keys() == {record.id for record in expected}
    for record in expected:
        row = found[record.id]
        assert row["label"] == str(record.prediction)
        assert row["probability"] == pytest.approx(float(record.scores.max()), abs=1e-5)
        assert row["probability"] >= row["probability_2"] >= row["probability_3"]

    ended = zoo("explain", out, "pictures", "--out", "drawn")
    assert len(list(Path("drawn").iterdir())) == len(expected)
