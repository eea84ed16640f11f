"""A run's report holds what its records say, from the best checkpoint, on the split that was asked for."""

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from zoo import evaluator, inference, plugins
from zoo.checkpoint import Checkpoint
from zoo.contract import Record, Splits
from zoo.data.loader import evaluation_batches
from zoo.data.splits import Subset
from zoo.errors import RunWarning, UserError
from zoo.metrics import intervals
from zoo.run import Run

CPU = torch.device("cpu")


def records_of(run: Run) -> Sequence[Record]:
    """The records of the test split, all in one batch."""
    task, dataset = run.load_task(), run.load_task().datasets(run.spec).test
    (loaded,) = evaluation_batches(task, dataset, batch_size=len(dataset), on_error="stop", workers=0, pin=False)
    assert loaded.batch is not None
    with torch.no_grad():
        return task.decode(run.load_model()(loaded.batch.inputs), loaded.batch)


def test_report_is_computed_from_the_records(trained: Run) -> None:
    report = evaluator.evaluate(trained)
    records = records_of(trained)
    expected = intervals(trained.load_task().measure(records).statistics, len(records), trained.spec.train.seed)
    for name, value in report.metrics.items():
        assert value == pytest.approx(expected[name], abs=1e-6)
    assert report.metrics["accuracy"].value == sum(r.prediction == r.target for r in records) / len(records)
    log_likelihood = sum(math.log(r.scores[r.target]) for r in records if r.scores is not None)
    assert report.loss == pytest.approx(-log_likelihood / len(records), rel=1e-5)
    assert (report.n, report.data, report.split, report.seed, report.primary) == (100, "sums", "test", 7, "accuracy")
    assert report.checkpoint == {"step": trained.checkpoint().step, "weights": "trained", "chosen": "best"}
    assert set(report.figures) == {"confusion-matrix", "reliability", "attention"}


def test_batch_size_changes_neither_records_nor_loss(trained: Run) -> None:
    model, task = trained.load_model(), trained.load_task()
    dataset = task.datasets(trained.spec).test
    found = []
    for batch_size in (1, 16, 100):
        train = trained.spec.train.model_copy(update={"batch_size": batch_size})
        spec = trained.spec.model_copy(update={"train": train})
        found.append(inference.predictions(model, task, dataset, spec=spec, device=CPU))
    for each in found:
        assert [record.id for record in each.records] == dataset.ids
        assert each.loss == pytest.approx(found[0].loss, rel=1e-5)


def test_score_is_the_report_without_intervals(trained: Run) -> None:
    report = evaluator.evaluate(trained)
    task, spec = trained.load_task(), trained.spec
    found = inference.predictions(trained.load_model(), task, task.datasets(spec).test, spec=spec, device=CPU)
    quick = evaluator.score(task.measure(found.records), len(found.records))
    assert quick == {name: value.value for name, value in report.metrics.items()}


def test_training_ends_with_learning_curves_in_its_report(trained: Run) -> None:
    written = {path.name for path in trained.folder.iterdir()}
    pictures = {"confusion-matrix.png", "reliability.png", "attention.png", "learning-curves.png"}
    assert pictures | {"report.json", "report.md"} <= written
    splits = trained.load_task().datasets(trained.spec)
    report = evaluator.examine(trained, splits, "test", notes=["told by the trainer"])
    assert "learning-curves" in report.figures
    assert report.notes == ["told by the trainer"]


def test_unreadable_items_are_skipped_and_listed_or_stop(trained: Run) -> None:
    spec = trained.spec
    trained.__dict__["spec"] = spec.model_copy(update={"augment": {**spec.augment, "broken_id": "test/3"}})
    with pytest.raises(UserError, match="1 of 100 items of the test split of 'sums' cannot be read") as stopped:
        evaluator.evaluate(trained)
    assert "test/3: 'test/3' is broken" in str(stopped.value)

    report = evaluator.evaluate(trained, on_error="skip")
    assert report.n == 99
    assert report.skipped == {"test/3": "'test/3' is broken"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_what_a_user_may_get_wrong(trained: Run, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluator.evaluate(trained, **arguments)


def test_an_empty_split_and_one_without_targets(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    task = type(trained.load_task())
    splits = task.datasets(trained.spec)
    monkeypatch.setattr(task, "datasets", lambda *_: dataclasses.replace(splits, test=[]))
    with pytest.raises(UserError, match="the test split of 'sums' is empty"):
        evaluator.evaluate(trained)

    def without(item: Any) -> Any:
        return dataclasses.replace(item, target=None)

    numbers = type(splits.test)
    read = numbers.__getitem__
    monkeypatch.setattr(task, "datasets", lambda *_: splits)
    monkeypatch.setattr(numbers, "__getitem__", lambda self, index: without(read(self, index)))
    with pytest.raises(
        UserError, match="100 of 100 items of the test split of 'sums' have no target, such as 'test/0'"
    ):
        evaluator.evaluate(trained)


def test_a_folder_that_is_no_run_and_a_run_without_checkpoint(trained: Run) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        evaluator.evaluate(trained.folder.parent)
    for manifest in trained.checkpoints.glob("*/manifest.json"):
        manifest.unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        evaluator.evaluate(trained.folder)


def test_a_task_that_cannot_draw_has_no_gallery(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {name: member for name, member in vars(type(trained.load_task())).items() if name != "draw"}
    monkeypatch.setattr(plugins, "task_class", lambda _: type("Plain", (), members))
    assert "attention" not in evaluator.evaluate(trained.folder).figures


def test_the_same_run_gives_the_same_figures(trained: Run) -> None:
    one, other = (evaluator.evaluate(trained.folder) for _ in range(2))
    timeless: dict[str, Any] = {"date": "", "seconds": 0.0, "items_per_second": 0.0, "figures": {}}
    assert dataclasses.replace(one, **timeless) == dataclasses.replace(other, **timeless)


def test_all_splits_are_scored_together(trained: Run) -> None:
    report = evaluator.evaluate(trained, split="all")
    parts = {split: evaluator.evaluate(trained, split=split) for split in evaluator.SPLITS}
    assert report.n == sum(part.n for part in parts.values()) == 90 + 20 + 100
    right = sum(part.metrics["accuracy"].value * part.n for part in parts.values())
    assert report.metrics["accuracy"].value == pytest.approx(right / report.n)
    assert report.loss == pytest.approx(sum(part.loss * part.n for part in parts.values()) / report.n)
    assert report.notes == ["all items together: 90 train, 20 validation, 100 test; those of train were trained on"]
    assert report.title == "tiny on sums, all splits, n = 210"


def test_data_without_a_test_split_is_scored_by_its_share_and_says_so(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = type(trained.load_task())
    whole = task.datasets(trained.spec).test
    train, validation, test = (Subset(whole, range(*ends)) for ends in ((0, 80), (80, 85), (85, 100)))
    monkeypatch.setattr(task, "datasets", lambda *_: Splits(train, validation, test))
    elsewhere = str(trained.folder.resolve())
    report = evaluator.evaluate(trained, elsewhere)
    assert (report.n, report.data) == (15, elsewhere)
    (note,) = report.notes
    assert "no test split of its own: only the share of 15 items" in note
    assert "--split all" in note
    assert evaluator.evaluate(trained).notes == []
    assert evaluator.evaluate(trained, elsewhere, "all").notes == [
        "all items together: 80 train, 5 validation, 15 test"
    ]


def test_a_lost_best_checkpoint_gives_way_to_the_newest_and_the_report_says_so(trained: Run) -> None:
    best, newest = trained.checkpoint(), trained.checkpoint("newest")
    if best.step == newest.step:
        later = trained.checkpoints / f"step-{best.step + 1:08d}"
        shutil.copytree(best.folder, later)
        newest = Checkpoint(later)
    for folder in trained.checkpoints.iterdir():
        if folder != newest.folder:
            Checkpoint(folder).weights.write_bytes(b"")
    rows = [row for row in trained.metrics() if row["step"] != newest.step]
    trained.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(RunWarning, match=rf"of step {best.step}, is missing or broken; step {newest.step} was used"):
        report = evaluator.evaluate(trained)
    assert report.checkpoint == {"step": newest.step, "weights": "trained", "chosen": "newest"}
    (note,) = report.notes
    assert f"best checkpoint by validation, of step {best.step}, is missing or broken" in note


@pytest.mark.parametrize(("higher_is_better", "left"), [(True, 3), (False, 2)])
def test_a_lost_best_checkpoint_gives_way_to_the_best_that_is_left(
    trained: Run, monkeypatch: pytest.MonkeyPatch, higher_is_better: bool, left: int
) -> None:
    newest = trained.checkpoint("newest")
    best = {"step": 1, "metric": "score", "value": 0.5, "loss": 1.0, "higher_is_better": higher_is_better}
    monkeypatch.setattr(Checkpoint, "trainer", lambda _: {"best": best})
    (trained.folder / "status.json").unlink()
    scores = {1: 0.5, 2: 0.1, 3: 0.8, 4: None, 5: 0.2, 98: 0.9, 99: 0.0}  # there are no checkpoints of 1, 98 and 99
    rows = [{"split": "validation", "step": step, "score": score, "loss": 1.0} for step, score in scores.items()]
    rows += [{**rows[2], "step": 5, "loss": 2.0}] if higher_is_better else []
    trained.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (2, 3, 4, 5):
        shutil.copytree(newest.folder, trained.checkpoints / f"step-{step:08d}")
    with pytest.warns(
        RunWarning, match=rf"of step 1, .*; the best that is left is of step {left}; step {left} was used"
    ):
        chosen = trained.choose()
    assert (chosen.checkpoint.step, chosen.which) == (left, "best left")


def test_a_run_that_does_not_say_which_way_is_better_falls_back_on_its_newest(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = trained.checkpoint("newest")
    best = {"step": newest.step + 1, "metric": "accuracy", "value": 0.5, "loss": 1.0}
    monkeypatch.setattr(Checkpoint, "trainer", lambda _: {"best": best})
    (trained.folder / "status.json").unlink()
    with pytest.warns(RunWarning, match=rf"missing or broken; step {newest.step} was used"):
        assert trained.choose().which == "newest"


def test_an_evaluation_verifies_its_checkpoint_once(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    resolve = Run.choose
    monkeypatch.setattr(Run, "choose", lambda self: asked.append(self) or resolve(self))
    evaluator.evaluate(trained)
    assert asked == [trained]


def test_a_broken_newest_checkpoint_is_told_where_nothing_says_which_was_best(trained: Run) -> None:
    best, newest = trained.checkpoint(), trained.checkpoint("newest")
    if best.step == newest.step:
        newest = Checkpoint(trained.checkpoints / f"step-{best.step + 1:08d}")
        shutil.copytree(best.folder, newest.folder)
    newest.weights.write_bytes(b"")
    assert evaluator.evaluate(trained).notes == []  # the status remembers the best
    for status in ('{"state": "done", "best": 3}', '{"best": {"step": "3"}}', "[]"):
        (trained.folder / "status.json").write_text(status)
        with pytest.warns(RunWarning, match=rf"{newest.folder.name} is not whole: .*; step {best.step} was used"):
            report = evaluator.evaluate(trained)
        assert report.checkpoint["chosen"] == "best"
        assert len(report.notes) == 1


def test_where_every_checkpoint_is_broken_resuming_is_no_remedy(trained: Run) -> None:
    for folder in trained.checkpoints.iterdir():
        Checkpoint(folder).weights.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"no checkpoint to load(\n.*is not whole.*)+\ncopy its checkpoints back, or train anew"
    ):
        trained.checkpoint()
    shutil.rmtree(trained.checkpoints)
    with pytest.raises(UserError, match=r"no checkpoint to load\ncopy its checkpoints back, or train anew"):
        trained.checkpoint()
    (trained.folder / "status.json").unlink()
    with pytest.raises(UserError, match=r"no checkpoint to load\ngo on with 'zoo train tiny --out .* --resume'"):
        trained.checkpoint()
