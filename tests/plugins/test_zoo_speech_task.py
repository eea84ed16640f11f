"""Speech to text, from recordings to what they say: by the code that trains pictures and texts."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import zoo.testing
from zoo.contract import Item
from zoo.core import Layout
from zoo.data.places import locate
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import DataSpec, RunSpec
from zoo.training import train
from zoo_speech.data import Recordings, load_place
from zoo_speech.decode import best_path
from zoo_speech.model import SpeechEmbed
from zoo_speech.morse import Keyed, key
from zoo_speech.task import SpeechToText, read_source
from zoo_speech.writing import Alphabet, learn_alphabet, least_tokens, normalise


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


def test_an_alphabet_spells_and_writes() -> None:
    alphabet = Alphabet(learn_alphabet(["ab a", "é"]))
    assert alphabet.characters == [" ", "a", "b", "é"]
    assert alphabet.write(alphabet.spell("é ab")) == "é ab"
    assert alphabet.write(alphabet.spell("xaz")) == "a"


def test_the_best_path_drops_repeats_and_blanks() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0, 3]
    scores = torch.nn.functional.one_hot(torch.tensor(path), 4).float()
    assert best_path(scores, [5, 4]) == [[1, 1], [2, 3]]
    assert least_tokens([1, 1, 2]) == 4


# ---------------------------------------------------------------- model


@pytest.mark.parametrize("num_stacked", [4, 0])
def test_a_recording_gives_the_same_tokens_alone_and_in_a_batch(num_stacked: int) -> None:
    torch.manual_seed(0)
    embed = SpeechEmbed(16, sample_rate_hz=8000, num_mels=20, window=200, hop=80, num_stacked=num_stacked).eval()
    lengths = [4000, 1234, 8001]
    padded = torch.zeros(3, 8001)
    for row, length in zip(padded, lengths, strict=True):
        row[:length] = torch.randn(length)
    tokens = [math.ceil(math.ceil(length / 80) / 4) for length in lengths]
    together, _ = embed(padded, torch.tensor(lengths), **_layout(tokens))
    for row, length, count, part in zip(padded, lengths, tokens, together.split(tokens), strict=True):
        alone, _ = embed(row[None, :length], torch.tensor([length]), **_layout([count]))
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
    whole, _ = embed(samples, torch.tensor([8000]), **_layout([25]))
    masked, _ = embed(samples, torch.tensor([8000]), **_layout([25]), time_masks=masks)
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
    with pytest.raises(UserError, match=r"metadata.csv:2: the split 'dev' is none of"):
        load_place(DataSpec(name=str(write_folder(tmp_path / "wrong", ["a.wav,yes,dev"], header))))
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
    folder = write_folder(tmp_path, rows, "file_name,transcription,speaker")
    splits = load_place(DataSpec(name=str(folder), holdout_group="ann")).splits
    assert {split: {part[i].columns["group"] for i in range(len(part))} for split, part in splits.items()} == {
        "train": {"bob"},
        "test": {"ann"},
    }
    with pytest.raises(UserError, match="has no group 'eve'\nits groups are: ann, bob"):
        load_place(DataSpec(name=str(folder), holdout_group="eve"))


@pytest.mark.skipif(locate("spoken-digits") is None, reason="the dataset is not on this machine")
def test_spoken_digits() -> None:
    splits = read_source(DataSpec(name="spoken-digits")).splits
    assert {split: len(part) for split, part in splits.items()} == {"train": 2700, "test": 300}
    strings = read_source(DataSpec(name="spoken-digit-strings")).splits["test"]
    assert 3 <= len(str(strings[0].target).split()) <= 7


@pytest.mark.skipif(locate("asterisk-en") is None, reason="the dataset is not on this machine")
def test_asterisk_sentences_are_on_one_side() -> None:
    splits = read_source(DataSpec(name="asterisk-en")).splits
    texts = {
        split: {normalise(str(part[i].target), lowercase=True, punctuation=False) for i in range(len(part))}
        for split, part in splits.items()
    }
    assert not texts["train"] & texts["test"]
    assert 0.1 < len(texts["test"]) / (len(texts["train"]) + len(texts["test"])) < 0.19


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
    spec = open_registry().resolve("stt-micro", data=str(folder)).spec
    found = {finding.kind: finding for finding in SpeechToText.check(spec)}
    named = {kind: list(found[kind].items) for kind in found}
    assert named["silent"] == ["silent.wav"]
    assert named["clipped"] == ["clipped.wav"]
    assert named["odd rate"] == ["rate.wav"]
    assert named["empty transcription"] == ["empty.wav"]
    assert named["too long"] == ["long.wav"]
    assert named["unusable"] == ["zero.wav"]
    assert named["rare characters"] == ["rare.wav"]
    assert named["outside the alphabet"] == ["strange.wav"]
    assert "'q' 'u' 'è'" in found["outside the alphabet"].message
    assert "mislabelled" not in found


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
    with pytest.raises(UserError, match="too long for its recording: it needs 40 tokens, which has 13"):
        task.transform(Item("a", folder / "a.wav", "yes" * 13 + "y"), None)
    with pytest.raises(UserError, match="the transcription is empty"):
        task.transform(Item("a", folder / "a.wav", "?!"), None)


def test_what_the_alphabet_lacks_counts_as_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a.wav,yes"])
    task = SpeechToText(spec_of(), {"alphabet": list("esy")})
    batch = task.collate([task.transform(Item("a", folder / "a.wav", "Yes, no"), None)], ["a"])
    assert batch.targets["counts"].tolist() == [3]
    model = SpeechToText.build(spec_of(head__num_symbols=4)).eval()
    (record,) = task.decode(model(batch.inputs), batch)
    assert record.target == "yes no"


def test_a_run_learns_and_is_predicted(tmp_path: Path) -> None:
    """Two words as two tones: what is asked is that all rooms work together."""
    rng = np.random.default_rng(0)
    rows = []
    (tmp_path / "data").mkdir()
    for i in range(60):
        word, hertz = ("low", 300) if i % 2 else ("high", 1500)
        time = np.arange(3200) / 8000
        soundfile.write(
            tmp_path / "data" / f"{i}.wav", 0.3 * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6)), 8000
        )
        rows.append(f"{i}.wav,{word.title()}.")
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))
    settings = {"embed.sample_rate_hz": 8000, "train.lr": 3e-3, "train.batch_size": 16, "train.batch_length": 10}
    run = train(
        "stt-micro",
        data=str(tmp_path / "data"),
        steps=120,
        settings=settings,
        device="cpu",
        out=tmp_path / "run",
        show_progress=False,
    )
    report = run.report()
    assert report is not None
    assert report.primary == "wer"
    assert report.metrics["wer"].value <= 0.1
    first, missing = zoo.predict(run, [tmp_path / "data" / "0.wav", tmp_path / "none.wav"])
    assert first.values == {"text": "high", "seconds": 0.4}
    assert "there is no file" in (missing.error or "")
