"""What people get wrong, one by one: exit status 2 and one message that names it, never a traceback."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from PIL import Image

from zoo import plugins
from zoo.cli import main
from zoo.run import Run, open_run

SMALL = ["core.dim=24", "core.depth=1", "embed.image_size=16", "embed.patch_size=8", "train.batch_size=4"]
"""Settings of a model that trains at once."""


class Ended(NamedTuple):
    status: int
    out: str
    err: str


Zoo = Callable[..., Ended]


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Zoo]:
    """The command line, run in an empty folder. What was said on stderr comes as one line."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_PLUGINS", "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:  # anything else would be a traceback
            main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, " ".join(err.split()))

    yield run
    plugins.reset()


def train(data: object, *arguments: object, out: str = "run") -> list[object]:
    settings = [word for each in SMALL for word in ("--set", each)]
    return ["train", "vit-micro", "--data", data, *settings, "--device", "cpu", "--out", out, *arguments]


def refused(ended: Ended, *words: str) -> None:
    assert ended.status == 2
    assert ended.err.count("zoo: ") == 1
    for word in words:
        assert word in ended.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train vit-smal", ("model 'vit-smal'", "did you mean 'vit-small'")),
        ("train vit-small --recipe digit", ("recipe 'digit'", "did you mean 'digits'")),
        ("train vit-small --data digist", ("dataset 'digist'", "did you mean 'digits'")),
        ("train vit-small --data ./nowhere", ("./nowhere", "no such folder")),
        ("train vit-small --set train.lrr=1e-3", ("--set train.lrr", "did you mean 'lr'")),
        ("train vit-small --set train.lr=fast", ("train.lr=fast", "number")),
        ("train vit-small --set core.cross_attention=true", ("core.cross_attention", "leave it off")),
        ("train vit-small --device gpu", ("device 'gpu'", "cuda")),
        ("train vit-small --device cuda:99", ("device 'cuda:99' is not usable", "usable: ")),
        ("train vit-small --steps -3", ("train.steps=-3", "≥ 1")),
        ("train vit-small --resume --out nowhere", ("'nowhere' does not exist",)),
        ("list --plugin vlt", ("plugin 'vlt'", "did you mean 'vit'")),
        ("-p no_such_module list", ("no_such_module",)),
        ("registry check nowhere.yaml", ("nowhere.yaml",)),
    ],
)
def test_a_wrong_word_is_named_with_what_was_meant(zoo: Zoo, command: str, words: tuple[str, ...]) -> None:
    refused(zoo(*command.split()), *words)
    assert list(Path().iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "vit-micro", "--data", ""], "--data is empty"),
        (["train", "vit-micro", "--data="], "--data is empty"),
        (["predict", "run", ""], "an argument is empty"),
        (["train", "vit-micro", "--out", ""], "--out is empty"),
    ],
)
def test_an_unset_shell_variable_means_nothing(zoo: Zoo, arguments: list[str], named: str) -> None:
    refused(zoo(*arguments), named)
    assert list(Path().iterdir()) == []


# ---------------------------------------------------------------- folders of pictures


def text(path: Path) -> None:
    path.write_text("hello")


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(("spoil", "reason"), [(text, "it is no picture"), (truncated, "truncated")])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_stops_training_and_is_named(
    zoo: Zoo, pictures: Path, spoil: Callable[[Path], None], reason: str, workers: int
) -> None:
    spoil(pictures / "train" / "cat" / "bad.png")
    ended = zoo(*train(pictures, "--set", "train.epochs=1", "--set", f"train.workers={workers}"))
    refused(ended, str(pictures / "train" / "cat" / "bad.png"), reason, "data.on_error=skip")


@pytest.mark.parametrize("spoil", [text, truncated])
def test_a_broken_picture_is_skipped_on_request_and_listed(
    zoo: Zoo, pictures: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(pictures / "train" / "cat" / "bad.png")
    ended = zoo(*train(pictures, "--set", "train.epochs=1", "--set", "data.on_error=skip"))
    assert ended.status == 0
    assert "1 item could not be read" in ended.out
    assert "train/cat/bad.png" in ended.out
    assert list(Run(Path("run")).status()["skipped"]) == ["train/cat/bad.png"]


def test_folders_that_hold_nothing_to_learn_are_refused(zoo: Zoo, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(zoo(*train(tmp_path / "empty")), "nothing in", "a folder for each class")
    (tmp_path / "single").mkdir()
    (pictures / "train" / "cat").rename(tmp_path / "single" / "cat")
    refused(zoo(*train(tmp_path / "single")), "single class, 'cat'")
    refused(zoo(*train(pictures)), "classes that train has not: cat")
    assert not Path("run").exists()


def test_deep_grey_and_cmyk_pictures_are_trained_on_and_predicted(zoo: Zoo, pictures: Path) -> None:
    draws = np.random.default_rng(1)
    deep, cmyk = pictures / "train" / "cat" / "deep.png", pictures / "train" / "dog" / "cmyk.jpg"
    Image.fromarray(draws.integers(0, 65536, (16, 16), dtype=np.uint16)).save(deep)
    Image.fromarray(draws.integers(0, 256, (16, 16, 4), dtype=np.uint8), "CMYK").save(cmyk)
    assert Image.open(deep).mode.startswith("I")
    assert Image.open(cmyk).mode == "CMYK"
    assert zoo(*train(pictures, "--set", "train.epochs=1")).status == 0
    ended = zoo("predict", "run", deep, cmyk)
    assert ended.status == 0
    assert len(ended.out.splitlines()) == 3


def test_predict_answers_what_is_there_and_names_what_is_not(zoo: Zoo, pictures: Path, tmp_path: Path) -> None:
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    (tmp_path / "none").mkdir()
    ended = zoo("predict", "run", "nowhere.png", pictures / "test" / "cat", tmp_path / "none")
    assert ended.status == 2
    assert len(ended.out.splitlines()) == 3
    for words in (
        "no file or folder 'nowhere.png'",
        f"the folder '{tmp_path / 'none'}' holds no file",
        "2 of 4 inputs",
    ):
        assert words in ended.err


@pytest.mark.parametrize("source", ["~nobody-of-this-name/x.png", "x" * 300, "a\nb.png"])
def test_a_path_that_cannot_be_is_one_message(zoo: Zoo, pictures: Path, source: str) -> None:
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    ended = zoo("predict", "run", source, pictures / "test" / "cat" / "0.png")
    assert ended.status == 2
    assert len(ended.out.splitlines()) == 2
    assert "1 of 2 inputs" in ended.err
    refused(zoo(*train(source, out="other")))
    refused(zoo("eval", source))


def test_a_name_that_is_no_text_is_trained_on_and_predicted(zoo: Zoo, pictures: Path) -> None:
    odd = pictures / "train" / "cat" / os.fsdecode(b"caf\xe9.png")
    shutil.copy(pictures / "train" / "dog" / "0.png", odd)
    (pictures / "train" / "dog" / "0.png").unlink()
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    assert zoo("predict", "run", odd, "--out", "x.csv").status == 0
    assert b"caf\xe9.png" in Path("x.csv").read_bytes()


def test_links_are_followed_to_no_folder_twice_nor_to_one_around(zoo: Zoo, pictures: Path) -> None:
    (pictures / "train" / "cat" / "self").symlink_to(".")
    (pictures / "train" / "cat" / "up").symlink_to("..")
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    assert open_run("run").checkpoint().trainer()["data"]["train"]["items"] == 12


def test_split_folders_in_any_case_are_splits_and_what_is_beside_them_is_told(zoo: Zoo, pictures: Path) -> None:
    (pictures / "train").rename(pictures / "Train")
    shutil.copytree(pictures / "test" / "cat", pictures / "birds" / "x")
    ended = zoo(*train(pictures, "--steps", 1))
    assert ended.status == 0
    assert "left out: birds" in ended.err
    assert "left out: birds" in zoo("data", "check", pictures).out


def test_evaluating_what_was_trained_on_is_said_whatever_the_path_is_called(zoo: Zoo, pictures: Path) -> None:
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    ended = zoo("eval", "run", "--data", os.path.relpath(pictures), "--split", "all")
    assert "those of train were trained on" in ended.out


def test_evaluations_of_two_folders_of_one_name_are_two_files(zoo: Zoo, pictures: Path, tmp_path: Path) -> None:
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    other = shutil.copytree(pictures, tmp_path / "elsewhere" / pictures.name)
    for data in (pictures, other, pictures):
        assert zoo("eval", "run", "--data", data).status == 0
    assert len(list(Path("run").glob("eval-*.json"))) == 2


def test_explaining_overwrites_neither_an_input_nor_another_picture(zoo: Zoo, pictures: Path, tmp_path: Path) -> None:
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    (tmp_path / "in").mkdir()
    for name in ("a b.png", "a-b.png", "\N{GRINNING FACE}.png", "\N{CAT FACE}.png"):
        shutil.copy(pictures / "test" / "cat" / "0.png", tmp_path / "in" / name)
    assert zoo("explain", "run", tmp_path / "in", "--out", "out").status == 0
    assert len(list(Path("out").iterdir())) == 4
    refused(zoo("explain", "run", tmp_path / "in" / "a b.png", "--out", tmp_path / "in" / "a b.png"), "is an input")


# ---------------------------------------------------------------- run folders


def test_a_run_whose_plugin_is_gone_names_what_to_install(zoo: Zoo, pictures: Path) -> None:
    assert zoo(*train(pictures, "--steps", 1)).status == 0
    spec = Path("run/spec.yaml")
    changed = spec.read_text().replace("task: image-classification", "task: bird-songs")
    spec.write_text(changed.replace("  vit:\n    distribution: attention-zoo", "  birds:\n    distribution: zoo-birds"))
    refused(zoo("eval", "run"), "made with zoo-birds 0.1.0", "install it from where you have it")


def test_a_folder_that_cannot_be_written_is_named(
    zoo: Zoo, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    refused(zoo(*train(pictures, out=str(tmp_path / "file" / "run"))), str(tmp_path / "file" / "run"), "--out")
    make = Path.mkdir

    def mkdir(path: Path, *arguments: bool, **options: bool) -> None:
        if "locked" in path.parts:  # who tests as root may write anywhere
            raise PermissionError(13, "Permission denied", str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    refused(zoo(*train(pictures, out="locked/run")), "'locked/run'", "Permission denied", "--out")


def test_a_run_of_another_spec_is_not_touched(zoo: Zoo, pictures: Path) -> None:
    assert zoo(*train(pictures, "--steps", 2)).status == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    refused(zoo(*train(pictures)), "holds a run already", "--resume")
    refused(
        zoo(*train(pictures, "--steps", 3, "--resume")), "another spec", "train.steps: the run has 2, the command 3"
    )
    refused(zoo("train", "vit-small", "--out", "run", "--resume"), "another spec", '"vit-micro"', '"vit-small"')
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_a_corrupt_newest_checkpoint_gives_way_to_the_last_good_one(zoo: Zoo, pictures: Path) -> None:
    command = train(pictures, "--steps", 4)  # saved at 3, the end of an epoch, and at 4
    assert zoo(*command).status == 0
    whole = Run(Path("run")).checkpoint("newest").weights.read_bytes()
    Path("run/checkpoints/step-00000004/model.safetensors").write_bytes(whole[:-1] + b"?")
    Run(Path("run")).set_status("running")  # as one that was killed
    ended = zoo(*command, "--resume")
    assert ended.status == 0
    assert "step-00000004 is not whole" in ended.err
    assert "going on from step 3" in ended.err
    assert Run(Path("run")).checkpoint("newest").weights.read_bytes() == whole


# ---------------------------------------------------------------- tables of texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"I liked it,good\nI did not,bad\n", "none of its columns is called"),
        (b"text\nfine\n", "has a single column, 'text'"),
        (b"text,label\nfi\0ne,good\n", "a NUL byte in line 2"),
        (b"text,label\ncaf\xe9,good\n", "not UTF-8: byte 0xe9 in line 2 if its language is a Western one, save"),
        (b"text,label\none, two,good\n", "line 2 has 3 fields"),
        (b"text,label\na,good\nb,\nc,bad\n", "1 item of '{}' cannot be used: table.csv:3: it has no label mend"),
        (b"text,label\na,good\nb,good\nc,good\n", "has a single class, 'good'"),
    ],
)
def test_a_table_that_cannot_be_used(zoo: Zoo, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    ended = zoo("train", "text-micro", "--data", tmp_path / "table.csv", "--steps", 1, "--out", tmp_path / "run")
    assert (ended.status, message.format(tmp_path / "table.csv") in ended.err) == (2, True), ended.err
    assert not (tmp_path / "run").exists()


def test_odd_tables_work_and_empty_texts_follow_the_policy(zoo: Zoo, tmp_path: Path) -> None:
    lines = [f"{'good' if i % 2 else 'bad'} text {i},{'Good' if i % 2 else 'bad'}" for i in range(30)]
    lines += [f"{'long ' * 20_000},good", '" ",bad']
    (tmp_path / "table.csv").write_text("\n".join(["text,label", *lines]))
    train = ["train", "text-micro", "--data", tmp_path / "table.csv", "--device", "cpu", "--steps", 8]
    small = [part for each in ("core.dim=24", "core.depth=1", "train.batch_size=16") for part in ("--set", each)]
    ended = zoo(*train, *small, "--out", tmp_path / "stopped")
    assert ended.status == 2
    assert "table.csv:33: the text is empty" in ended.err
    assert not (tmp_path / "stopped").exists()
    ended = zoo(*train, *small, "--out", tmp_path / "run", "--set", "data.on_error=skip")
    assert ended.status == 0, ended.err
    assert "labels that differ by case only are different classes: 'Good' (15), 'good' (1)" in ended.err
    assert "left out: 1 item that cannot be used: table.csv:33 (the text is empty)" in ended.err


# ---------------------------------------------------------------- recordings


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """Thirty recordings of noise, which say yes and no."""
    folder = tmp_path / "voice"
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(30):
        soundfile.write(folder / f"{i}.wav", draws.normal(0, 0.1, 8000), 16000)
    rows = [f"{i}.wav,{'yes' if i % 2 else 'no'}" for i in range(30)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows, ""]))
    return folder


def spoilt(folder: Path, kind: str) -> None:
    with (folder / "metadata.csv").open("a") as file:
        file.write({"missing": "gone.wav,yes\n", "long": f"0.wav,{'yes ' * 20}\n", "empty": "0.wav,?\n"}.get(kind, ""))
    if kind == "zero":
        soundfile.write(folder / "7.wav", np.zeros(0), 16000)
    elif kind == "cut":
        (folder / "7.wav").write_bytes((folder / "7.wav").read_bytes()[:4000])
    elif kind == "text":
        (folder / "7.wav").write_text("hello")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("zero", "7.wav' has no samples: its length is 0 s"),
        ("cut", "7.wav' is cut short: 75% of what its header promises is missing"),
        ("text", "7.wav': Format not recognised"),
        ("missing", "gone.wav: there is no file"),
        ("long", "the transcription is too long for its recording: it needs 79 tokens, the recording has 13; lower"),
        ("empty", "the transcription is empty"),
    ],
)
def test_a_recording_that_cannot_be_used(zoo: Zoo, voice: Path, tmp_path: Path, kind: str, message: str) -> None:
    spoilt(voice, kind)
    train = ["train", "stt-micro", "--data", voice, "--device", "cpu", "--steps", 4, "--set", "core.depth=1"]
    ended = zoo(*train, "--set", "embed.subsampling=stack", "--set", "embed.hop_ms=10", "--out", tmp_path / "stopped")
    assert (ended.status, message in ended.err) == (2, True), ended.err
    ended = zoo(*train, "--set", "data.on_error=skip", "--out", tmp_path / "run")
    assert ended.status == 0, ended.err


def test_a_separator_on_the_command_line(zoo: Zoo, tmp_path: Path) -> None:
    rows = "\n".join(f"late and broken {i},late{'|broken' * (i % 2)}" for i in range(30))
    (tmp_path / "table.csv").write_text(f"text,label\n{rows}\n")
    ended = zoo(
        "train", "text-micro", "--data", tmp_path / "table.csv", "--set", "data.label_separator=|",
        "--set", "core.depth=1", "--steps", 2, "--device", "cpu", "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert open_run(tmp_path / "run").spec.head["multi_label"] is True


def test_what_does_not_fit_is_told(zoo: Zoo, tmp_path: Path) -> None:
    ended = zoo("train", "vit-micro", "--set", "train.batch_length=5", "--out", tmp_path / "run")
    assert (ended.status, "have no lengths set train.batch_size instead" in ended.err) == (2, True), ended.err
    ended = zoo("data", "check", "digits", "--task", "speech-to-text")
    assert (ended.status, "is for image-classification" in ended.err) == (2, True), ended.err
    ended = zoo("data", "check", "morse:snr=-5")
    assert (ended.status, "say so with --task" in ended.err) == (2, True), ended.err
    ended = zoo("data", "fetch", "spoken-digit-strings")
    assert (ended.status, "run 'zoo data fetch spoken-digits'" in ended.err) == (2, True), ended.err
