"""Where the frames of a recording come from, window by window: from memory, or, of a long one, from its file.

Of a long file no more than a stretch is in memory at a time: once it is gone through for its loudest frame, by which
all are levelled, and then read again as it is written down.
"""

from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from zoo_speech import audio
from zoo_speech.audio import Recording, Samples
from zoo_speech.seq2seq.model import LogMelEmbed
from zoo_speech.seq2seq.spec import BINS, HOP, SAMPLE_RATE_HZ

MARGIN_SECONDS = 1
"""Read beyond both ends of a stretch, since resampling hears its neighbourhood."""
STRETCH = 3000
"""Frames that are gone through at a time."""


class Frames(Protocol):
    """A recording's frames."""

    count: int

    def cut(self, begin: int, end: int) -> Float[Tensor, "mels t"]: ...


class InMemory:
    """Frames that are there."""

    def __init__(self, frames: Float[Tensor, "mels t"]) -> None:
        self.frames, self.count = frames, frames.shape[1]

    def cut(self, begin: int, end: int) -> Float[Tensor, "mels t"]:
        return self.frames[:, begin:end]


class FromRecording:
    """Frames of a recording of any length, read when they are asked for.

    Both ends of it are mirrored, and the last, partial frame does not count.

    Args:
        recording: A file is read piece by piece; what is no single file is there as a whole.
    """

    def __init__(self, recording: Recording, embed: LogMelEmbed, device: torch.device) -> None:
        self.embed, self.device = embed, device
        self.path = recording if isinstance(recording, Path) else None
        self.whole = audio.load(recording, SAMPLE_RATE_HZ) if self.path is None else None
        self.num_samples = num_samples(recording) if self.whole is None else len(self.whole)
        self.count = self.num_samples // HOP
        self.top = torch.stack(
            [self._powers(i, min(i + STRETCH, self.count)).max() for i in range(0, self.count, STRETCH)]
        ).max()

    def cut(self, begin: int, end: int) -> Float[Tensor, "mels t"]:
        return self.embed.levelled(self._powers(begin, end), self.top)

    def _powers(self, begin: int, end: int) -> Float[Tensor, "mels t"]:
        """Of frames whose neighbours are there too: those at a cut are thrown away, those at the ends mirrored."""
        edge = -(-(BINS // 2) // HOP)
        first, last = max(0, begin - edge), min(self.count + 1, end + edge)
        stop = self.num_samples if last > self.count - edge else last * HOP
        samples = torch.from_numpy(self._samples(first * HOP, stop)).to(self.device)
        return self.embed.powers(samples[None])[0, :, begin - first : end - first]

    def _samples(self, begin: int, end: int) -> Samples:
        if self.whole is not None:
            return self.whole[begin:end]
        assert self.path is not None
        start = max(0, begin // SAMPLE_RATE_HZ - MARGIN_SECONDS)
        stop = -(-end // SAMPLE_RATE_HZ) + MARGIN_SECONDS
        read = audio.read(self.path, SAMPLE_RATE_HZ, start, stop)
        return read[begin - start * SAMPLE_RATE_HZ : end - start * SAMPLE_RATE_HZ]


def num_samples(recording: Recording) -> int:
    """Of a recording at the rate that is heard, by the headers of its files.

    Raises:
        UserError: It cannot be read.
    """
    if isinstance(recording, audio.Sound):
        return -(-len(recording.samples) * SAMPLE_RATE_HZ // recording.sample_rate_hz)
    if isinstance(recording, audio.Excerpt):
        return round((recording.end_seconds - recording.start_seconds) * SAMPLE_RATE_HZ)
    if isinstance(recording, tuple):
        return sum(num_samples(path) for path in recording)
    with audio.opened(recording) as file:
        return -(-file.frames * SAMPLE_RATE_HZ // file.samplerate)
