"""The trainer: what it learns, what it writes, and that a run stopped anywhere goes on bit for bit."""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.checkpoint import Checkpoint
from zoo.core import Model
from zoo.errors import RunWarning, UserError
from zoo.run import Run, new_run, open_run
from zoo.training import train

EVERYTHING: dict[str, Any] = {"train.ema_decay": 0.9, "train.accumulate": 2, "train.save_every": 2, "train.steps": 9}


def trained(out: Path, **settings: Any) -> Run:
    return train(
        "tiny", out=out, settings={key.replace("__", "."): v for key, v in settings.items()}, show_progress=False
    )


def last(run: Run) -> Model:
    return run.load_model(run.checkpoint("newest"))


def weights_hash(run: Run) -> str:
    return hashlib.sha256(run.checkpoint("newest").weights.read_bytes()).hexdigest()


def test_it_learns_and_leaves_a_whole_run_folder(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__epochs=20, core__dropout=0.0)
    report = run.report()
    assert report is not None
    assert report.metrics["accuracy"].value > 0.8
    assert run.status()["state"] == "done"
    train_rows = [row for row in run.metrics() if row["split"] == "train"]
    validation = [row for row in run.metrics() if row["split"] == "validation"]
    assert len(train_rows) == 20 * 6
    assert len(validation) == 20
    assert train_rows[-1]["loss"] < train_rows[0]["loss"] / 2
    assert train_rows[0].keys() >= {"lr", "grad_norm", "items_per_second", "data_wait", "memory_bytes"}
    best = max(validation, key=lambda row: (row["accuracy"], -row["loss"]))
    expected = {"step": best["step"], "metric": "accuracy", "value": best["accuracy"], "loss": best["loss"]}
    expected["higher_is_better"] = True
    assert run.status()["best"] == expected
    assert run.checkpoint().step == best["step"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_cut_after_any_checkpoint_goes_on_bit_for_bit(tiny: str, tmp_path: Path, workers: int) -> None:
    settings = EVERYTHING | {"train.workers": workers, "train.keep": 9}
    whole = train("tiny", out=tmp_path / "whole", settings=settings, show_progress=False)
    for step in (2, 6):
        cut = tmp_path / f"cut-{step}"
        _copy_until(whole, cut, step)
        resumed = train("tiny", out=cut, resume=True, show_progress=False)
        for name in ("model.safetensors", "state/ema.safetensors", "state/optimizer.safetensors"):
            assert _sha(resumed, name) == _sha(whole, name)
        assert [row["step"] for row in resumed.metrics()] == [row["step"] for row in whole.metrics()]


def test_the_number_of_workers_changes_nothing(tiny: str, tmp_path: Path) -> None:
    none, two = (trained(tmp_path / str(n), **EVERYTHING, train__workers=n) for n in (0, 2))
    ours, theirs = last(none).state_dict(), last(two).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def _copy_until(run: Run, to: Path, step: int) -> None:
    """What a kill just after the checkpoint of `step` would have left, a half-written one after it included."""
    subprocess.run(["cp", "-r", str(run.folder), str(to)], check=True)
    for folder in (to / "checkpoints").iterdir():
        if int(folder.name[5:]) > step:
            (folder / "manifest.json").unlink()
    (to / "status.json").unlink()


def _sha(run: Run, name: str) -> str:
    return hashlib.sha256((run.checkpoint("newest").folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(tiny: str, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "zoo", "train", "tiny", "--out", str(out), "--steps", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text().count("\n") > 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"zoo train tiny --out {out} --resume" in said
    assert "Traceback" not in said
    run = open_run(out)
    assert run.status()["state"] == "preempted"
    assert run.checkpoint("newest").step > 3


def test_kill_9_loses_nothing_saved(tiny: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "train", "tiny", "--steps", "60", "--set", "train.save_every=3", "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(cut)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((cut / "checkpoints").glob("step-*/manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    subprocess.run([*command, str(cut), "--resume"], check=True, capture_output=True)
    assert weights_hash(open_run(cut)) == weights_hash(open_run(whole))


def test_accumulating_is_the_same_as_a_larger_batch(tiny: str, tmp_path: Path) -> None:
    # SGD, since AdamW's first step has the size of lr however small the gradient, and so enlarges rounding.
    plain = {"augment.noise": 0.0, "core.dropout": 0.0, "train.steps": 1, "train.optimizer": "sgd", "train.lr": 0.1}
    one = train("tiny", out=tmp_path / "one", settings={**plain, "train.batch_size": 48}, show_progress=False)
    three = {**plain, "train.batch_size": 16, "train.accumulate": 3}
    many = train("tiny", out=tmp_path / "many", settings=three, show_progress=False)
    ours, theirs = last(one).state_dict(), last(many).state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-5)


def test_patience_ends_a_run_that_no_longer_gets_better(tiny: str, tmp_path: Path) -> None:
    settings = {"train.lr": 1e-30, "train.patience": 2, "train.epochs": 50}
    run = train("tiny", out=tmp_path / "run", settings=settings, show_progress=False)
    assert run.status()["step"] == 3 * 6


def test_only_the_newest_and_the_best_checkpoints_stay(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__epochs=6, train__keep=1)
    kept = {int(path.name[5:]) for path in run.checkpoints.iterdir()}
    assert kept == {36, run.status()["best"]["step"]}


def test_a_lost_best_checkpoint_is_told_on_resuming_and_the_best_that_is_left_takes_its_place(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {"train__lr": 1e-30, "train__patience": 3, "train__epochs": 50, "train__keep": 99}  # all evaluations tie
    whole = trained(tmp_path / "whole", **plan)
    assert (whole.checkpoint().step, whole.status()["step"]) == (6, 24)
    _copy_until(whole, tmp_path / "none", 0)
    train("tiny", out=tmp_path / "none", resume=True)
    assert "no checkpoint is left: the training begins anew" in " ".join(capsys.readouterr().err.split())
    _copy_until(whole, tmp_path / "cut", 18)
    cut = open_run(tmp_path / "cut")
    shutil.rmtree(cut.checkpoint().folder)
    resumed = train("tiny", out=cut.folder, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "of step 6, is missing or broken; the best that is left is of step 12" in said
    assert resumed.checkpoint().step == resumed.status()["best"]["step"] == 12
    assert resumed.status()["step"] == 24  # patience is what it was


def test_a_finished_run_whose_checkpoints_are_lost_is_told_on_resuming(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__keep=99)
    best = run.checkpoint()
    train("tiny", out=run.folder, resume=True)  # all is there
    best.folder.rename(run.checkpoints / "step-00000099")  # another is left
    with pytest.warns(RunWarning, match=rf"of step {best.step}, is missing or broken"):
        train("tiny", out=run.folder, resume=True)
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="has no checkpoint to load"):
        train("tiny", out=run.folder, resume=True)


def test_a_run_that_does_not_say_which_way_is_better_goes_on(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", train__epochs=4, train__keep=99)
    _copy_until(whole, tmp_path / "cut", 12)
    stored = Checkpoint.trainer

    def older(checkpoint: Checkpoint) -> dict[str, Any]:
        state = stored(checkpoint)
        state["best"].pop("higher_is_better", None)
        return state

    monkeypatch.setattr(Checkpoint, "trainer", older)
    assert train("tiny", out=tmp_path / "cut", resume=True).status()["best"] == whole.status()["best"]


def test_a_loss_that_is_not_finite_stops_before_the_step(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        trained(tmp_path / "run", augment__poison_id="train/7", train__batch_size=4)
    step = int(str(caught.value).split()[1])
    assert "train/7" in str(caught.value)
    run = open_run(tmp_path / "run")
    assert run.checkpoint("newest").step == step - 1
    assert all(torch.isfinite(value).all() for value in last(run).state_dict().values())
    assert run.status()["state"] == "failed"


def test_a_broken_item_stops_or_is_skipped_and_listed(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'train/7' is broken\n.*data.on_error=skip"):
        trained(tmp_path / "stop", augment__broken_id="train/7")
    run = trained(tmp_path / "skip", augment__broken_id="train/7", data__on_error="skip")
    report = run.report()
    assert report is not None
    assert any("train/7" in note for note in report.notes)


def test_an_average_goes_on_that_had_not_begun(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the first step would learn from is unreadable, and the run stops there."""
    numbers, asked = importlib.import_module("zoo_tiny.task").Numbers, list[str]()
    with monkeypatch.context() as patch:
        given = numbers.__getitem__
        patch.setattr(numbers, "__getitem__", lambda self, i: (asked.append(self.ids[i]), given(self, i))[1])
        trained(tmp_path / "looks", train__batch_size=1, train__steps=1)
    first = next(name for name in asked if name.startswith("train/"))
    plan: dict[str, Any] = {"train__batch_size": 1, "train__steps": 4, "train__save_every": 1, "train__keep": 9}
    plan |= {"train__ema_decay": 0.9, "augment__broken_id": first, "data__on_error": "skip"}
    whole = trained(tmp_path / "whole", **plan)
    _copy_until(whole, tmp_path / "cut", 1)
    assert open_run(tmp_path / "cut").checkpoint("newest").trainer()["updates"] == 0
    resumed = train("tiny", out=tmp_path / "cut", resume=True, show_progress=False)
    averages = [run.checkpoint("newest").ema_weights for run in (whole, resumed)]
    assert averages[0] is not None
    assert averages[1] is not None
    assert averages[0].read_bytes() == averages[1].read_bytes()


def test_resuming_asks_for_the_same_spec(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=2)
    again = train("tiny", out=run.folder, resume=True, settings={"train.steps": 2}, show_progress=False)
    assert again.status() == run.status()
    with pytest.raises(UserError, match=r"train.steps: the run has 2, the command 3"):
        train("tiny", out=run.folder, resume=True, steps=3, show_progress=False)
    with pytest.raises(UserError, match=r'model: the run has "tiny", the command "vit-small"'):
        train("vit-small", out=run.folder, resume=True, show_progress=False)
    with pytest.raises(UserError, match="needs the run's folder"):
        train("tiny", resume=True)
    with pytest.raises(UserError, match="does not exist"):
        train("tiny", out=tmp_path / "nothing", resume=True)


def test_resuming_needs_no_more_than_the_folder(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole", train__steps=6, train__save_every=3)
    _copy_until(whole, tmp_path / "cut", 3)
    monkeypatch.setattr("zoo.registry.open_registry", lambda: pytest.fail("the registry may have changed since"))
    assert weights_hash(train("tiny", out=tmp_path / "cut", resume=True)) == weights_hash(whole)


def test_resuming_on_other_data_is_refused(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _copy_until(trained(tmp_path / "whole", train__steps=6, train__save_every=3), tmp_path / "cut", 3)
    ours = sys.modules["zoo_tiny.task"]
    monkeypatch.setattr(ours, "Numbers", functools.partial(ours.Numbers, shift=1.0))
    with pytest.raises(UserError, match=r"the train data of .* changed: it had 90 items, now it has 90 others"):
        train("tiny", out=tmp_path / "cut", resume=True)


def test_two_trainings_in_one_folder_are_refused(tiny: str, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", train__steps=6, train__save_every=3)
    _copy_until(whole, tmp_path / "cut", 3)
    with Run(tmp_path / "cut").lock(), pytest.raises(UserError, match="another process trains in"):
        train("tiny", out=tmp_path / "cut", resume=True)


def test_no_whole_checkpoint_is_said_and_nothing_is_touched(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=2)
    _copy_until(run, tmp_path / "cut", 2)
    (tmp_path / "cut" / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    before = (tmp_path / "cut" / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match=r"no checkpoint of .* is whole:\n  step-00000002"):
        train("tiny", out=tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == before


def test_a_folder_in_use_is_left_alone(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=1)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    with pytest.raises(UserError, match="holds a run already\nadd --resume"):
        trained(run.folder, train__steps=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an empty folder"):
        trained(tmp_path / "full")
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_a_run_that_failed_before_its_first_step_does_not_hold_its_place(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tracker"):
        trained(tmp_path / "run", train__trackers=["no-such"])
    with Run(tmp_path / "run").lock(), pytest.raises(UserError, match="another process trains"):
        trained(tmp_path / "run", train__steps=1)
    assert trained(tmp_path / "run", train__steps=1).status()["state"] == "done"


def test_a_finished_run_that_was_thinned_out_still_holds_its_place(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=1)
    shutil.rmtree(run.checkpoints)
    run.metrics_file.unlink()
    with pytest.raises(UserError, match="holds a run already"):
        trained(run.folder, train__steps=1)


def test_a_second_starter_in_one_folder_is_refused_and_changes_nothing(tiny: str, tmp_path: Path) -> None:
    from zoo.registry import open_registry

    one, other = (open_registry().resolve("tiny", settings={"train.seed": seed}).spec for seed in (1, 2))
    with (
        new_run(tmp_path / "run", one) as run,
        pytest.raises(UserError, match="another process trains"),
        new_run(tmp_path / "run", other),
    ):
        pass
    assert run.spec.train.seed == 1


@pytest.mark.parametrize("split", ["validation", "test"])
def test_resuming_on_other_items_to_judge_by_is_refused(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    whole = trained(tmp_path / "whole", train__steps=6, train__save_every=3)
    _copy_until(whole, tmp_path / "cut", 3)
    task = whole.task_class
    splits = task.datasets(whole.spec)
    other = dataclasses.replace(splits, **{split: splits.train})
    monkeypatch.setattr(task, "datasets", lambda *_: other)
    with pytest.raises(UserError, match=f"the {split} data of .* changed"):
        train("tiny", out=tmp_path / "cut", resume=True, show_progress=False)


def test_resuming_on_other_targets_is_refused(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that was mended in a table leaves ids and contents as they were."""
    numbers = importlib.import_module("zoo_tiny.task").Numbers
    monkeypatch.setattr(numbers, "targets", property(lambda each: [0] * len(each)), raising=False)
    _copy_until(trained(tmp_path / "whole", train__steps=6, train__save_every=3), tmp_path / "cut", 3)
    monkeypatch.setattr(numbers, "targets", property(lambda each: [1] * len(each)))
    with pytest.raises(UserError, match=r"the train data of .* changed: it had 90 items, now it has 90 others"):
        train("tiny", out=tmp_path / "cut", resume=True, show_progress=False)


def test_patience_loses_no_line_of_the_metrics(tiny: str, tmp_path: Path) -> None:
    run = trained(
        tmp_path / "run", train__steps=40, train__eval_every=2, train__patience=1, train__log_every=30, train__lr=1e-12
    )
    rows = [row for row in run.metrics() if row["split"] == "train"]
    assert [row["step"] for row in rows] == [run.status()["step"]]


def test_a_copy_beside_the_checkpoints_is_left_alone(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=2)
    newest = run.checkpoint("newest").folder
    shutil.copytree(newest, newest.with_name(f"{newest.name}.bak"))
    assert run.checkpoint("newest").folder == newest


def test_a_status_that_cannot_be_read_is_none(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=1)
    for content in ("{", "[]"):
        (run.folder / "status.json").write_text(content)
        assert run.status() == {}


def test_what_does_not_fit_into_memory_is_the_users_to_mend(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not fit into the memory of cpu\nlower train\.batch_size"):
        trained(tmp_path / "run", core__dim=2_000_000)


def test_an_unusable_place_is_the_users_to_mend(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the run folder"):
        trained(tmp_path / "file" / "run")


def test_a_corrupt_newest_checkpoint_gives_way_to_the_one_before(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = trained(tmp_path / "whole", train__steps=9, train__save_every=3, train__keep=5)
    cut = tmp_path / "cut"
    _copy_until(whole, cut, 6)
    path = cut / "checkpoints" / "step-00000006" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    resumed = train("tiny", out=cut, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "step-00000006 is not whole: model.safetensors differs from its SHA-256" in said
    assert "going on from step 3" in said
    assert weights_hash(resumed) == weights_hash(whole)


def test_a_device_that_is_not_here_leaves_no_folder(tiny: str, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError, match="device 'cuda' is not usable here; usable: cpu"):
        train("tiny", out=tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_bf16_trains_weights_of_fp32(tiny: str, tmp_path: Path) -> None:
    runs = [train("tiny", out=tmp_path / p, steps=2, precision=p, show_progress=False) for p in ("fp32", "bf16")]
    exact, rounded = (last(run).state_dict() for run in runs)
    assert all(value.dtype == torch.float32 for value in rounded.values())
    assert not all(torch.equal(value, rounded[name]) for name, value in exact.items())


def test_spec_is_written_whole(tiny: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", train__steps=1)
    metadata = run.checkpoint().metadata()
    assert metadata["spec"] == json.loads(run.spec.model_dump_json())
    assert metadata["info"] == {"classes": ["no", "yes"]}
    assert run.spec.plugins["zoo_tiny"].sha256
    assert os.listdir(run.folder / "checkpoints") == ["step-00000001"]
