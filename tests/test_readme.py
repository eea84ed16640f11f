"""What the README says is run, with few steps, and what it shows comes from files."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import timm
import transformers
from PIL import Image
from safetensors.torch import save_file

from zoo_text import tokenizer as tokenizers

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def take_photos(folder: Path) -> None:
    for label, shade in (("cat", 60), ("dog", 200)):
        (folder / label).mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (40, 30), (shade, number, shade)).save(folder / label / f"{number}.jpg")


def write_reviews(folder: Path) -> None:
    rows = [f"the parcel {i} came late,{label}" for i in range(30) for label in ("complaint", "praise")]
    for name in ("my-reviews.csv", "more-reviews.csv"):
        text = "\n".join(f"{row.replace('late', 'at once')}" if "praise" in row else row for row in rows)
        (folder / name).write_text(f"text,label\n{text}\n")


def record_voice(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 16000), 16000)
    rows = [f"{i}.wav,{'yes' if i % 2 else 'no'}" for i in range(30)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))


def publish(folder: Path) -> None:
    """Weights of random numbers, as their libraries write them: all-MiniLM-L6-v2 and vit_small_patch16_224."""
    tokenizer = tokenizers.learn("wordpiece", ["the parcel came late"] * 2, max_vocab_size=300, lowercase=True)
    rows = tokenizers.size(tokenizer)
    config = transformers.BertConfig(vocab_size=rows, hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    transformers.BertModel(config).save_pretrained(folder / "all-MiniLM-L6-v2")
    tokenizer.save(str(folder / "all-MiniLM-L6-v2" / "tokenizer.json"))
    (folder / "vit_small_patch16_224").mkdir(parents=True)
    save_file(
        timm.create_model("vit_small_patch16_224").state_dict(), folder / "vit_small_patch16_224/model.safetensors"
    )
    (folder / "vit_small_patch16_224" / "config.json").write_text('{"architecture": "vit_small_patch16_224"}')


def test_the_first_commands_are_these() -> None:
    assert "python -m venv .venv && .venv/bin/pip install -e . && .venv/bin/zoo train vit-small" in README
    assert '.venv/bin/pip install -e ".[test]" && .venv/bin/pytest' in README


def test_tables_come_from_the_results() -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.render", "--check"], cwd=ROOT, check=True)


def test_pictures_and_links_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the README's order, in one folder, as a newcomer would; the trainings take three steps."""
    site = tmp_path / "site"
    monkeypatch.setenv("PYTHONPATH", str(site))
    take_photos(tmp_path / "my-photos")
    write_reviews(tmp_path)
    record_voice(tmp_path / "my-voice")
    publish(tmp_path / "models")
    for command in commands():
        program, *arguments = shlex.split(command)
        if program == "pip":  # beside this environment, not into it
            assert arguments[:2] == ["install", "-e"], command
            arguments = ["install", "--no-build-isolation", "--no-deps", "--target", str(site), *arguments[2:]]
        if arguments[0] == "train":
            arguments += ["--steps", "3"]
        done = subprocess.run(
            [sys.executable, "-m", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    take_photos(tmp_path / "my-photos")
    (code,) = blocks("python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
