"""The bridge to transformers: its models train, evaluate, predict and go on as ours do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from PIL import Image
from published_transformers import SETTINGS, publish_image, publish_speech, publish_text, trained
from tokenizers import Tokenizer

import zoo
from zoo.contract import Elaborate, Splitting
from zoo.run import Run
from zoo.testing import check_resume, checks
from zoo_transformers import trial
from zoo_transformers.spec import IMAGE, SPEECH, TEXT

# ---------------------------------------------------------------- one run folder for all


def test_texts_are_classified(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model", label2id={"bad": 0, "good": 1}, id2label={0: "bad", 1: "good"})
    run = trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained")
    report = run.report()
    assert report is not None
    assert (report.task, run.spec.plugins.keys()) == (TEXT, {"text", "transformers"})
    assert not any("new: " in note for note in report.notes)  # the classes are those that it was published with
    assert zoo.evaluate(run).metrics == report.metrics
    (answer,) = zoo.predict(run, "a good film")
    assert answer.values["label"] in ("bad", "good")
    assert Tokenizer.from_str(run.checkpoint().metadata()["info"]["tokenizer"]).token_to_id("film") == 4 + 28


def test_pictures_are_classified(tmp_path: Path, pictures: Path) -> None:
    publish_image(tmp_path / "model")
    run = trained(f"hf/{tmp_path / 'model'}", str(pictures), tmp_path / "run", weights="pretrained")
    report = run.report()
    assert report is not None
    assert report.task == IMAGE
    assert any("(transformers); new: head.network.classifier" in note for note in report.notes)
    embed = run.spec.embed
    assert (embed["image_size"], embed["crop_mode"], embed["interpolation"]) == (16, "squash", "bilinear")
    assert run.checkpoint().metadata()["info"]["mean"] == [0.5] * 3
    Image.new("RGB", (30, 20)).save(tmp_path / "picture.png")
    (answer,) = zoo.predict(run, tmp_path / "picture.png")
    assert answer.values["label"] in ("cat", "dog")
    digits = trained(f"hf/{tmp_path / 'model'}", "digits", tmp_path / "digits")  # grey, from random numbers
    assert digits.spec.embed["channels"] == 1


def test_recordings_are_transcribed(tmp_path: Path, voice: str) -> None:
    publish_speech(tmp_path / "model")
    run = trained(f"hf/{tmp_path / 'model'}", voice, tmp_path / "run", weights="pretrained")
    report = run.report()
    assert report is not None
    assert report.task == SPEECH
    assert "wer" in report.metrics
    assert any("new: head.network.lm_head" in note for note in report.notes)
    task = run.load_task()
    assert isinstance(task, Elaborate)
    assert isinstance(task, Splitting)
    (answer,) = zoo.predict(run, f"{voice}/0.wav")
    assert {"text", "seconds"} <= answer.values.keys()
    assert "words" in answer.details
    settings = {"decode.window_seconds": 1, "decode.overlap_seconds": 0.2}
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 40000), 16000)
    (answer,) = zoo.predict(run, tmp_path / "long.wav", settings=settings)
    assert answer.error is None


@pytest.mark.parametrize(
    "settings", [{"train.ema_decay": 0.9}, {"train.freeze": ["core"], "train.accumulate": 2}], ids=str
)
def test_a_stopped_run_goes_on_bit_for_bit(settings: dict[str, Any], tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model")
    check_resume(f"hf/{tmp_path / 'model'}", {**SETTINGS, **settings}, data=reviews)


def test_a_recogniser_goes_on_bit_for_bit(tmp_path: Path, voice: str) -> None:
    publish_speech(tmp_path / "model", apply_spec_augment=True, mask_time_prob=0.5, mask_time_length=2)
    check_resume(f"hf/{tmp_path / 'model'}", SETTINGS, data=voice)


def test_a_run_stands_alone(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model")
    run = trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained")
    (tmp_path / "model").rename(tmp_path / "gone")
    assert zoo.evaluate(Run(run.folder)).n > 0


@pytest.mark.slow
@pytest.mark.parametrize("check", checks("transformers"), ids=str)
def test_conformance(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_what_decodes_too_stays_whole(kind: str) -> None:
    assert trial.tried(TEXT, kind) is None


def test_a_trunk_without_a_head_or_a_pooler_gives_both_anew(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "masked", maker=transformers.AutoModelForMaskedLM)
    report = trained(f"hf/{tmp_path / 'masked'}", reviews, tmp_path / "run", weights="pretrained").report()
    assert report is not None
    (told,) = [note for note in report.notes if "new: " in note]
    assert "head.network.bert.pooler" in told
    assert "head.network.classifier" in told
    assert "core" not in told


def test_frozen_is_frozen(tmp_path: Path, reviews: str) -> None:
    reference = publish_text(tmp_path / "model")
    frozen = {"train.freeze": ["core"]}
    run = trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained", settings=frozen)
    trained_state, before = run.load_model().core.state_dict(), reference.bert.state_dict()
    assert all(torch.equal(each, before[name.removeprefix("network.")]) for name, each in trained_state.items())
