"""Sound files as people have them."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoo.errors import UserError
from zoo_speech import audio
from zoo_speech.audio import Sound, load, read, seconds_of


def sine(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.ogg", "VORBIS"), ("a.mp3", None)]
)
def test_formats_are_read(tmp_path: Path, name: str, kind: str | None) -> None:
    soundfile.write(tmp_path / name, sine(1.0, 16000), 16000, subtype=kind)
    samples = read(tmp_path / name, 16000)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(16000, abs=1200)  # MP3 pads
    assert pitch(samples, 16000) == pytest.approx(440, abs=2)


def test_eight_bit_stereo_is_mixed_and_resampled(tmp_path: Path) -> None:
    both = np.stack([sine(1.0, 44100), np.zeros(44100)], 1)
    soundfile.write(tmp_path / "a.wav", both, 44100, subtype="PCM_U8")
    assert seconds_of(tmp_path / "a.wav") == 1
    samples = read(tmp_path / "a.wav", 16000)
    assert len(samples) == 16000
    assert pitch(samples, 16000) == pytest.approx(440, abs=2)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.25, abs=0.02)


def test_resampling_keeps_out_what_the_rate_cannot_hold() -> None:
    high = Sound(sine(1.0, 16000, 6000.0).astype(np.float32), 16000)
    assert np.abs(load(high, 8000)[500:-500]).max() < 0.01


def test_parts_are_heard_one_after_another(tmp_path: Path) -> None:
    for i, seconds in enumerate((0.5, 0.25)):
        soundfile.write(tmp_path / f"{i}.wav", sine(seconds, 8000), 8000)
    assert len(load((tmp_path / "0.wav", tmp_path / "1.wav"), 8000)) == 6000


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read(tmp_path / "none.wav", 8000)
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(UserError, match=r"cannot read the recording .*text.wav': .*Format not recognised"):
        read(tmp_path / "text.wav", 8000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    with pytest.raises(UserError, match="has no samples: its length is 0 s"):
        read(tmp_path / "empty.wav", 8000)
    (tmp_path / "nothing.wav").touch()
    with pytest.raises(UserError, match="is empty"):
        read(tmp_path / "nothing.wav", 8000)
    soundfile.write(tmp_path / "whole.wav", sine(1.0, 8000), 8000)
    content = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is cut short: 50% of what its header promises is missing"):
        read(tmp_path / "cut.wav", 8000)


def test_a_header_that_counts_itself_is_forgiven(tmp_path: Path) -> None:
    """Some writers give the data the size of the whole file."""
    soundfile.write(tmp_path / "a.wav", sine(1.0, 8000), 8000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = len(content).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read(tmp_path / "a.wav", 8000)) == 8000
    (tmp_path / "a.wav").write_bytes(content[:-2])
    with pytest.raises(UserError, match="is cut short"):
        read(tmp_path / "a.wav", 8000)


def read_whole(path: Path) -> np.ndarray:
    return read(path, 16000)


def read_in_blocks(path: Path) -> np.ndarray:
    return np.concatenate([block for block, _ in audio.blocks(path)]).mean(1)


@pytest.mark.parametrize("reader", [read_whole, read_in_blocks])
def test_a_cut_file_of_another_kind_is_told(tmp_path: Path, reader: Callable[[Path], np.ndarray]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 48000)
    for name, options, why in (
        ("a.wav", {"format": "WAVEX", "subtype": "PCM_24"}, "is cut short"),
        ("a.mp3", {}, "is cut short"),
        ("a.flac", {}, "cannot read the recording"),
    ):
        soundfile.write(tmp_path / name, noise, 16000, **options)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=why):
            reader(tmp_path / name)


def test_of_a_file_that_lacks_little_what_is_there_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", np.random.default_rng(0).normal(0, 0.1, 160_000), 16000)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) * 95 // 100])
    found = read_in_blocks(tmp_path / "a.mp3")
    assert 144_000 < len(found) < 160_000
    np.testing.assert_allclose(found, read_whole(tmp_path / "a.mp3"), atol=1e-6)  # a seek decodes by other sums


def test_odd_rates_cost_little() -> None:
    started = time.process_time()
    samples = load(Sound(sine(1.0, 44099).astype(np.float32), 44099), 16000)
    assert time.process_time() - started < 5  # a filter for each phase would take minutes and gigabytes
    assert len(samples) == 16000
    assert pitch(samples, 16000) == pytest.approx(440, abs=2)


def test_a_streamed_header_without_a_length_is_believed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1.0, 8000), 8000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read(tmp_path / "a.wav", 8000)) == 8000


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_blocks_are_the_whole_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(audio, "BLOCK", size)
    both = np.stack([sine(0.1, 8000), sine(0.1, 8000, 880.0)], 1)
    soundfile.write(tmp_path / "a.flac", both, 8000)
    found = list(audio.blocks(tmp_path / "a.flac"))
    assert len(found) == -(-800 // size)
    assert {rate for _, rate in found} == {8000}
    np.testing.assert_allclose(np.concatenate([block for block, _ in found]), both, atol=1e-4)
