"""Clusters of sounds: what they are of, how they are learnt, and that a model which tells them goes on."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy.fft import dct

import zoo
from zoo.contract import Item
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.run import Run
from zoo.specs import RunSpec
from zoo.training import train
from zoo_speech.audio import Sound
from zoo_speech.clusters import NUM_CEPSTRA, Cepstra, Clusters
from zoo_speech.masked import MaskedFrames
from zoo_speech.spec import EmbedSpec

SMALL = {"embed.sample_rate_hz": 8000, "embed.num_mels": 20, "embed.hop_ms": 10.0, "head.target": "clusters"}
PITCHES = (300, 900, 2400)


def spec_of(data: str, **settings: Any) -> RunSpec:
    asked = SMALL | {key.replace("__", "."): value for key, value in settings.items()}
    return open_registry().resolve("stt-micro", task="masked-audio", data=data, settings=asked).spec


@pytest.fixture
def tones(tmp_path: Path) -> str:
    """Recordings of three tones, each as long as ten tokens, in an order drawn for each recording."""
    rng = np.random.default_rng(0)
    (tmp_path / "tones").mkdir()
    for i in range(24):
        turns = [PITCHES[each] for each in rng.integers(len(PITCHES), size=4)]
        time = np.arange(3200) / 8000
        samples = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (*PITCHES, *turns)])
        soundfile.write(tmp_path / "tones" / f"{i}.wav", samples + rng.normal(0, 0.003, len(samples)), 8000)
    return str(tmp_path / "tones")


def trained(data: str, out: Path, **settings: Any) -> Run:
    asked = SMALL | {key.replace("__", "."): value for key, value in settings.items()}
    return train("stt-micro", task="masked-audio", data=data, settings=asked, out=out, show_progress=False)


@pytest.mark.parametrize("num_stacked", [4, 3, 1])
def test_a_token_is_known_by_its_mean_cepstrum_and_the_slope_of_it(num_stacked: int) -> None:
    frames = np.random.default_rng(0).normal(size=(7, num_stacked, 20))
    found = Cepstra(EmbedSpec(num_mels=20, num_stacked=num_stacked))(torch.from_numpy(frames).flatten(1))
    cepstra = dct(frames, norm="ortho")[:, :, :NUM_CEPSTRA]
    slopes = [np.polyfit(np.arange(num_stacked), each, 1)[0] if num_stacked > 1 else 0 * each[0] for each in cepstra]
    wanted = np.concatenate([cepstra.mean(1), slopes], 1)
    torch.testing.assert_close(found, torch.from_numpy(wanted).float(), rtol=1e-4, atol=1e-5)


def test_sounds_that_differ_are_of_different_clusters(tones: str) -> None:
    spec = spec_of(tones, head__num_clusters=12)
    splits = MaskedFrames.datasets(spec)
    task, model = MaskedFrames(spec, splits.info), MaskedFrames.build(spec)
    batch = task.collate([task.transform(splits.train[0], None)], ["one"])
    layout, num_tokens = batch.inputs["layout"], batch.inputs["num_tokens"]
    frames, _ = model.embed.frames(batch.inputs["samples"], batch.inputs["num_samples"])
    assert isinstance(task.told, Clusters)
    found = task.told.nearest(model.embed.stacked(frames, layout, num_tokens)).view(-1, 10)[:3, 2:8].tolist()
    low, middle, high = map(set, found)  # each tone away from its ends
    assert sum(map(len, (low, middle, high))) == len(low | middle | high)  # no cluster is of two


def test_the_loss_is_the_cross_entropy_of_hidden_tokens(tones: str) -> None:
    spec = spec_of(tones, head__num_clusters=5)
    splits = MaskedFrames.datasets(spec)
    task, model = MaskedFrames(spec, splits.info), MaskedFrames.build(spec).eval()
    batch = task.collate([task.transform(splits.train[i], None) for i in range(2)], ["one", "two"])
    with torch.no_grad():
        output = model(batch.inputs)
    records = task.decode(output, batch)
    wanted = [each for record in records for each in record.target]
    total, count = task.loss(output, batch)
    likely = output.logits.log_softmax(1)[torch.arange(len(wanted)), wanted]
    assert count == len(wanted) == len(batch.inputs["hidden"])
    assert float(total) == pytest.approx(-float(likely.sum()), rel=1e-5)
    assert sum(record.columns["log_likelihood"] for record in records) == pytest.approx(-float(total), rel=1e-5)
    measures = task.measure(records)
    assert measures.primary == "perplexity"
    assert measures.statistics["perplexity"](np.ones(2)) == pytest.approx(float((total / count).exp()), rel=1e-5)
    assert task.describe(records[0], 1)["perplexity"] > 1


def test_a_model_learns_them_goes_on_and_is_begun_with(
    tones: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"head__num_clusters": 6, "train__steps": 24, "train__batch_size": 8, "train__save_every": 12}
    run = trained(tones, tmp_path / "run", **settings, train__lr=3e-3, train__eval_every=24)
    report = run.report()
    assert report is not None
    assert report.metrics["perplexity"].value < 5  # of 6
    clusters = run.checkpoint().metadata()["info"]["clusters"]
    assert len(clusters["centres"]) == 6
    begun = trained(tones, tmp_path / "begun", **settings | {"train__steps": 1}, train__lr=1e-300)
    further = train(
        "stt-micro",
        task="masked-audio",
        data=tones,
        weights=run.folder,
        settings={"train.steps": 1, "train.lr": 1e-300, "train.weight_decay": 0.0, "train.batch_size": 8},
        out=tmp_path / "further",
        show_progress=False,
    )
    assert begun.checkpoint().metadata()["info"]["clusters"] == clusters  # the same recordings give the same
    assert torch.equal(further.load_model().head.draw.weight, run.load_model().head.draw.weight)
    (first,) = [row for row in further.metrics() if row["split"] == "validation"]
    (last,) = [row for row in run.metrics() if row["split"] == "validation"]
    assert first["perplexity"] == pytest.approx(last["perplexity"], rel=1e-6)
    monkeypatch.setattr("zoo_speech.masked.learn", None)  # what was learnt is not learnt again
    wanted = run.load_model(run.checkpoint("newest")).state_dict()
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    train("stt-micro", out=run.folder, resume=True, show_progress=False)
    found = run.load_model(run.checkpoint("newest")).state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert run.checkpoint("newest").metadata()["info"]["clusters"] == clusters
    assert zoo.evaluate(run, split="test").metrics["perplexity"].value == report.metrics["perplexity"].value


def test_too_little_sound_for_the_clusters_is_told(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for i in range(6):
        soundfile.write(tmp_path / "few" / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 3200), 8000)
    with pytest.raises(UserError, match=r"head.num_clusters: 100 clusters .* from \d+ tokens of sound\nlower head.num"):
        trained(str(tmp_path / "few"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_heard_need_not_have_been_learnt_from(tones: str) -> None:
    spec = spec_of(tones, head__num_clusters=4)
    task = MaskedFrames(spec, MaskedFrames.datasets(spec).info)
    other = Item("other", Sound(np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32), 8000))
    batch = task.collate([task.transform(other, None)], ["other"])
    (record,) = task.decode(MaskedFrames.build(spec).eval()(batch.inputs), batch)
    assert set(record.target) <= set(range(4))
