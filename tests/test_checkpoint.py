"""A checkpoint is whole or not there; what is put back is what was saved, bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.checkpoint import MANIFEST, Checkpoint, checkpoint_at, newest_checkpoint, prune, restore, save_checkpoint
from zoo.errors import UserError
from zoo.optim import average, build_optimizer
from zoo.specs import TrainSpec


def trained(seed: int, steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.swa_utils.AveragedModel]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    optimizer, ema = build_optimizer(model, TrainSpec()), average(model, 0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        ema.update_parameters(model)
    return model, optimizer, ema


def saved(root: Path, step: int, seed: int = 0) -> Checkpoint:
    model, optimizer, ema = trained(seed)
    metadata = {"info": {"classes": ["ä", "b"]}, "spec": {}}
    return save_checkpoint(
        root,
        step,
        model=model,
        optimizer=optimizer,
        ema=ema,
        trainer={"step": step, "updates": step, "best": None},
        metadata=metadata,
    )


def test_what_is_put_back_is_what_was_saved(tmp_path: Path) -> None:
    model, optimizer, ema = trained(0)
    checkpoint = saved(tmp_path, 3)
    other, other_optimizer, other_ema = trained(1)
    restore(checkpoint, other, other_optimizer, other_ema)
    for ours, theirs in ((model, other), (ema.module, other_ema.module)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        for slot, value in optimizer.state[one].items():
            assert torch.equal(value, other_optimizer.state[two][slot]), slot
    assert checkpoint.trainer() == {"step": 3, "updates": 3, "best": None}
    assert checkpoint.metadata()["info"] == {"classes": ["ä", "b"]}


def test_equal_trainings_give_equal_files(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", 3), saved(tmp_path / "two", 3)
    assert (one.folder / MANIFEST).read_text() == (two.folder / MANIFEST).read_text()


@pytest.mark.parametrize("file", ["model.safetensors", "state/optimizer.safetensors", "state/trainer.json", MANIFEST])
@pytest.mark.parametrize("harm", ["removed", "cut", "flipped"])
def test_a_broken_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, file: str, harm: str) -> None:
    saved(tmp_path, 3)
    path = saved(tmp_path, 6).folder / file
    content = bytearray(path.read_bytes())
    if harm == "removed":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2 if file != MANIFEST else content.index(b'"sha256": "') + 12
        content[middle] ^= 1
        path.write_bytes(content)
    newest, broken = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 3
    assert [line.split()[0] for line in broken] == ([] if (file, harm) == (MANIFEST, "removed") else ["step-00000006"])
    assert checkpoint_at(tmp_path, 6) is None


def test_a_writer_killed_before_the_manifest_leaves_no_checkpoint_and_is_written_over(tmp_path: Path) -> None:
    (saved(tmp_path, 3).folder / MANIFEST).unlink()
    assert newest_checkpoint(tmp_path)[0] is None
    assert newest_checkpoint(tmp_path / "nothing") == (None, [])
    saved(tmp_path, 3)
    assert checkpoint_at(tmp_path, 3) is not None


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        saved(tmp_path, step)
    prune(tmp_path, 2, best_step=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:08d}" for n in (2, 4, 5)]


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"cannot save the checkpoint of step 3 .*\n.*--resume"):
        saved(blocked, 3)


def test_manifest_names_every_file(tmp_path: Path) -> None:
    folder = saved(tmp_path, 3).folder
    named = set(json.loads((folder / MANIFEST).read_text())["files"])
    assert named | {MANIFEST} == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
