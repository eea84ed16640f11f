"""Masked frames: what is silenced and never heard, what is to be told, and that a recogniser goes on from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from zoo.contract import Batch, Item
from zoo.core import Model
from zoo.data.seeding import item_rng
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import RunSpec
from zoo.training import train
from zoo_speech.audio import Sound
from zoo_speech.masked import MaskedFrames

SMALL = {"embed.sample_rate_hz": 8000, "embed.num_mels": 20, "embed.hop_ms": 10.0}


def spec_of(**settings: Any) -> RunSpec:
    asked = SMALL | {key.replace("__", "."): value for key, value in settings.items()}
    return open_registry().resolve("stt-micro", task="masked-audio", data="morse", settings=asked).spec


def sound(seconds: float, seed: int = 0) -> Item:
    samples = np.random.default_rng(seed).normal(0, 0.1, round(8000 * seconds)).astype(np.float32)
    return Item(f"sound-{seed}", Sound(samples, 8000))


def awake(spec: RunSpec) -> Model:
    torch.manual_seed(0)
    model = MaskedFrames.build(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def batch_of(task: MaskedFrames, *items: Item) -> Batch:
    return task.collate([task.transform(item, None) for item in items], [item.id for item in items])


def test_stretches_are_hidden_up_to_the_share() -> None:
    task = MaskedFrames(spec_of(), {})
    drawn = [task.transform(sound(4), item_rng(0, epoch, "one"))["hidden"] for epoch in range(5)]
    assert [len(each) for each in drawn] == [40] * 5  # of 100
    assert len({tuple(each) for each in drawn}) == 5
    runs = np.split(drawn[0], np.flatnonzero(np.diff(drawn[0]) > 1) + 1)
    assert max(map(len, runs)) > 3
    assert np.array_equal(task.transform(sound(4), None)["hidden"], task.transform(sound(4), None)["hidden"])
    assert len(task.transform(sound(0.08), None)["hidden"]) == 1  # of 2
    with pytest.raises(UserError, match="too short to be told from itself"):
        task.transform(sound(0.03), None)


@pytest.mark.parametrize("subsampling", ["stack", "conv"])
def test_hidden_frames_are_the_target_and_are_not_heard(subsampling: str) -> None:
    spec = spec_of(embed__subsampling=subsampling)
    task, model = MaskedFrames(spec, {}), awake(spec)
    batch = batch_of(task, sound(2), sound(3, seed=1))
    with torch.no_grad():
        output = model(batch.inputs)
    frames, _ = model.embed.frames(batch.inputs["samples"], batch.inputs["num_samples"])
    for row, start in ((0, 0), (1, 50)):
        own = [place - start for place in batch.inputs["hidden"].tolist() if start <= place < (50 if row == 0 else 999)]
        first = own[0]
        wanted = frames[row, 4 * first : 4 * first + 4].flatten()
        position = batch.inputs["hidden"].tolist().index(first + start)
        assert torch.equal(output.further["frames"][position], wanted)
    heard = model.embed._silenced(frames, batch.inputs["hidden"], batch.inputs["layout"], batch.inputs["num_tokens"])
    for place in batch.inputs["hidden"].tolist():
        row, token = (0, place) if place < 50 else (1, place - 50)
        assert not heard[row, 4 * token : 4 * token + 4].any()
    total, count = task.loss(output, batch)
    assert count == output.logits.numel()
    assert float(total / count) == pytest.approx(
        float((output.logits - output.further["frames"]).abs().mean()), rel=1e-5
    )


def test_pretrain_then_learn_to_write_is_two_commands(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(16):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 8000), 8000)
    small = {**SMALL, "train.steps": 3, "train.batch_size": 4}
    first = train(
        "stt-micro", task="masked-audio", data=str(folder), settings=small, out=tmp_path / "first", show_progress=False
    )
    report = first.report()
    assert report is not None
    assert report.metrics["reconstruction_error"].value > 0
    assert report.loss > 0
    assert all(row["loss"] > 0 for row in first.metrics() if row["split"] == "validation")
    rows = [f"{i}.wav,{'yes' if i % 2 else 'no'}" for i in range(16)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))
    still = {"train.lr": 1e-300, "train.weight_decay": 0.0, "train.steps": 1, "train.batch_size": 4}
    second = train(
        "stt-micro",
        data=str(folder),
        weights=first.folder,
        settings=still,
        out=tmp_path / "second",
        show_progress=False,
    )
    assert second.spec.embed["num_mels"] == 20
    before, after = first.load_model().state_dict(), second.load_model().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("head."))


def test_a_folder_s_own_splits_and_lists_are_kept(tmp_path: Path) -> None:
    def parts(place: Path, **settings: Any) -> list[set[str]]:
        asked = {key.replace("__", "."): value for key, value in settings.items()}
        spec = open_registry().resolve("stt-micro", task="masked-audio", data=str(place), settings=asked).spec
        splits = MaskedFrames.datasets(spec)
        return [set(part.ids) for part in (splits.train, splits.validation, splits.test)]

    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (tmp_path / "bare" / split).mkdir(parents=True)
        soundfile.write(tmp_path / "bare" / split / "one.wav", rng.normal(0, 0.1, 4000), 8000)
    assert parts(tmp_path / "bare") == [{"train/one.wav"}, {"val/one.wav"}, {"test/one.wav"}]
    (tmp_path / "listed").mkdir()
    for i in range(6):
        soundfile.write(tmp_path / "listed" / f"{i}.wav", rng.normal(0, 0.1, 4000), 8000)
    rows = [f"{i}.wav,yes,{'ann' if i < 4 else 'bo'}" for i in range(6)]
    (tmp_path / "listed" / "metadata.csv").write_text("\n".join(["file_name,transcription,speaker", *rows]))
    assert parts(tmp_path / "listed", data__holdout_group="bo")[2] == {"4.wav", "5.wav"}


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'digits' holds no recordings\nname a dataset or a folder that does"):
        train("stt-micro", task="masked-audio", data="digits", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no file of a known kind"):
        train("stt-micro", task="masked-audio", data=str(tmp_path / "none"), out=tmp_path / "run")
    for settings, message in (
        ({"core__causal": True}, "are not for masked frames"),
        ({"augment__speeds": [9.0]}, "must be ≤ 4, got 9"),
        ({"train__label_smoothing": 0.1}, "there are no labels here"),
    ):
        with pytest.raises(UserError, match=message):
            MaskedFrames.datasets(spec_of(**settings))
