"""Recognisers of waveforms: the first room by itself, and trainings that begin with published weights."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import transformers
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.cli import main
from zoo.contract import Item
from zoo.core import Layout
from zoo.cost import core_cost, linear
from zoo.errors import UserError
from zoo.optim import decayed
from zoo.plugins import session
from zoo.registry import open_registry
from zoo.run import Run
from zoo.specs import RunSpec
from zoo.training import train
from zoo.weights import read_published
from zoo_speech.audio import Sound
from zoo_speech.spec import COST_SECONDS, EmbedSpec, cost
from zoo_speech.task import SpeechToText
from zoo_speech.wav2vec2.model import ConvPosition, WaveformEmbed
from zoo_speech.wav2vec2.weights import WAV2VEC2

CONVOLUTIONS = {"conv_dims": [16, 24, 24, 32], "conv_kernels": [10, 3, 3, 2], "conv_strides": [5, 2, 2, 2]}
EMBED = {
    "front": "waveform",
    "position": "conv",
    "position_kernel": 16,
    "position_groups": 4,
    "norm": True,
} | CONVOLUTIONS
CORE = {"dim": 48, "depth": 2, "num_heads": 3, "norm_position": "post", "final_norm": False, "norm_eps": 1e-5}
CONFIG: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 192,
    "conv_dim": CONVOLUTIONS["conv_dims"],
    "conv_kernel": CONVOLUTIONS["conv_kernels"],
    "conv_stride": CONVOLUTIONS["conv_strides"],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 6,
    "pad_token_id": 5,
}
VOCABULARY = {"|": 0, "E": 1, "A": 2, "T": 3, "<unk>": 4, "<pad>": 5}
STILL = {
    "train.lr": 1e-300,
    "train.weight_decay": 0.0,
    "train.steps": 1,
    "train.precision": "fp32",
    "train.device": "cpu",
}
"""A training that leaves the weights as they are."""


@pytest.fixture(autouse=True)
def small() -> Iterator[str]:
    """A model of waveforms small enough to train in a test."""
    entry = {"task": "speech-to-text", "core": CORE, "embed": EMBED, "train": {"batch_size": 3}}
    zoo.register(models={"wave-micro": entry})
    yield "wave-micro"
    session.forget()


def spec_of(**settings: Any) -> RunSpec:
    asked = {"embed.sample_rate_hz": 8000} | {key.replace("__", "."): value for key, value in settings.items()}
    return open_registry().resolve("wave-micro", data="morse", settings=asked).spec


def embed_of(spec: RunSpec) -> WaveformEmbed:
    torch.manual_seed(0)
    embed = SpeechToText.build(spec).embed.eval()
    assert isinstance(embed, WaveformEmbed)
    return embed


def inputs_of(samples: list[torch.Tensor], embed: EmbedSpec, views: int = 1) -> dict[str, Any]:
    counts = [len(each) for each in samples]
    padded = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
    lengths = [embed.num_tokens(count) for count in counts] * views
    layout = Layout.from_lengths(lengths)
    return {"samples": padded, "num_samples": torch.tensor(counts), "layout": layout, "num_tokens": sum(lengths)}


# ---------------------------------------------------------------- the first room


@pytest.mark.parametrize("conv_norm", ["group", "layer"])
@pytest.mark.parametrize("position", ["conv", "sinusoidal", "none"])
def test_a_recording_gives_the_same_tokens_alone_and_in_a_batch(conv_norm: str, position: str) -> None:
    spec = spec_of(embed__conv_norm=conv_norm, embed__position=position)
    embed, own = embed_of(spec), EmbedSpec.model_validate(spec.embed)
    samples = [0.1 * torch.randn(length) for length in (4000, 33, 1234, 8001, 1)]  # two shorter than a token sees
    together = embed(**inputs_of(samples, own))
    assert together.layout.lengths.tolist() == [own.num_tokens(len(each)) for each in samples]
    parts = together.x.split(together.layout.lengths.tolist())
    for each, part in zip(samples, parts, strict=True):
        torch.testing.assert_close(part, embed(**inputs_of([each], own)).x, atol=1e-5, rtol=0)


def test_tokens_are_as_many_as_the_convolutions_give() -> None:
    published = EmbedSpec(front="waveform")
    assert (published.samples_per_token, published.samples_beyond, published.token_seconds) == (320, 80, 0.02)
    features = embed_of(spec_of()).features
    own = EmbedSpec.model_validate(spec_of().embed)
    for count in (*range(own.samples_per_token + own.samples_beyond, 300), 12345):
        x, length = torch.zeros(1, 1, count), torch.tensor([count])
        for layer in features:
            x, length = layer(x, length)
        assert own.num_tokens(count) == x.shape[2] == int(length)


def test_loudness_counts_where_recordings_are_not_normalised() -> None:
    quiet = [0.1 * torch.randn(4000)]
    for normalise in (True, False):
        spec = spec_of(embed__normalise=normalise, embed__conv_norm="layer")
        embed, own = embed_of(spec), EmbedSpec.model_validate(spec.embed)
        one, other = (embed(**inputs_of([gain * quiet[0] + shift], own)).x for gain, shift in ((1, 0), (5, 0.3)))
        assert torch.allclose(one, other, atol=1e-3) == normalise


def test_masks_cover_their_share() -> None:
    spec = spec_of(embed__position="none", embed__norm=False)
    embed, own = embed_of(spec), EmbedSpec.model_validate(spec.embed)
    inputs, none = inputs_of([torch.randn(4040)], own, views=2), torch.zeros(2, 0, 2)
    whole = embed(**inputs_of([inputs["samples"][0]], own)).x
    time = torch.tensor([[[0.5, 1.0]], [[0.0, 0.0]]])
    one, other = embed(**inputs, time_masks=time, band_masks=none).x.chunk(2)
    assert len(whole) == 100
    torch.testing.assert_close(one[:50], whole[:50])
    torch.testing.assert_close(one[50:], embed.project.bias.expand(50, -1))
    torch.testing.assert_close(other, whole)
    bands = torch.tensor([[[0.0, 0.0]], [[0.0, 1.0]]])
    one, other = embed(**inputs, time_masks=none, band_masks=bands).x.chunk(2)
    torch.testing.assert_close(one, whole)
    torch.testing.assert_close(other, embed.project.bias.expand(100, -1))


def test_positions_are_kept_as_directions_and_lengths() -> None:
    position = ConvPosition(12, 6, 3)
    assert decayed(position) == set()  # positions are not shrunk
    x = torch.randn(2, 9, 12)
    valid = torch.arange(9) < torch.tensor([[9], [4]])
    padded = position(x, Layout(valid=valid))
    torch.testing.assert_close(padded[1, :4], position(x[1:, :4])[0])
    with torch.no_grad():
        position.direction.mul_(3)
    torch.testing.assert_close(position(x, Layout(valid=valid)), padded)


def test_the_formula_counts_the_convolutions() -> None:
    for settings in ({}, {"embed__conv_norm": "layer", "embed__conv_bias": True, "embed__norm": False}):
        spec = spec_of(**settings, embed__feature_norm=not settings)
        model = SpeechToText.build(spec).eval()
        assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
        own = EmbedSpec.model_validate(spec.embed)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            num_tokens = len(model.embed(**inputs_of([torch.randn(COST_SECONDS * own.sample_rate_hz)], own)).x)
        statistics = 0 if settings else 2 * 2 * own.conv_dims[0] * 15_999  # mean and variance of each channel
        others = core_cost(spec.core, num_tokens) + linear(num_tokens, 48, spec.head["num_symbols"])
        assert cost(spec).flops - others.flops == counter.get_total_flops() - statistics


def test_published_sizes() -> None:
    """Without the vector that stands for masked frames, transformers' models have as many."""
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    large |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    for name, kind, options in (
        ("wav2vec2-base", "wav2vec2", {}),
        ("wav2vec2-large", "wav2vec2", large),
        ("hubert-base", "hubert", {}),
    ):
        with torch.device("meta"):
            peer = transformers.AutoModelForCTC.from_config(transformers.AutoConfig.for_model(kind, **options))
            ours = SpeechToText.build(open_registry().own(name).spec)
        wanted = sum(each.numel() for key, each in peer.named_parameters() if "masked_spec_embed" not in key)
        assert cost(open_registry().own(name).spec).parameters == wanted == sum(p.numel() for p in ours.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed__conv_strides": [5, 2, 2]}, "say 4, 4 and 3 convolutions"),
        ({"embed__conv_strides": [16, 2, 2, 2], "embed__conv_kernels": [2, 1, 1, 1]}, "sound would be passed over"),
        ({"embed__front": "log_mel"}, "position conv and norm are for waveforms"),
        ({"head__uppercase": True}, "lowercase and uppercase contradict"),
        ({"embed__position_groups": 7}, "core.dim 48 does not divide by 7"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpeechToText.build(spec_of(**settings))


def test_masked_frames_are_not_of_waveforms() -> None:
    spec = open_registry().resolve("wave-micro", task="masked-audio", data="morse").spec
    with pytest.raises(UserError, match=r"embed\.front: masked frames are log-mel frames"):
        zoo.plugins.task_class("masked-audio").build(spec)


@pytest.mark.parametrize("rate", [44100, 16000, 8000])
def test_windows_have_the_tokens_that_were_planned_and_join_as_the_whole(rate: int, tmp_path: Path) -> None:
    settings = {"decode__window_seconds": 3, "decode__overlap_seconds": 1, "core__windows": [16]}
    task = SpeechToText(spec_of(**settings), {"alphabet": ["a"]})
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 11 * rate + 17), rate)
    dataset = task.inputs([str(tmp_path / "a.wav")])
    windows = task.parts(dataset).dataset
    assert len(windows) > 3
    for i in range(len(windows)):
        item = windows[i]
        assert task.embed.num_tokens(len(task.transform(item, None)["samples"])) == item.columns["window"]
    whole = task.embed.num_tokens(len(task.transform(dataset[0], None)["samples"]))
    last = windows[len(windows) - 1].columns["window"]
    size, shared = round(3 / task.embed.token_seconds), round(1 / task.embed.token_seconds)
    assert (len(windows) - 1) * (size - shared) + last == whole


def test_a_transcription_too_long_for_its_recording_is_told() -> None:
    task = SpeechToText(spec_of(), {"alphabet": ["a", "b"]})
    item = Item("x", Sound(np.zeros(200, np.float32), 8000), "ab" * 9)
    with pytest.raises(UserError, match="the recording has 4; look at both"):
        task.transform(item, np.random.default_rng(0))


# ---------------------------------------------------------------- trainings


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Recordings of noise, with the words that are said to be in them."""
    folder, draws = tmp_path / "said", np.random.default_rng(0)
    folder.mkdir()
    rows = ["file_name,transcription,split"]
    for i in range(9):
        soundfile.write(folder / f"{i}.wav", draws.normal(0, 0.1, 4000 + 400 * i), 8000)
        rows.append(f"{i}.wav,Eat a tea.,{('train', 'validation', 'test')[max(0, i - 6)]}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """transformers' wav2vec 2.0 that hears 8 kHz and writes large letters, as `save_pretrained` leaves it."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**CONFIG))
    with torch.no_grad():
        model.lm_head.weight.normal_()
    folder = tmp_path / "published"
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    return folder


def begun(weights: Path, data: Path, out: Path, *, name: str = "wave-micro", **settings: Any) -> Run:
    asked = STILL | {key.replace("__", "."): value for key, value in settings.items()}
    return train(name, data=str(data), weights=weights, settings=asked, out=out, show_progress=False)


def test_a_training_begins_with_published_weights_their_symbols_and_their_reading(
    published: Path, said: Path, tmp_path: Path
) -> None:
    run = begun(published, said, tmp_path / "run")
    assert run.spec.embed["sample_rate_hz"] == 8000
    head = {key: run.spec.head[key] for key in ("symbols", "num_symbols", "lowercase", "uppercase", "punctuation")}
    wanted = {"symbols": "published", "num_symbols": 6, "lowercase": False, "uppercase": True, "punctuation": False}
    assert head == wanted
    assert run.checkpoint().metadata()["info"] == {"symbols": {"texts": [" ", "E", "A", "T", "", ""], "blank": 5}}
    report = run.report()
    assert report is not None
    assert f"weights: {published} (wav2vec2)" in report.notes
    assert not any("cannot write" in note for note in report.notes)

    peer = transformers.Wav2Vec2ForCTC.from_pretrained(published).eval()
    reading = transformers.Wav2Vec2FeatureExtractor.from_pretrained(published)
    spelling = transformers.Wav2Vec2CTCTokenizer(published / "vocab.json")
    texts = []
    for i in range(9):
        samples, rate = soundfile.read(said / f"{i}.wav", dtype="float32")
        with torch.no_grad():
            logits = peer(reading(samples, sampling_rate=rate, return_tensors="pt").input_values).logits[0]
        texts.append(" ".join(spelling.decode(logits.argmax(-1)).replace("<unk>", "").split()))
    answers = zoo.predict(run, [said / f"{i}.wav" for i in range(9)])
    assert [each.values["text"] for each in answers] == texts
    assert len(set(texts)) > 1


def test_a_training_goes_on_from_published_weights(
    published: Path, said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zoo_says(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    settings = ["train.lr=1e-2", "train.freeze=[embed.features]", "train.log_every=1", "augment.num_time_masks=2"]
    command = ["train", "wave-micro", "--weights", published, "--data", said, "--out", tmp_path / "run", "--steps", 6]
    assert zoo_says(*command, *(part for each in settings for part in ("--set", each))) == 0
    run = Run(tmp_path / "run")
    found, before = run.load_model().state_dict(), transformers.Wav2Vec2ForCTC.from_pretrained(published).state_dict()
    first = "wav2vec2.feature_extractor.conv_layers.0.conv.weight"
    assert torch.equal(found["embed.features.0.conv.weight"], before[first])
    assert not torch.equal(found["head.classifier.weight"], before["lm_head.weight"])
    losses = [row["loss"] for line in (run.folder / "metrics.jsonl").open() if "loss" in (row := json.loads(line))]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    again = begun(run.folder, said, tmp_path / "again")  # a run's weights keep what is written with, too
    assert torch.equal(again.load_model().head.classifier.weight, found["head.classifier.weight"])
    assert zoo_says("predict", again.folder, said / "0.wav", "--json") == 0


def test_another_alphabet_gets_a_new_head(published: Path, said: Path, tmp_path: Path) -> None:
    run = begun(
        published, said, tmp_path / "run", head__symbols="characters", head__lowercase=True, head__uppercase=False
    )
    assert run.checkpoint().metadata()["info"] == {"alphabet": [" ", "a", "e", "t"]}
    assert run.spec.head["num_symbols"] == 5
    report = run.report()
    assert report is not None
    assert any("new: head.classifier" in note for note in report.notes)
    before = transformers.Wav2Vec2ForCTC.from_pretrained(published).state_dict()
    assert torch.equal(run.load_model().embed.project.weight, before["wav2vec2.feature_projection.projection.weight"])
    (said / "metadata.csv").write_text((said / "metadata.csv").read_text().replace("Eat a tea.", "1 2"))
    with pytest.raises(UserError, match=r"can write no character .*\nname others, or train with --set head"):
        begun(published, said, tmp_path / "none")


def test_tensors_of_torchaudio_begin_a_training(said: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    peer = torchaudio.models.wav2vec2_model(
        "group_norm", list(zip(*CONVOLUTIONS.values(), strict=True)), False, 48, 0.1, 16, 4, 2, 3, 0.1, 192, 0.1, 0.1,
        False, 0.1, 6
    ).eval()  # fmt: skip
    torch.save(peer.state_dict(), tmp_path / "peer.pt")
    run = begun(tmp_path / "peer.pt", said, tmp_path / "new")
    assert run.checkpoint().metadata()["info"] == {"alphabet": [" ", "a", "e", "t"]}
    (tmp_path / "vocab.json").write_text(json.dumps({"-": 0, "|": 1, "E": 2, "T": 3, "A": 4, "X": 5}))
    run = begun(tmp_path / "peer.pt", said, tmp_path / "same")
    assert run.checkpoint().metadata()["info"] == {"symbols": {"texts": ["", " ", "E", "T", "A", "X"], "blank": 0}}
    assert torch.equal(run.load_model().head.classifier.weight, peer.aux.weight)
    assert (run.spec.embed["sample_rate_hz"], run.spec.embed["normalise"]) == (16_000, False)


def rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def test_wrong_weights_are_told(published: Path, said: Path, tmp_path: Path) -> None:
    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(UserError, match=message):
            begun(published, said, tmp_path / "run", **settings)
        assert not (tmp_path / "run").exists()

    refused(r"--set embed\.sample_rate_hz=16000 contradicts the weights, which have 8000", embed__sample_rate_hz=16000)
    refused(r"not of the size of 'stt-micro': in them core\.dim is 48, not 96", name="stt-micro")
    reading, vocabulary = published / "preprocessor_config.json", published / "vocab.json"
    for rate in ("16k", 0, None, 44100.5):
        rewrite(reading, sampling_rate=rate)
        refused("which is no rate of samples")
    rewrite(reading, sampling_rate=16000, feature_size=80)
    refused("asks for features, not for samples")
    reading.unlink()  # transformers' own default then
    assert WAV2VEC2.settings(read_published(published))["embed.sample_rate_hz"] == 16000
    for content, message in (
        ({"a": 0, "b": 6, "<pad>": 5}, "is not of these weights, whose head has 6 numbers, the blank's 5"),
        ({"a": 0, "b": 0, "<pad>": 5}, "is not of these weights"),
        ({"eng": {"a": 0}}, "or one of several languages"),
        ({"ab": 0, "<pad>": 5}, "has symbols of several characters, such as 'ab'"),
    ):
        vocabulary.write_text(json.dumps(content))
        refused(message)
    vocabulary.unlink()
    refused(r"has no vocab\.json: what the head's numbers mean is not known\nput the one")
    rewrite(published / "config.json", model_type="wavlm")
    refused("are of 'wavlm', which is none of the families known")
    rewrite(published / "config.json", model_type="bert")
    refused("are for text-classification or masked-lm, not for speech-to-text")


def test_published_symbols_want_weights(said: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"head\.symbols: there are no published weights that come with symbols"):
        begun(None, said, tmp_path / "run", head__symbols="published")  # pyright: ignore[reportArgumentType]
