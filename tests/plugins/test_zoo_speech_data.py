"""Recordings and what is said in them, from folders with a list, and what is told of them before training."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import zoo.testing
from zoo.contract import Item
from zoo.data.places import locate
from zoo.errors import UserError
from zoo.plugins import session
from zoo.registry import open_registry
from zoo.specs import DataSpec, RunSpec
from zoo_speech.data import Recordings
from zoo_speech.morse import Keyed, key
from zoo_speech.places import load_place
from zoo_speech.task import SpeechToText, read_source
from zoo_speech.writing import normalise


def spec_of(**settings: object) -> RunSpec:
    return open_registry().resolve("stt-micro", settings={k.replace("__", "."): v for k, v in settings.items()}).spec


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
