"""What many tests train: a task small enough, which of two sums is larger, from four numbers; and small files."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as processors: a thread each, before torch counts them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from PIL import Image

from zoo import plugins
from zoo.run import Run

settings.register_profile("zoo", deadline=None)  # a busy machine is no failure
settings.load_profile("zoo")

FOLDER = Path(__file__).parent / "tiny"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The model `tiny`, brought by the plugin module `zoo_tiny`, here and in processes started from here."""
    monkeypatch.setenv("ZOO_PLUGINS", "zoo_tiny")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    monkeypatch.syspath_prepend(FOLDER)
    plugins.reset()
    yield "tiny"
    for name in [name for name in sys.modules if name.startswith("zoo_tiny")]:
        del sys.modules[name]
    plugins.reset()


@pytest.fixture
def trained(tiny: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of `tiny`, trained once and copied for each test."""
    from zoo.training import train

    origin = tmp_path_factory.getbasetemp() / "tiny"
    if not (origin / "report.json").exists():
        train(tiny, steps=12, seed=7, device="cpu", out=origin, show_progress=False)
    return Run(shutil.copytree(origin, tmp_path / "run"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders below train, val and test: what is put into train is trained on."""
    draws = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draws.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    rows = [f"{a} {b} film,{label}" for a in "abcdefgh" for b in "ijklm" for label in ("good", "bad")]
    rows = [row.replace(" film", f" {row.partition(',')[2]} film") for row in rows]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    return str(tmp_path / "reviews.csv")


@pytest.fixture
def voice(tmp_path: Path) -> str:
    folder = tmp_path / "voice"
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(30):
        soundfile.write(folder / f"{i}.wav", draws.normal(0, 0.1, 4000 + 111 * i), 16000)
    rows = [f"{i}.wav,{'yes' if i % 2 else 'no'}" for i in range(30)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))
    return str(folder)
