"""Sound files to samples: read with soundfile, mixed to one channel, resampled."""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float
from scipy.signal import resample_poly

from zoo.data.folder import require_file
from zoo.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
WHOLE = 0.9
"""Share of the promised samples that must be there."""
BLOCK = 1 << 20
"""Samples read at once where a recording is only looked at."""
Samples = Float[np.ndarray, " samples"]
Channels = Float[np.ndarray, "samples channels"]


@contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """A sound file, ready to be read.

    Raises:
        UserError: It is no sound file, holds nothing, what cannot be decoded or, a WAV, less than its header promises.
    """
    require_file(path, SUFFIXES)
    try:
        with soundfile.SoundFile(str(path)) as file:
            if file.frames == 0:
                raise UserError(f"the recording '{path}' has no samples: its length is 0 s")
            if file.format in ("WAV", "WAVEX") and (missing := _missing_share(path)) > 0:
                raise UserError(
                    f"the recording '{path}' is cut short: {missing:.0%} of what its header promises is missing; "
                    "copy it anew"
                )
            yield file
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise UserError(f"cannot read the recording '{path}': {_short(error)}; copy or convert it anew") from error


def seconds_of(path: Path) -> float:
    """How long a file's header says it is.

    Raises:
        UserError: As in `opened`.
    """
    with opened(path) as file:
        return file.frames / file.samplerate


def read(path: Path, sample_rate_hz: int, start_seconds: float = 0.0, end_seconds: float = math.inf) -> Samples:
    """A recording, or what of it lies between two times, in one channel at a rate, from -1 to 1.

    Raises:
        UserError: As in `opened`, or its samples end early or are not finite.
    """
    with opened(path) as file:
        rate = file.samplerate
        start, end = round(start_seconds * rate), round(min(end_seconds * rate, file.frames))
        promised, whole = end - start, file.frames
        file.seek(start)
        samples = file.read(promised, dtype="float32", always_2d=True)
    missing = promised - len(samples)
    _require_whole(path, missing, whole)
    _require_finite(path, samples)
    if missing and promised < whole:  # of a part: silence
        samples = np.pad(samples, ((0, missing), (0, 0)))
    return at_rate(samples.mean(1), rate, sample_rate_hz)


def blocks(path: Path) -> Iterator[tuple[Channels, int]]:
    """A recording as it is, from -1 to 1, block by block, however long it is; and its rate.

    Raises:
        UserError: As in `read`.
    """
    with opened(path) as file:
        missing = file.frames
        # SoundFile.blocks yields what is promised, whether it could be decoded or not.
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            _require_finite(path, block)
            missing -= len(block)
            yield block, file.samplerate
        _require_whole(path, missing, file.frames)


def at_rate(samples: Samples, rate: int, wanted: int) -> Samples:
    """Resampled, band-limited, by polyphase filtering."""
    if rate == wanted:
        return samples
    return resample_poly(samples, wanted, rate).astype(np.float32)


def _require_whole(path: Path, missing: int, whole: int) -> None:
    if missing > (1 - WHOLE) * whole:  # some formats know their length by guessing only
        raise UserError(
            f"the recording '{path}' is cut short or damaged: less of it can be decoded than its header promises; "
            "copy it anew"
        )


def _require_finite(path: Path, samples: Channels) -> None:
    if not np.isfinite(samples).all():
        raise UserError(f"the recording '{path}' has samples that are not finite")


def _short(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip(" .") or type(error).__name__


def _missing_share(path: Path) -> float:
    """The share of a WAV file's samples that its header promises and the file lacks; libsndfile reads what is there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":  # RIFX and RF64 have their lengths elsewhere
            return 0.0
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                before, there = file.tell(), size - file.tell()
                # A recorder that streams does not know the length and writes the largest, or none; some writers count
                # what stands before the samples among them.
                known = 0 < length < 0x7FFFFFFF and length - there > before
                return 1 - there / length if known else 0.0
            file.seek(length + length % 2, 1)
    return 0.0


class Sound(NamedTuple):
    """Samples in memory."""

    samples: Samples
    sample_rate_hz: int


class Excerpt(NamedTuple):
    """What of a file lies between two times."""

    path: Path
    start_seconds: float
    end_seconds: float


Recording = Path | Excerpt | Sound | tuple[Path, ...]
"""A file or a part of it, samples in memory, or files that are heard one after another."""


def load(recording: Recording, sample_rate_hz: int) -> Samples:
    """The samples of a recording at a rate.

    Raises:
        UserError: As in `read`.
    """
    if isinstance(recording, Sound):
        return at_rate(recording.samples, recording.sample_rate_hz, sample_rate_hz)
    if isinstance(recording, Path):
        return read(recording, sample_rate_hz)
    if isinstance(recording, Excerpt):
        return read(recording.path, sample_rate_hz, recording.start_seconds, recording.end_seconds)
    return np.concatenate([read(path, sample_rate_hz) for path in recording])
