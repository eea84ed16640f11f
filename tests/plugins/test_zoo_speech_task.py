"""Speech to text, from recordings to what they say: by the code that trains pictures and texts."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo.testing
from zoo.cli import main
from zoo.contract import Item
from zoo.core import Layout
from zoo.errors import UserError
from zoo.metrics.transcripts import edits
from zoo.registry import open_registry
from zoo.run import Run
from zoo.specs import RunSpec
from zoo.testing import of_task
from zoo.training import train
from zoo_speech.decode import best_path
from zoo_speech.language import learn as learn_n_grams
from zoo_speech.model import SpeechEmbed
from zoo_speech.morse import Keyed
from zoo_speech.spec import HeadSpec, cost
from zoo_speech.task import SpeechToText
from zoo_speech.writing import learn, least_tokens, normalise, stored, write


def spec_of(**settings: object) -> RunSpec:
    return open_registry().resolve("stt-micro", settings={k.replace("__", "."): v for k, v in settings.items()}).spec


def checks() -> list[Any]:
    """What is written token by token takes long over 800 recordings; its resume is held on few elsewhere."""
    slow = "resume (speech-seq2seq)"
    found = zoo.testing.checks("speech")
    return [pytest.param(each, marks=pytest.mark.slow if str(each) == slow else (), id=str(each)) for each in found]


@pytest.mark.parametrize("check", checks())
def test_conformance(check: zoo.testing.Check) -> None:
    check()


@pytest.mark.parametrize("size", ["micro", "tiny", "small", "base"])
def test_cores_are_those_of_the_same_size_for_pictures(size: str) -> None:
    models = open_registry().models
    assert models[f"stt-{size}"].core == models[f"vit-{size}"].core


# ---------------------------------------------------------------- writing


def test_normalisation_drops_case_and_punctuation_only() -> None:
    said = "  “Don’t” — press #1, rock 'n' roll: naïve\u0301 CAFÉ… "
    assert normalise(said, lowercase=True, punctuation=False) == "don't press 1 rock n roll naïvé café"
    assert normalise("Hi, there!", lowercase=False, punctuation=True) == "Hi, there!"
    assert normalise("'", lowercase=True, punctuation=False) == normalise("", lowercase=True, punctuation=False) == ""


@given(
    st.text(alphabet=st.one_of(st.sampled_from("a'’ é\u0301İ"), st.characters(codec="utf-8")), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_what_is_normalised_stays_so(text: str, lowercase: bool, punctuation: bool) -> None:
    once = normalise(text, lowercase=lowercase, punctuation=punctuation)
    assert normalise(once, lowercase=lowercase, punctuation=punctuation) == once


def test_an_alphabet_spells_and_writes() -> None:
    alphabet = stored(learn(["ab a", "é"], HeadSpec()))
    assert alphabet.texts == ["", " ", "a", "b", "é"]
    assert write(alphabet, alphabet.spell("é ab")) == "é ab"
    assert write(alphabet, alphabet.spell("xaz")) == "a"


def test_the_best_path_drops_repeats_and_blanks() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0, 3]
    scores = torch.nn.functional.one_hot(torch.tensor(path), 4).float()
    assert best_path(scores[:5].numpy()).symbols == [1, 1]
    assert best_path(scores[5:].numpy()) == ([2, 3], [0, 3])
    assert least_tokens([1, 1, 2]) == 4


# ---------------------------------------------------------------- model


def test_a_language_model_wants_a_search() -> None:
    with pytest.raises(UserError, match=r"language_model 'my\.arpa' would not count: .*; set decode\.beam_width=32"):
        spec_of(decode__language_model="my.arpa")


@pytest.mark.parametrize("num_stacked", [4, 0])
def test_a_recording_gives_the_same_tokens_alone_and_in_a_batch(num_stacked: int) -> None:
    torch.manual_seed(0)
    embed = SpeechEmbed(16, sample_rate_hz=8000, num_mels=20, window=200, hop=80, num_stacked=num_stacked).eval()
    lengths = [4000, 1234, 8001]
    padded = torch.zeros(3, 8001)
    for row, length in zip(padded, lengths, strict=True):
        row[:length] = torch.randn(length)
    tokens = [math.ceil(math.ceil(length / 80) / 4) for length in lengths]
    together = embed(padded, torch.tensor(lengths), **_layout(tokens)).x
    for row, length, count, part in zip(padded, lengths, tokens, together.split(tokens), strict=True):
        alone = embed(row[None, :length], torch.tensor([length]), **_layout([count])).x
        torch.testing.assert_close(part, alone, atol=1e-5, rtol=0)


def test_loudness_does_not_count() -> None:
    embed = SpeechEmbed(16, sample_rate_hz=8000, num_mels=20, window=200, hop=80)
    samples = 0.1 * torch.randn(1, 8000)
    quiet, loud = (embed.frames(gain * samples, torch.tensor([8000]))[0] for gain in (1.0, 5.0))
    torch.testing.assert_close(quiet, loud, atol=2e-3, rtol=0)


def _layout(tokens: list[int]) -> dict[str, object]:
    return {"layout": Layout.from_lengths(tokens), "num_tokens": sum(tokens)}


# ---------------------------------------------------------------- samples and training


TONES = {"low": 300, "high": 1500, "beep": 800}


def say(words: Sequence[str], seed: int) -> np.ndarray:
    """Each word a tone of 0.3 s, with a pause around it."""
    rng = np.random.default_rng(seed)
    time = np.arange(2400) / 8000
    pause = np.zeros(1600)
    tones = [0.3 * np.sin(2 * np.pi * TONES[word] * time + rng.uniform(0, 6)) for word in words]
    return np.concatenate([pause, *(part for tone in tones for part in (tone, pause))]) + rng.normal(0, 1e-3)


def write_tones(place: Path, count: int) -> None:
    """A folder of words that are tones."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        words = [list(TONES)[k] for k in rng.integers(3, size=1 + i % 3)]
        soundfile.write(place / f"{i}.wav", say(words, i), 8000)
        rows.append(f"{i}.wav,{' '.join(words).title()}.")
    (place / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on words that are tones: what is asked is that all rooms work together."""
    place = tmp_path_factory.mktemp("tones")
    write_tones(place, 90)
    settings = {"embed.sample_rate_hz": 8000, "train.lr": 3e-3, "train.batch_size": 16, "train.batch_length": 10}
    return train(
        "stt-micro",
        data=str(place),
        steps=200,
        settings={**settings, "core.rotary_theta": 1e4, "embed.position": "none", "decode.language_model": "train"},
        device="cpu",
        out=place / "run",
        show_progress=False,
    )


def test_all_that_a_recipe_can_ask_for_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    write_tones(tmp_path, 40)
    core = {"depth": 1, "dropout": 0.1, "conv_kernel": 5, "windows": (4,)}
    head = {"symbols": "bpe", "max_symbols": 12, "decoder_depth": 1}
    masks = {"num_time_masks": 2, "num_band_masks": 1, "consistency": 0.2}
    rooms = {
        "core": core,
        "embed": {"sample_rate_hz": 8000, "subsampling": "conv"},
        "head": head,
        "augment": {"speeds": (0.9, 1.1), "joined": 0.5, "noise_db": 30, **masks},
        "decode": {"language_model": "train"},
        "train": {"batch_size": 8, "batch_length": 5, "ema_decay": 0.9},
    }
    settings = {f"{room}.{name}": value for room, asked in rooms.items() for name, value in asked.items()}
    zoo.testing.check_resume("stt-micro", settings, data=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": "mine"}, "does not give the record the id"),
        ({"target": None}, "has another target"),
        ({"prediction": "x"}, "is predicted otherwise"),
    ],
)
def test_the_kit_catches_a_wrong_join(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], why: str) -> None:
    join = SpeechToText.join
    monkeypatch.setattr(SpeechToText, "join", lambda self, *parts: replace(join(self, *parts), **changes))
    with pytest.raises(AssertionError, match=why):
        of_task.records("speech-to-text")


def test_a_run_learns(tones: Run) -> None:
    report = tones.report()
    assert report is not None
    assert report.primary == "wer"
    assert report.metrics["wer"].value <= 0.1
    assert report.real_time_factor is not None
    assert 0 < report.real_time_factor < 1


def test_a_run_is_predicted(tones: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", say(["high", "low"], 1000), 8000)
    first, missing = zoo.predict(tones, [tmp_path / "a.wav", tmp_path / "none.wav"])
    assert first.values == {"text": "high low", "seconds": 1.2}
    times = [(word["word"], word["start"], word["end"]) for word in first.details["words"]]
    for (word, start, end), (said, begin, over) in zip(times, [("high", 0.2, 0.5), ("low", 0.7, 1.0)], strict=True):
        assert word == said
        assert abs(start - begin) <= 0.15
        assert abs(end - over) <= 0.15
    assert "there is no file" in (missing.error or "")


def test_a_long_recording_is_heard_in_windows(tones: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    words = [list(TONES)[k] for k in rng.integers(3, size=60)]
    soundfile.write(tmp_path / "long.wav", say(words, 5), 8000)
    settings = {"decode.window_seconds": 2.0, "decode.overlap_seconds": 0.7}
    (answer,) = zoo.predict(tones, tmp_path / "long.wav", settings=settings)
    assert answer.values["seconds"] == 30.2
    letters = edits("".join(words), answer.values["text"].replace(" ", ""))  # the small model hardly hears the pauses
    assert letters.errors <= 0.03 * letters.length
    starts = [word["start"] for word in answer.details["words"]]
    assert starts == sorted(starts)
    assert abs(starts[-1] - 29.7) <= 0.6

    # Evaluated, it is one item with one transcription.
    rows = ["file_name,transcription"]
    for i, said in enumerate((words[:20], words[20:40], words[40:])):
        soundfile.write(tmp_path / f"{i}.wav", say(said, i), 8000)
        rows.append(f"{i}.wav,{' '.join(said)}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    report = zoo.evaluate(tones, tmp_path, "all", settings=settings)
    assert report.n == 3
    assert report.metrics["cer"].value <= 0.1


def test_a_broken_window_spoils_its_recording_only(tones: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.flac", say(["low"] * 12, 1), 8000)
    soundfile.write(tmp_path / "cut.flac", say(["low"] * 12, 1), 8000)
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    settings = {"decode.window_seconds": 2.0, "decode.overlap_seconds": 0.5}
    inputs = [tmp_path / name for name in ("good.flac", "cut.flac", "good.flac")]
    good, cut, again = zoo.predict(tones, inputs, settings=settings)
    assert good.error is None
    assert good.values == again.values
    assert "cut.flac" in (cut.error or "")


def test_a_language_model_of_the_run_decodes(tones: Run) -> None:
    report = zoo.evaluate(tones, settings=["decode.beam_width=8"])
    assert report.metrics["wer"].value <= 0.1
    assert report.settings == {"decode.beam_width": 8}
    with pytest.raises(UserError, match=r"decode\.language_model: there is no file 'none\.arpa'"):
        zoo.evaluate(tones, settings=["decode.beam_width=8", "decode.language_model=none.arpa"])
    with pytest.raises(UserError, match=r"core\.dim: the run has it already"):
        zoo.evaluate(tones, settings=["core.dim=8"])


def test_subtitles_are_of_one_recording(
    tones: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["zoo", "predict", str(tones.folder), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    recording = tmp_path / "a.wav"
    soundfile.write(recording, say(["high", "low"], 1000), 8000)
    for name, begin in [("a.srt", "1\n00:00:00,"), ("a.vtt", "WEBVTT\n\n00:00:00."), ("a.txt", "high low\n")]:
        assert predict(recording, "--out", tmp_path / name) == 0
        assert (tmp_path / name).read_text().startswith(begin)
    capsys.readouterr()
    assert predict(recording, recording, "--out", tmp_path / "b.srt") == 2
    assert "is of one input, and there are several\nname one input" in capsys.readouterr().err
    assert not (tmp_path / "b.srt").exists()
    soundfile.write(tmp_path / "silence.wav", np.zeros(4000), 8000)
    assert predict(tmp_path / "silence.wav", recording, "--out", tmp_path / "b.srt") == 2
    assert predict(recording, "--out", tmp_path / "b.doc") == 2
    assert ".csv or .jsonl or .txt or .srt or .vtt" in capsys.readouterr().err


def test_a_run_without_a_language_model_says_so() -> None:
    task = SpeechToText(spec_of(), {"alphabet": ["a"]})
    assert isinstance(task.search, partial)
    assert task.search.func is best_path
    with pytest.raises(UserError, match="the run stores none"):
        SpeechToText(spec_of(decode__beam_width=4, decode__language_model="train"), {"alphabet": ["a"]})


def test_pieces_of_words_are_learnt_and_stored(tones: Run, tmp_path: Path) -> None:
    settings = {"head.symbols": "bpe", "head.max_symbols": 20, "embed.sample_rate_hz": 8000}
    spec = open_registry().resolve("stt-micro", data=tones.spec.data.name, settings=settings).spec
    splits = SpeechToText.datasets(spec)
    assert 3 < splits.settings["head.num_symbols"] <= 20
    task = SpeechToText(spec, splits.info)
    sample = task.transform(splits.train[0], None)
    assert write(task.symbols, sample["symbols"]) == sample["text"]
    assert len(sample["symbols"]) < len(sample["text"])


def test_a_decoder_learns_beside_and_changes_no_prediction() -> None:
    settings = {"head__decoder_depth": 2, "head__decoder_weight": 0.25, "train__label_smoothing": 0.1}
    spec = spec_of(**settings)
    task = SpeechToText(spec, {"alphabet": list("abcdefghijklmnopqrstuvwxyz ")})
    dataset = Keyed("train", 3)
    batch = task.collate([task.transform(dataset[i], None) for i in range(3)], dataset.ids[:3])
    said, following = batch.inputs["said"], batch.targets["next"]
    assert (said[1:][said[1:] != 0] == following[:-1][following[:-1] != 0]).all()
    assert said[0] == following[-1] == 0
    model = task.build(spec_of(**settings, head__num_symbols=28)).eval()
    output = model(batch.inputs)
    assert output.further["next"].shape == (len(following), 28)

    wrong = torch.nn.functional.cross_entropy(output.further["next"], following, reduction="sum", label_smoothing=0.1)
    both, count = task.loss(output, batch)
    alone, _ = task.loss(replace(output, further={}), batch)
    torch.testing.assert_close(both, 0.75 * alone + 0.25 * wrong)
    assert count == len(following) - 3
    both.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())

    unknown = task.collate(
        [task.transform(Item(name, dataset[i].inputs), None) for i, name in enumerate("abc")], list("abc")
    )
    blind = model(unknown.inputs)
    assert not blind.further
    torch.testing.assert_close(blind.logits, output.logits)
    with pytest.raises(UserError, match="no label to smooth\nleave it out, or set"):
        SpeechToText(spec_of(train__label_smoothing=0.1), {"alphabet": ["a"]})


def test_the_decoder_does_not_see_what_comes_next() -> None:
    head = SpeechToText.build(spec_of(head__decoder_depth=2)).head.eval()
    tokens, said = torch.randn(7, 96), torch.tensor([0, 1, 2, 3])
    changed = torch.tensor([0, 1, 2, 4])
    layouts = {"layout": Layout.from_lengths([7]), "said_layout": Layout.from_lengths([4])}
    one, other = (head(tokens, said=each, **layouts)[1]["next"] for each in (said, changed))
    torch.testing.assert_close(one[:3], other[:3])
    assert (one[3] - other[3]).abs().max() > 1e-3


def test_an_empty_transcription_is_one_in_windows_too(tones: Run, tmp_path: Path) -> None:
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", say(["low"] * 12, i), 8000)
    rows = [f"{i}.wav,?!" for i in range(3)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))
    for seconds in (2, 60):
        with pytest.raises(UserError, match="the transcription is empty"):
            zoo.evaluate(
                tones, tmp_path, "all", settings={"decode.window_seconds": seconds, "decode.overlap_seconds": 1}
            )


def test_a_language_model_must_write_as_the_run_does(tones: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.arpa"
    path.write_text(learn_n_grams(["LOW HIGH", "HIGH BEEP"], 2).to_arpa())
    settings = ["decode.beam_width=4", f"decode.language_model={path}"]
    with pytest.raises(UserError, match="are not written as the run writes, such as 'BEEP'"):
        zoo.evaluate(tones, settings=settings)
    path.write_text(learn_n_grams(["low high", "high beep"], 2).to_arpa())
    assert zoo.evaluate(tones, settings=settings).n == tones.report().n
    with pytest.raises(UserError, match="the run stores n-grams of up to 3 words"):
        zoo.evaluate(tones, settings=["decode.beam_width=4", "decode.ngram_order=5"])
    with pytest.raises(UserError, match=r"data\.on_error: the run has it already"):
        zoo.predict(tones, "x.wav", settings=["data.on_error=skip"])


def test_the_formula_counts_the_decoder() -> None:
    spec = spec_of(head__decoder_depth=2, core__conv_kernel=5)
    assert cost(spec).parameters == sum(parameter.numel() for parameter in SpeechToText.build(spec).parameters())
