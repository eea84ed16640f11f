"""Data that several plugins' tests train on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile


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
