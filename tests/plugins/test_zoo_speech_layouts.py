"""Known datasets, unpacked: found by how their folders look, whole and with their own splits."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoo.contract import Source
from zoo.errors import UserError
from zoo.specs import DataSpec
from zoo_speech.places import load_place


def record(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    soundfile.write(path, rng.normal(0, 0.1, round(8000 * seconds)), 8000)


def texts(source: Source) -> dict[str, dict[str, str]]:
    return {
        split: {item.id: item.target for item in (part[i] for i in range(len(part)))}
        for split, part in source.splits.items()
    }


def load(folder: Path, **settings: object) -> Source:
    return load_place(DataSpec(name=str(folder), **settings))


def test_lj_speech(tmp_path: Path) -> None:
    for name in ("LJ001-0001", "LJ001-0002"):
        record(tmp_path / "wavs" / f"{name}.wav")
    lines = ['LJ001-0001|Printed in 1455, "so"|Printed in fourteen fifty-five, "so"', "LJ001-0002|in being|in being"]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    source = load(tmp_path)
    assert texts(source)["train"]["wavs/LJ001-0001.wav"] == 'Printed in fourteen fifty-five, "so"'
    assert len(source.splits["train"]) == 2
    assert "LJSpeech" in source.notes[0]

    (tmp_path / "metadata.csv").write_text("\n".join([*lines, "LJ001-0003|gone|gone"]))
    assert list(load(tmp_path).problems) == ["wavs/LJ001-0003.wav"]
    (tmp_path / "metadata.csv").write_text("\n".join([*lines, "no bar"]))
    with pytest.raises(UserError, match=r"metadata\.csv:3: no | between"):
        load(tmp_path)


def test_librispeech(tmp_path: Path) -> None:
    for subset, speaker in (("train-clean-100", 19), ("train-other-500", 20), ("dev-clean", 84), ("test-clean", 61)):
        chapter = tmp_path / subset / str(speaker) / "198"
        for number in range(2):
            record(chapter / f"{speaker}-198-{number:04d}.flac")
        lines = [f"{speaker}-198-{number:04d} NORTHANGER ABBEY {number}" for number in range(2)]
        (chapter / f"{speaker}-198.trans.txt").write_text("\n".join(lines) + "\n")
    source = load(tmp_path)
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 4, "validation": 2, "test": 2}
    assert texts(source)["test"] == {
        f"test-clean/61/198/61-198-000{number}.flac": f"NORTHANGER ABBEY {number}" for number in range(2)
    }
    assert source.splits["test"][0].columns == {"group": "61"}
    alone = load(tmp_path / "dev-clean")
    assert {split: len(part) for split, part in alone.splits.items()} == {"train": 2}
    held = load(tmp_path, holdout_group="19")
    assert {split: len(part) for split, part in held.splits.items()} == {"train": 6, "test": 2}


def test_speech_commands(tmp_path: Path) -> None:
    for word in ("yes", "no"):
        for speaker in ("a1", "b2", "c3"):
            record(tmp_path / word / f"{speaker}_nohash_0.wav")
    record(tmp_path / "_background_noise_" / "hum.wav")
    (tmp_path / "validation_list.txt").write_text("yes/b2_nohash_0.wav\nno/b2_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/c3_nohash_0.wav\nno/c3_nohash_0.wav\n")
    assert texts(load(tmp_path)) == {
        "train": {"no/a1_nohash_0.wav": "no", "yes/a1_nohash_0.wav": "yes"},
        "validation": {"no/b2_nohash_0.wav": "no", "yes/b2_nohash_0.wav": "yes"},
        "test": {"no/c3_nohash_0.wav": "no", "yes/c3_nohash_0.wav": "yes"},
    }


def test_yes_no(tmp_path: Path) -> None:
    record(tmp_path / "waves_yesno" / "0_1_0_0_1_1_0_1.wav")
    assert texts(load(tmp_path)) == {
        "train": {"waves_yesno/0_1_0_0_1_1_0_1.wav": "no yes no no yes yes no yes"},
    }


def test_a_list_of_one_s_own_comes_first(tmp_path: Path) -> None:
    names = ["0_1_0_0_1_1_0_1.wav", "other.wav"]
    for name in names:
        record(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,transcription\n" + "".join(f"{name},hi\n" for name in names))
    (tmp_path / "x.trans.txt").write_text("x Y")
    assert texts(load(tmp_path)) == {"train": dict.fromkeys(names, "hi")}
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "x.trans.txt").unlink()
    with pytest.raises(UserError, match=r"has no list of transcriptions\nadd a metadata.csv with \S+$"):
        load(tmp_path)
    (tmp_path / "said.tsv").write_text("file\ttext\n")
    with pytest.raises(UserError, match=r", or give the path of '.*said\.tsv'$"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"other\.wav' is a recording: what is said in it is not known\ngive the path"):
        load(tmp_path / "other.wav")


def test_manifests_of_splits(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        record(tmp_path / "audio" / f"{split}.wav")
        line = f'{{"audio_filepath": "audio/{split}.wav", "text": "of {split}", "duration": 0.5}}'
        (tmp_path / f"{split}.jsonl").write_text(line + "\n")
    assert texts(load(tmp_path)) == {
        "train": {"audio/train.wav": "of train"},
        "validation": {"audio/dev.wav": "of dev"},
        "test": {"audio/test.wav": "of test"},
    }
    assert texts(load(tmp_path / "train.jsonl")) == {"train": {"audio/train.wav": "of train"}}


@pytest.mark.parametrize("other", ["speaker", "split"])
def test_a_speaker_is_not_what_is_said(tmp_path: Path, other: str) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "metadata.csv").write_text(f"file_name,{other}\na.wav,train\n")
    with pytest.raises(UserError, match=r"none of its columns is called .*\n.*\nname one with --set data\.text_column"):
        load(tmp_path)
