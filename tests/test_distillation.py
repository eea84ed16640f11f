"""Learning from another model: the formula, that the teacher stays as it is, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from zoo.contract import Batch
from zoo.core import DENSE, Model, Output
from zoo.distillation import criterion
from zoo.errors import UserError
from zoo.run import Run
from zoo.training import train


def student(tiny: str, teacher: Run, out: Path, **settings: Any) -> Run:
    asked = {"train.distill.teacher": str(teacher.folder), **{key.replace("__", "."): v for key, v in settings.items()}}
    return train(tiny, steps=12, settings=asked, device="cpu", out=out, show_progress=False)


def test_the_loss_is_that_of_the_paper(tiny: str, trained: Run, tmp_path: Path) -> None:
    run = student(tiny, trained, tmp_path / "student", train__distill__weight=0.3, train__distill__temperature=3.0)
    task, teacher = run.load_task(), trained.load_model()
    loss_of = criterion(task, run.spec, torch.device("cpu"))
    splits = run.task_class.datasets(run.spec, run.checkpoint().metadata()["info"])
    items = [splits.train[i] for i in range(5)]
    batch = task.collate([task.transform(item, None) for item in items], [item.id for item in items])
    logits = torch.randn_like(teacher(batch.inputs).logits, requires_grad=True)
    found, count = loss_of(Output(logits, DENSE), batch)
    own, same = task.loss(Output(logits, DENSE), batch)
    assert count == same
    p, q = (F.softmax(each / 3, -1) for each in (teacher(batch.inputs).logits, logits))
    divergence = (p * (p.log() - q.log())).sum(-1).mean()
    torch.testing.assert_close(found, 0.7 * own + 0.3 * 9 * divergence * count, rtol=1e-5, atol=1e-6)


def test_a_student_resumes_bit_for_bit(tiny: str, trained: Run, tmp_path: Path) -> None:
    run = student(tiny, trained, tmp_path / "student", train__save_every=6)
    whole = run.checkpoint("newest").weights.read_bytes()
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    train(tiny, out=run.folder, resume=True, show_progress=False)
    assert run.checkpoint("newest").weights.read_bytes() == whole


def test_a_pure_student_comes_near_its_teacher(tiny: str, trained: Run, tmp_path: Path) -> None:
    def apart(model: Model, batch: Batch) -> float:
        one, other = (each(batch.inputs).logits.softmax(-1) for each in (model, trained.load_model()))
        return float((one - other).detach().abs().mean())

    run = student(tiny, trained, tmp_path / "student", train__distill__weight=1.0, train__steps=60, train__seed=3)
    task = run.load_task()
    splits = run.task_class.datasets(run.spec, run.checkpoint().metadata()["info"])
    items = [splits.test[i] for i in range(len(splits.test))]
    batch = task.collate([task.transform(item, None) for item in items], [item.id for item in items])
    torch.manual_seed(3)
    assert (
        apart(run.load_model(run.checkpoint("newest")), batch) < apart(run.task_class.build(run.spec).eval(), batch) / 2
    )


def test_a_teacher_that_changed_is_told(tiny: str, trained: Run, tmp_path: Path) -> None:
    run = student(tiny, trained, tmp_path / "student", train__save_every=6)
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    shutil.rmtree(trained.folder)
    train(tiny, steps=6, seed=8, device="cpu", out=trained.folder, show_progress=False)
    with pytest.raises(UserError, match="changed after the training began\nput its checkpoint back, or train anew"):
        train(tiny, out=run.folder, resume=True, show_progress=False)


def test_a_teacher_that_moved_is_told_with_the_way_on(tiny: str, trained: Run, tmp_path: Path) -> None:
    run = student(tiny, trained, tmp_path / "student", train__save_every=6)
    whole = load_file(run.checkpoint("newest").weights)
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    moved = shutil.move(trained.folder, tmp_path / "moved")
    with pytest.raises(
        UserError, match=r"the teacher that .* is not there any more: '.*' does not exist\nput it back, or w"
    ):
        train(tiny, out=run.folder, resume=True, show_progress=False)
    spec = run.folder / "spec.yaml"
    spec.write_text(spec.read_text().replace(f"teacher: {trained.folder}", f"teacher: {moved}"))
    assert str(moved) in spec.read_text()
    train(tiny, out=run.folder, resume=True, show_progress=False)
    again = load_file(run.checkpoint("newest").weights)
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_one_batch_must_be_for_both(tmp_path: Path) -> None:
    steps = {"train.steps": 1, "embed.image_size": 8, "embed.patch_size": 4}
    teacher = train("vit-micro", data="digits", settings=steps, out=tmp_path / "teacher", show_progress=False)
    asked = {"train.distill.teacher": str(teacher.folder), "embed.image_size": 16, "embed.patch_size": 4}
    with pytest.raises(UserError, match=r"has embed.image_size 8, the student 16: .*\nset embed.image_size=8, or name"):
        train("vit-tiny", data="digits", settings=asked, out=tmp_path / "student")
    assert not (tmp_path / "student").exists()
    file = teacher.folder / "spec.yaml"  # of a teacher from before this could be anything but the default
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "crop_fraction" not in line))
    same = asked | {"embed.image_size": 8, "train.steps": 1}
    train("vit-tiny", data="digits", settings=same, out=tmp_path / "later", show_progress=False)
    with pytest.raises(UserError, match=r"has embed.crop_fraction 1.0, the student 0.5"):
        train("vit-tiny", data="digits", settings=same | {"embed.crop_fraction": 0.5}, out=tmp_path / "other")


def test_what_the_data_decides_is_no_remedy(tmp_path: Path) -> None:
    spec = {"train.steps": 1, "embed.image_size": 8, "embed.patch_size": 4}
    teacher = train(
        "vit-micro", data=digits_in_colour(tmp_path), settings=spec, out=tmp_path / "t", show_progress=False
    )
    spec["train.distill.teacher"] = str(teacher.folder)
    with pytest.raises(UserError, match=r"has embed.channels 3, the student 1: .*\nname another teacher"):
        train("vit-micro", data="digits", settings=spec, out=tmp_path / "student")


def test_classes_that_only_the_teacher_knows_are_told(tmp_path: Path) -> None:
    spec = {"train.steps": 1, "embed.image_size": 8, "embed.patch_size": 4}
    colour = digits_in_colour(tmp_path)
    teacher = train("vit-micro", data=colour, settings=spec, out=tmp_path / "teacher", show_progress=False)
    spec["train.distill.teacher"] = str(teacher.folder)
    shutil.rmtree(Path(colour) / "9")
    report = train("vit-micro", data=colour, settings=spec, out=tmp_path / "run", show_progress=False).report()
    assert report is not None
    assert "classes of the model that the data lacks: 9" in report.notes


def digits_in_colour(folder: Path) -> str:
    draws = np.random.default_rng(0)
    for name in "0123456789":
        (folder / "colour" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / "colour" / name / f"{i}.png")
    return str(folder / "colour")


def test_what_cannot_teach_is_refused(tiny: str, trained: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist\nname the folder"):
        train(tiny, settings={"train.distill.teacher": str(tmp_path / "none")}, out=tmp_path / "student")
    with pytest.raises(UserError, match=r"train.distill.teacher: '.*' is for .*, not for image-classification"):
        train("vit-micro", settings={"train.distill.teacher": str(trained.folder)}, out=tmp_path / "student")
    assert not (tmp_path / "student").exists()
