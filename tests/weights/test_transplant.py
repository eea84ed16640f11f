"""A model that begins with the core of another task's run, and cores that cannot be exchanged."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from starting import STILL, begun

import zoo
from zoo.errors import UserError
from zoo.run import Run
from zoo.training import train


@pytest.fixture
def learnt(texts: Path, tmp_path: Path) -> Path:
    """A run that learnt of texts."""
    return begun("text-micro", texts, None, tmp_path / "learnt", task="masked-lm", train__lr=1e-3).folder


def pictured(pictures: Path, core: Path | None, out: Path, **settings: Any) -> Run:
    asked = STILL | {key.replace("__", "."): value for key, value in settings.items()}
    return train("vit-micro", data=str(pictures), core=core, settings=asked, out=out, show_progress=False)


def test_a_core_that_learnt_of_texts_serves_pictures(learnt: Path, pictures: Path, tmp_path: Path) -> None:
    run = pictured(pictures, learnt, tmp_path / "run")
    alone = pictured(pictures, None, tmp_path / "alone")
    ours, theirs, new = (each.load_model().state_dict() for each in (run, zoo.open_run(learnt), alone))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("core."))
    assert any(not torch.equal(new[name], theirs[name]) for name in ours if name.startswith("core."))
    assert all(torch.equal(ours[name], new[name]) for name in ours if not name.startswith("core."))
    report = run.report()
    assert report is not None
    assert f"core: of {learnt} (masked-lm)" in report.notes
    assert run.spec.core_from is not None
    assert run.spec.weights is None


def test_a_frozen_core_stays_as_it_is(learnt: Path, pictures: Path, tmp_path: Path) -> None:
    run = pictured(pictures, learnt, tmp_path / "run", train__freeze=["core"], train__lr=1e-2, train__steps=3)
    ours, theirs = run.load_model().state_dict(), zoo.open_run(learnt).load_model().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("core."))
    report = run.report()
    assert report is not None
    (told,) = [note for note in report.notes if note.startswith("trained:")]
    assert "random numbers" not in told


def test_a_run_goes_on_from_the_core_that_it_began_with(learnt: Path, pictures: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train__lr": 1e-2, "train__steps": 4, "train__save_every": 2}
    run = pictured(pictures, learnt, tmp_path / "run", **settings)
    wanted = run.load_model(run.checkpoint("newest")).state_dict()

    def again(**asked: Any) -> None:
        (run.folder / "report.json").unlink(missing_ok=True)
        train("vit-micro", out=run.folder, resume=True, show_progress=False, **asked)
        found = run.load_model(run.checkpoint("newest")).state_dict()
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)

    shutil.rmtree(run.checkpoint("newest").folder)
    again(core=learnt)
    for folder in run.checkpoints.iterdir():
        shutil.rmtree(folder)
    again()
    other = pictured(pictures, None, tmp_path / "other").folder
    with pytest.raises(UserError, match=r"began with that of '.*learnt', not with the core of '.*other'\nleave --core"):
        train("vit-micro", out=run.folder, core=other, resume=True, show_progress=False)
    for folder in run.checkpoints.iterdir():
        shutil.rmtree(folder)
    (run.folder / "report.json").unlink()
    kept = shutil.move(learnt, tmp_path / "kept")
    with pytest.raises(UserError, match=r"not there any more: .*learnt' does not exist\nput it back, or say .* --core"):
        train("vit-micro", out=run.folder, resume=True, show_progress=False)
    shutil.copytree(kept, tmp_path / "elsewhere")
    again(core=tmp_path / "elsewhere")
    assert zoo.open_run(run.folder).spec.core_from.source == str(tmp_path / "elsewhere")


def test_adapters_are_of_the_core_that_their_weights_have(learnt: Path, texts: Path, tmp_path: Path) -> None:
    settings = {**STILL, "train.lora.rank": 2}
    with pytest.raises(UserError, match=r"train.lora adapts a core as its weights have it\nleave"):
        train("text-micro", data=str(texts), weights=learnt, core=learnt, settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cores_that_differ_are_refused_and_every_field_is_named(learnt: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        pictured(pictures, learnt, tmp_path / "run", core__depth=3, core__norm_eps=1e-5, core__dropout=0.1)
    told = str(raised.value)
    assert "core.depth is 4, not 3, core.norm_eps is 1e-06, not 1e-05\n" in told
    assert told.endswith("ask for an equal one: --set core.depth=4 --set core.norm_eps=1e-06")
    with pytest.raises(UserError, match=r"core.bias is \[(.|\n)*: --set 'core.bias=\[q, k, v, out, mlp, norm\]'"):
        pictured(pictures, learnt, tmp_path / "run", core__bias=["q"])
    with pytest.raises(UserError, match=r"'.*pictures' is no run folder"):
        pictured(pictures, pictures, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_library_s_network_is_not_exchanged(learnt: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the core of 'timm/test_vit' is another library's network"):
        train("timm/test_vit", data=str(pictures), core=learnt, out=tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()
