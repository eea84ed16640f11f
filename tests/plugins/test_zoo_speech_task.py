"""Speech to text, from recordings to what they say: by the code that trains pictures and texts."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
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
from zoo.data.places import locate
from zoo.errors import UserError
from zoo.metrics.transcripts import edits
from zoo.plugins import session
from zoo.registry import open_registry
from zoo.run import Run
from zoo.specs import DataSpec, RunSpec
from zoo.testing import of_task
from zoo.training import train
from zoo_speech.audio import Sound
from zoo_speech.augment import altered, joined
from zoo_speech.data import Recordings
from zoo_speech.decode import best_path
from zoo_speech.language import learn as learn_n_grams
from zoo_speech.model import SpeechEmbed
from zoo_speech.morse import Keyed, key
from zoo_speech.places import load_place
from zoo_speech.spec import AugmentSpec, EmbedSpec, HeadSpec, cost
from zoo_speech.task import SpeechToText, read_source
from zoo_speech.writing import Alphabet, learn, least_tokens, normalise, stored, write


def spec_of(**settings: object) -> RunSpec:
    return open_registry().resolve("stt-micro", settings={k.replace("__", "."): v for k, v in settings.items()}).spec


@pytest.mark.parametrize("check", zoo.testing.checks("speech"), ids=str)
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


def test_two_views_of_a_recording_are_masked_apart_and_drawn_together() -> None:
    spec = spec_of(augment__consistency=0.5, augment__num_time_masks=4, augment__time_mask_fraction=0.2)
    task = SpeechToText(spec, {"alphabet": list("abcdefghijklmnopqrstuvwxyz ")})
    dataset = Keyed("train", 3)
    drawn = [task.transform(dataset[i], np.random.Generator(np.random.PCG64(i))) for i in range(3)]
    batch = task.collate(drawn, dataset.ids[:3])
    assert batch.inputs["time_masks"].shape == (6, 4, 2)
    assert (batch.inputs["time_masks"][:3] != batch.inputs["time_masks"][3:]).all()
    model = task.build(spec).eval()
    output = model(batch.inputs)
    one, other = output.logits.log_softmax(-1).chunk(2)
    total, count = task.loss(output, batch)
    assert count == sum(len(sample["symbols"]) for sample in drawn)

    # By hand: the mean of two plain losses, and half the weighted sum of both divergences.
    plain = SpeechToText(spec_of(), {"alphabet": task.symbols.texts[1:]})
    alone = []
    for part in (0, 1):
        own = dict(batch.inputs) | {
            "layout": Layout.from_lengths(batch.inputs["layout"].lengths[:3].tolist()),
            "num_tokens": len(one),
            "time_masks": batch.inputs["time_masks"][3 * part : 3 * part + 3],
            "band_masks": batch.inputs["band_masks"][3 * part : 3 * part + 3],
        }
        alone.append(plain.loss(model(own), batch)[0])
    # Each is drawn towards the other, which stands still.
    apart = sum((p.exp() * (p - q)).sum() for p, q in ((one.detach(), other), (other.detach(), one)))
    expected = (alone[0] + alone[1] + 0.5 * apart) / 2
    torch.testing.assert_close(total, expected)
    weight = model.head.classifier.weight
    found, wanted = (torch.autograd.grad(each, weight, retain_graph=True)[0] for each in (total, expected))
    torch.testing.assert_close(found, wanted)


def test_a_language_model_wants_a_search() -> None:
    with pytest.raises(UserError, match=r"language_model 'my\.arpa' would not count: .*; set decode\.beam_width=32"):
        spec_of(decode__language_model="my.arpa")


def test_consistency_wants_masks() -> None:
    with pytest.raises(UserError, match="consistency is between two maskings"):
        spec_of(augment__consistency=0.5)


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


def test_masks_cover_their_share() -> None:
    embed = SpeechEmbed(16, sample_rate_hz=8000, num_mels=20, window=200, hop=80, position="none")
    samples = torch.randn(1, 8000)
    masks = torch.tensor([[[0.5, 1.0]]])
    whole = embed(samples, torch.tensor([8000]), **_layout([25])).x
    masked = embed(samples, torch.tensor([8000]), **_layout([25]), time_masks=masks).x
    torch.testing.assert_close(masked[:12], whole[:12])
    torch.testing.assert_close(masked[13:], embed.project.bias.expand(12, -1))


def _layout(tokens: list[int]) -> dict[str, object]:
    return {"layout": Layout.from_lengths(tokens), "num_tokens": sum(tokens)}


# ---------------------------------------------------------------- data


def test_morse_is_keyed_by_the_rule() -> None:
    marks = key("sos", np.random.default_rng(0))
    durations = np.diff(marks)[::2]  # key down
    short, long = durations[[0, 1, 2, 6, 7, 8]], durations[3:6]
    assert len(durations) == 9
    assert long.min() > 2 * short.max()
    keyed = Keyed("test", 3)
    assert [len(keyed[i].inputs.samples) / 8000 for i in range(3)] == pytest.approx(keyed.lengths, abs=1e-3)
    assert np.array_equal(keyed[1].inputs.samples, Keyed("test", 2)[1].inputs.samples)
    fixed = read_source(DataSpec(name="morse:snr=-5")).splits["test"]
    assert fixed[1].target == keyed[1].target
    with pytest.raises(UserError, match="is no place of Morse"):
        read_source(DataSpec(name="morse:snr=loud"))


def write_folder(folder: Path, rows: list[str], header: str = "file_name,transcription") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        name = row.partition(",")[0]
        if name and not name.startswith("missing"):
            soundfile.write(folder / name, np.random.default_rng(len(name)).normal(0, 0.1, 4000), 8000)
    (folder / "metadata.csv").write_text("\n".join([header, *rows]))
    return folder


def test_a_folder_with_a_list(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,Hello there.", "b.wav,Yes"])
    part = load_place(DataSpec(name=str(folder))).splits["train"]
    assert isinstance(part, Recordings)
    assert part.lengths == [0.5, 0.5]
    assert part[0] == Item("a.wav", folder / "a.wav", "Hello there.")


def test_files_that_cannot_be_read_are_told_before_training(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,yes", "missing.wav,no", "zero.wav,no", ",no"])
    soundfile.write(folder / "zero.wav", np.zeros(0), 8000)
    found = load_place(DataSpec(name=str(folder)))
    assert found.splits["train"].ids == ["a.wav"]
    assert list(found.problems) == ["missing.wav", "zero.wav", "metadata.csv:5"]
    assert "there is no file" in found.problems["missing.wav"]


def test_splits_by_column_and_by_folder(tmp_path: Path) -> None:
    header = "file_name,transcription,Split"
    folder = write_folder(tmp_path / "column", ["a.wav,yes,train", "b.wav,no,TEST"], header)
    assert {split: len(part) for split, part in load_place(DataSpec(name=str(folder))).splits.items()} == {
        "train": 1,
        "test": 1,
    }
    with pytest.raises(UserError, match=r"metadata.csv:2: the split 'extra' is none of"):
        load_place(DataSpec(name=str(write_folder(tmp_path / "wrong", ["a.wav,yes,extra"], header))))
    for split in ("train", "test"):
        write_folder(tmp_path / "folders" / split, ["a.wav,yes", "a.wav,no"])
    splits = load_place(DataSpec(name=str(tmp_path / "folders"))).splits
    assert splits["train"].ids == ["train/a.wav", "train/a.wav (train/metadata.csv:3)"]
    write_folder(tmp_path / "folders" / "val", ["a.wav,yes"])
    write_folder(tmp_path / "folders" / "valid", ["a.wav,yes"])
    with pytest.raises(UserError, match="has both 'val' and 'valid' for one split"):
        load_place(DataSpec(name=str(tmp_path / "folders")))


def test_a_speaker_is_held_out(tmp_path: Path) -> None:
    rows = [f"{i}.wav,yes,{'ann' if i % 2 else 'bob'}" for i in range(6)]
    rows.append("6.wav,yes,")
    folder = write_folder(tmp_path, rows, "file_name,transcription,speaker")
    splits = load_place(DataSpec(name=str(folder), holdout_group="ann")).splits
    assert {split: {part[i].columns.get("group") for i in range(len(part))} for split, part in splits.items()} == {
        "train": {"bob", None},
        "test": {"ann"},
    }
    with pytest.raises(UserError, match="has no group 'eve'\nits groups are: ann, bob"):
        load_place(DataSpec(name=str(folder), holdout_group="eve"))


def test_stretches_of_a_recording_are_refused(tmp_path: Path) -> None:
    header = "file_name,transcription,offset"
    assert len(load_place(DataSpec(name=str(write_folder(tmp_path, ["a.wav,yes,0.0"], header)))).splits["train"]) == 1
    folder = write_folder(tmp_path, ["a.wav,yes,0.0", "a.wav,no,1.5"], header)
    with pytest.raises(UserError, match=r"has a column 'offset', .*\ncut them, a file for each"):
        load_place(DataSpec(name=str(folder)))


@pytest.mark.skipif(locate("spoken-digits") is None, reason="the dataset is not on this machine")
def test_spoken_digits() -> None:
    splits = read_source(DataSpec(name="spoken-digits")).splits
    assert {split: len(part) for split, part in splits.items()} == {"train": 2700, "test": 300}
    strings = read_source(DataSpec(name="spoken-digit-strings")).splits
    assert {split: len(part) for split, part in strings.items()} == {"train": 1500, "validation": 150, "test": 200}
    assert all(3 <= len(str(part[0].target).split()) <= 7 for part in strings.values())
    heard = [{path for i in range(len(part)) for path in part[i].inputs} for part in strings.values()]
    assert len(set.union(*heard)) == sum(map(len, heard))  # no recording is in strings of two splits


@pytest.mark.skipif(locate("asterisk-en") is None, reason="the dataset is not on this machine")
def test_asterisk_sentences_are_on_one_side() -> None:
    splits = read_source(DataSpec(name="asterisk-en")).splits
    texts = {
        split: {normalise(str(part[i].target), lowercase=True, punctuation=False) for i in range(len(part))}
        for split, part in splits.items()
    }
    assert not texts["train"] & texts["test"]
    assert 0.1 < len(texts["test"]) / (len(texts["train"]) + len(texts["test"])) < 0.19


def test_what_is_in_brackets_is_not_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    said = [
        "At [@]",
        "[a tone]",
        "(1 second of silence)",
        "IAX (note: two)",
        "<beep>",
        *(f"press {i}" for i in range(9)),
    ]
    (tmp_path / "asterisk-en").mkdir()
    for i in range(len(said)):
        soundfile.write(tmp_path / "asterisk-en" / f"{i}.wav", np.ones(800), 8000)
    rows = [f'{i}.wav,"{text}"' for i, text in enumerate(said)]
    (tmp_path / "asterisk-en" / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))
    source = read_source(DataSpec(name="asterisk-en"))
    parts = source.splits.values()
    texts = {
        normalise(str(part[i].target), lowercase=True, punctuation=False) for part in parts for i in range(len(part))
    }
    assert texts == {"at", "iax", *(f"press {i}" for i in range(9))}
    assert "left out: 3 recordings of tones or silence" in source.notes


# ---------------------------------------------------------------- checking


def test_what_check_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{i}.wav,yes or no" for i in range(12)]
    folder = write_folder(tmp_path, rows)
    for i in range(12):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 16000), 16000)
    odd = {
        "silent": (np.full(16000, 1e-5), 16000, "yes or no"),
        "clipped": (np.sign(rng.normal(0, 1, 16000)) * 0.99999, 16000, "no"),
        "rate": (rng.normal(0, 0.1, 8000), 8000, "no"),
        "empty": (rng.normal(0, 0.1, 16000), 16000, "?!"),
        "long": (rng.normal(0, 0.1, 1600), 16000, "yes or no " * 9),
        "zero": (np.zeros(0), 16000, "no"),
        "rare": (rng.normal(0, 0.1, 16000), 16000, "yés"),
    }
    for name, (samples, rate, text) in odd.items():
        soundfile.write(folder / f"{name}.wav", samples, rate)
        rows.append(f"{name}.wav,{text}")
    soundfile.write(folder / "strange.wav", rng.normal(0, 0.1, 16000), 16000)
    lines = [f"{row},train" for row in rows] + ["strange.wav,què,test"]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription,split", *lines]))
    soundfile.write(folder / "forgotten.wav", rng.normal(0, 0.1, 16000), 16000)
    spec = open_registry().resolve("stt-micro", data=str(folder)).spec
    found = {finding.kind: finding for finding in SpeechToText.check(spec)}
    named = {kind: list(found[kind].items) for kind in found}
    assert named["silent"] == ["silent.wav"]
    assert named["clipped"] == ["clipped.wav"]
    assert named["odd rate"] == ["rate.wav"]
    assert named["empty transcription"] == ["empty.wav"]
    assert named["too long"] == ["long.wav"]
    assert named["unusable"] == ["zero.wav"]
    assert named["not listed"] == ["forgotten.wav"]
    assert named["low rate"] == ["rate.wav"]
    assert "set it to 8000" in found["low rate"].message
    assert named["rare characters"] == ["rare.wav"]
    assert named["outside the alphabet"] == ["strange.wav"]
    assert "'q' 'u' 'è'" in found["outside the alphabet"].message
    assert "mislabelled" not in found


@pytest.mark.parametrize("symbols", ["characters", "bpe"])
def test_characters_that_no_symbol_has_are_told(symbols: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{i}.wav,yes or no,train" for i in range(8)] + ["8.wav,Yés!,validation", "9.wav,no,test"]
    folder = write_folder(tmp_path, rows, header="file_name,transcription,split")
    for i in range(10):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 1600), 16000)
    spec = open_registry().resolve("stt-micro", data=str(folder), settings=[f"head.symbols={symbols}"]).spec
    splits = SpeechToText.datasets(spec)
    told = "validation: characters that the model cannot write, and so gets wrong: 'é'"
    assert [note for note in splits.notes if "cannot write" in note] == [told]
    assert told in SpeechToText.datasets(spec, splits.info).notes
    foreign = write_folder(tmp_path / "foreign", [f"{i}{i}.wav,{chr(0x4E00 + i)}" for i in range(40)])
    for i in range(40):
        soundfile.write(foreign / f"{i}{i}.wav", rng.normal(0, 0.1, 1600), 16000)
    other = open_registry().resolve("stt-micro", data=str(foreign)).spec
    notes = [note for note in SpeechToText.datasets(other, splits.info).notes if "cannot write" in note]
    assert [note.partition(":")[0] for note in notes] == ["train", "validation", "test"]
    assert notes[0].count("'") == 2 * 20
    assert notes[0].endswith(" more")


def test_long_recordings_of_training_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{i}.wav,yes or no,{split}" for i, split in enumerate(["train"] * 8 + ["validation", "test"])]
    folder = write_folder(tmp_path, rows, header="file_name,transcription,split")
    for i in range(10):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 16000 * (3 if i in (0, 9) else 1)), 16000)
    settings = ["decode.window_seconds=2", "decode.overlap_seconds=1"]
    spec = open_registry().resolve("stt-micro", data=str(folder), settings=settings).spec
    told = "train: 1 recording longer than 2 s, up to 3.0 s; training hears them whole"
    assert any(note.startswith(told) for note in SpeechToText.datasets(spec).notes)
    (found,) = [finding for finding in SpeechToText.check(spec) if finding.kind == "long"]
    assert found.message.startswith(told)
    assert list(found.items) == ["0.wav"]
    usual = open_registry().resolve("stt-micro", data=str(folder)).spec
    assert not any("longer than" in note for note in SpeechToText.datasets(usual).notes)


def test_what_differs_in_writing_only_is_no_contradiction(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,high", "b.wav,High.", "c.wav,low"])
    for name in ("a", "b", "c"):
        soundfile.write(folder / f"{name}.wav", np.linspace(-0.5, 0.5, 8000), 8000)
    spec = open_registry().resolve("stt-micro", data=str(folder)).spec
    (wrong,) = (finding for finding in SpeechToText.check(spec) if finding.kind == "mislabelled")
    assert wrong.message == "the same content with 2 labels (high, low): one at least is wrong"


def test_one_clipped_channel_is_found(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,high"])
    both = np.stack([np.sign(np.sin(np.arange(8000))), np.zeros(8000)], 1)
    soundfile.write(folder / "a.wav", both, 8000)
    spec = open_registry().resolve("stt-micro", data=str(folder)).spec
    assert "clipped" in {finding.kind for finding in SpeechToText.check(spec)}


# ---------------------------------------------------------------- samples and training


def test_a_transcription_that_cannot_be_spelt_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,yes"])
    task = SpeechToText(spec_of(embed__hop_ms=10, embed__window_ms=25), {"alphabet": list("esy")})
    fast = Item("a", folder / "a.wav", "yes" * 13 + "y")
    with pytest.raises(UserError, match=r"it needs 40 tokens, the recording has 13; lower embed\.hop_ms"):
        task.transform(fast, np.random.default_rng(0))
    batch = task.collate([task.transform(fast, None)], ["a"])  # to be counted, but without a loss
    assert batch.targets is None
    assert batch.columns[0]["text"] == fast.target


def test_recordings_without_words_are_told_before_training(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [*(f"{i}.wav,yes" for i in range(12)), "12.wav,?!", "13.wav,"])
    for i in range(14):
        soundfile.write(folder / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 8000), 8000)
    spec = open_registry().resolve("stt-micro", data=str(folder)).spec
    with pytest.raises(UserError, match=r"2 items of .* cannot be used:\n  12\.wav: the transcription is empty"):
        SpeechToText.datasets(spec)
    skipping = open_registry().resolve("stt-micro", data=str(folder), settings={"data.on_error": "skip"}).spec
    splits = SpeechToText.datasets(skipping)
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 12
    assert any("12.wav (the transcription is empty)" in note for note in splits.notes)


def test_what_the_alphabet_lacks_counts_as_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,yes"])
    task = SpeechToText(spec_of(), {"alphabet": list("esy")})
    batch = task.collate([task.transform(Item("a", folder / "a.wav", "Yes, no"), None)], ["a"])
    assert batch.targets["counts"].tolist() == [3]
    model = SpeechToText.build(spec_of(head__num_symbols=4)).eval()
    (record,) = task.decode(model(batch.inputs), batch)
    assert record.target == "yes no"


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
    assert task.search is best_path
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


def test_recordings_of_a_batch_are_joined_as_drawn() -> None:
    spec = spec_of(augment__joined=0.6)
    task = SpeechToText(spec, {"alphabet": list("abcdefghijklmnopqrstuvwxyz ")})
    dataset = Keyed("train", 6)
    samples = [task.transform(dataset[i], np.random.Generator(np.random.PCG64(i))) for i in range(6)]
    assert {sample["goes_on"] for sample in samples} == {True, False}
    batch = task.collate(samples, dataset.ids[:6])
    assert len(batch.ids) == 6
    assert len(batch.targets["counts"]) < 6
    texts = " ".join(dataset.targets[:6])
    assert len(batch.targets["symbols"]) >= len(texts) - 5
    assert " ".join(facts["text"] for facts in batch.columns) == texts
    assert int(batch.inputs["num_samples"].sum()) == sum(len(sample["samples"]) for sample in samples)


def test_the_decoder_does_not_see_what_comes_next() -> None:
    head = SpeechToText.build(spec_of(head__decoder_depth=2)).head.eval()
    tokens, said = torch.randn(7, 96), torch.tensor([0, 1, 2, 3])
    changed = torch.tensor([0, 1, 2, 4])
    layouts = {"layout": Layout.from_lengths([7]), "said_layout": Layout.from_lengths([4])}
    one, other = (head(tokens, said=each, **layouts)[1]["next"] for each in (said, changed))
    torch.testing.assert_close(one[:3], other[:3])
    assert (one[3] - other[3]).abs().max() > 1e-3


def test_recordings_that_cannot_be_spelt_together_stay_apart() -> None:
    embed, symbols = EmbedSpec(), Alphabet([" ", "a"])
    one = {"samples": np.zeros(640), "text": "a", "symbols": symbols.spell("a"), "goes_on": True}
    assert [each["text"] for each in joined([one, one], embed, symbols)] == ["a", "a"]  # a blank between wants a token
    longer = one | {"samples": np.zeros(1280)}
    assert [each["text"] for each in joined([longer, longer, one], embed, symbols)] == ["a a", "a"]


def test_a_recording_keeps_the_speed_at_which_it_can_be_spelt() -> None:
    task = SpeechToText(spec_of(augment__speeds=[2.0], embed__sample_rate_hz=8000), {"alphabet": list("ab")})
    rng = np.random.Generator(np.random.PCG64(0))
    sound = Sound(np.zeros(3200, np.float32), 8000)  # five tokens
    assert len(task.transform(Item("x", sound, "ababa"), rng)["samples"]) == 3200
    assert len(task.transform(Item("x", sound, "ab"), rng)["samples"]) == 1600


def test_noise_lies_below_the_recording_as_asked() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    samples = rng.normal(0, 0.2, 20_000).astype(np.float32)
    below = []
    for _ in range(60):
        noise = altered(samples, AugmentSpec(noise_db=15), rng) - samples
        below.append(20 * np.log10(samples.std() / noise.std()))
    assert min(below) >= 14.9
    assert 22 <= np.mean(below) <= 28  # 15, and 10 on the mean of an exponential distribution


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


def test_a_recipe_s_reading_of_its_data_says_nothing_of_other_data(tmp_path: Path) -> None:
    core = {"dim": 8, "depth": 1, "num_heads": 2}
    zoo.register(
        models={"stt-mine": {"task": "speech-to-text", "core": core, "recipe": "morse"}},
        recipes={"stt-mine/morse": {"data": {"name": "morse", "on_error": "skip"}}},
    )
    try:
        assert open_registry().resolve("stt-mine").spec.data.on_error == "skip"
        other = open_registry().resolve("stt-mine", recipe="morse", data=str(tmp_path)).spec
    finally:
        session.forget()
    assert other.data.name == str(tmp_path)
    assert other.data.on_error == "stop"


def test_the_formula_counts_the_decoder() -> None:
    spec = spec_of(head__decoder_depth=2, core__conv_kernel=5)
    assert cost(spec).parameters == sum(parameter.numel() for parameter in SpeechToText.build(spec).parameters())
