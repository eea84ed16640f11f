"""The rooms of a model that writes token by token: samples to log-mel frames to tokens, and a decoder that hears them.

Whisper: Radford et al. 2022, arXiv:2212.04356, section 2.2.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.core import BlockCache, Layout, LearnedPosition, Stream, Transformer
from zoo.core.pack import to_packed
from zoo_speech.seq2seq.spec import BINS, FRAMES_PER_TOKEN, HOP, SAMPLE_RATE_HZ

QUIETEST = 1e-10
"""Power below which all is silence."""
RANGE = 8.0
"""Powers of ten below a recording's loudest that are told apart."""


class LogMelEmbed(nn.Module):
    """Recordings as tokens of 0.02 s: log-mel frames, two convolutions of which the second halves time, and places.

    Args:
        dim: Width of a token; even.
        max_tokens: Places, and so the longest recording.
        padded: Silence follows each recording up to the longest; else each is as long as it is.
    """

    position: Tensor
    hann: Tensor
    filters: Tensor

    def __init__(self, dim: int, *, num_mels: int, max_tokens: int, padded: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.max_tokens, self.padded = dim, max_tokens, padded
        self.conv1 = nn.Conv1d(num_mels, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=FRAMES_PER_TOKEN, padding=1)
        # Fixed, but published with the weights, and perhaps trained by somebody: kept as they have it.
        self.register_buffer("position", table_of_places(max_tokens, dim))
        self.register_buffer("hann", torch.hann_window(BINS), persistent=False)
        self.register_buffer("filters", slaney_bands(num_mels), persistent=False)
        self.dropout = nn.Dropout(dropout)

    def resize(self, name: str, tensor: Tensor) -> Tensor:
        """Of places for longer recordings, as many as there are here."""
        return tensor[: self.max_tokens] if name == "position" else tensor

    def forward(
        self,
        samples: Float[Tensor, "b samples"],
        num_samples: Int[Tensor, " b"],
        layout: Layout,
        num_tokens: int,
        **aside: object,
    ) -> Stream:
        """
        Args:
            samples: Zero beyond a recording's `num_samples`.
            layout: Of the tokens.
            num_tokens: Of all recordings together.
            aside: What the head is told.
        """
        frames, num_frames = self.frames(samples, num_samples)
        return Stream(self.tokens(frames, num_frames, layout, num_tokens), layout, aside)

    def tokens(
        self, frames: Float[Tensor, "b mels t"], num_frames: Int[Tensor, " b"], layout: Layout, num_tokens: int
    ) -> Float[Tensor, "n d"]:
        """What the core reads of frames.

        Args:
            num_frames: Of each recording; beyond them there is nothing.
        """
        x = F.gelu(self.conv1(frames.to(self.conv1.weight.dtype)))
        if not self.padded:  # what lies beyond the end must be nothing to the next layer, as for a recording alone
            x = x * (torch.arange(x.shape[2], device=x.device) < num_frames[:, None])[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = self.dropout(x + self.position[: x.shape[1]])
        return to_packed(x, layout, num_tokens)

    @torch.no_grad()
    def frames(
        self, samples: Float[Tensor, "b samples"], num_samples: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b mels t"], Int[Tensor, " b"]]:
        """Log-mel frames of recordings no longer than the window, as the convolutions read them, and how many each has.
        Beyond these they are zero."""
        if self.padded:
            count = self.max_tokens * FRAMES_PER_TOKEN
            num_frames = torch.full_like(num_samples, count)
            size = count * HOP
        else:
            count = -(-samples.shape[1] // HOP)
            num_frames = -(-num_samples // HOP)
            size = count * HOP + BINS  # so that what is mirrored at the end is silence
        powers = self.powers(F.pad(samples, (0, size - samples.shape[1])))[..., :count]
        real = (torch.arange(count, device=powers.device) < num_frames[:, None])[:, None]
        top = powers.masked_fill(~real, -torch.inf).amax((1, 2), keepdim=True)
        return self.levelled(powers, top) * real, num_frames

    @torch.no_grad()
    def powers(self, samples: Float[Tensor, "b samples"]) -> Float[Tensor, "b mels t"]:
        """The power of each band, as a power of ten; frames have their middles `HOP` samples apart from the first on,
        and beyond both ends the recording is mirrored. In fp32 always."""
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = torch.stft(samples.float(), BINS, HOP, window=self.hann.float(), return_complex=True)
            power = self.filters.float() @ spectrum.abs().square()
            return power.clamp(min=QUIETEST).log10()

    @staticmethod
    def levelled(powers: Float[Tensor, "b mels t"], top: Tensor) -> Float[Tensor, "b mels t"]:
        """Frames, from the powers and the loudest of the whole recording."""
        return (torch.maximum(powers, top - RANGE) + 4) / 4


def slaney_bands(count: int) -> Float[Tensor, "mels bins"]:
    """What each band hears of each frequency: triangles of equal area, between neighbours on Slaney's scale of pitch,
    which is linear below 1000 Hz and logarithmic above, 27 steps for a factor of 6.4. As in his Auditory Toolbox, 1998.
    """
    knee, step = 1000.0, np.log(6.4) / 27
    highest = knee / (200 / 3) + np.log(SAMPLE_RATE_HZ / 2 / knee) / step
    pitch = np.linspace(0, highest, count + 2)
    edges = np.where(pitch < 15, pitch * 200 / 3, knee * np.exp(step * (pitch - 15)))
    below, middle, above = (edges[i : i + count, None] for i in range(3))
    frequency = np.linspace(0, SAMPLE_RATE_HZ / 2, BINS // 2 + 1)
    rising, falling = (frequency - below) / (middle - below), (above - frequency) / (above - middle)
    bands = np.maximum(0, np.minimum(rising, falling)) * 2 / (above - below)
    return torch.from_numpy(bands.astype(np.float32))


def table_of_places(count: int, dim: int) -> Float[Tensor, "t d"]:
    """First the sines of all wavelengths, then the cosines; these grow from 2π to 20000π, the last one included."""
    half = dim // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
    angles = torch.arange(count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class Writer(nn.Module):
    """Scores of the token that comes next, after those that were said, of what was heard.

    Args:
        decoder: Causal, with cross-attention to the core's tokens.
        max_tokens: Places of what is said.
        dropout: Of what goes into the decoder.
    """

    def __init__(
        self, dim: int, vocab_size: int, decoder: Transformer, *, max_tokens: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dim = dim
        self.table = nn.Embedding(vocab_size, dim)
        nn.init.normal_(self.table.weight, std=0.02)
        self.position = LearnedPosition(max_tokens, dim)
        self.decoder = decoder
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*tokens d"],
        layout: Layout,
        said: Int[Tensor, " m"],
        said_layout: Layout,
    ) -> Float[Tensor, "m vocab"]:
        """
        Args:
            said: The tokens before each that is to be told, packed.
        """
        y = self.dropout(self.position(self.table(said), said_layout))
        return self._scores(self.decoder(y, said_layout, context=x, context_layout=layout))

    def next(
        self,
        said: Int[Tensor, "b t"],
        cache: list[BlockCache],
        x: Float[Tensor, "*tokens d"] | None = None,
        layout: Layout | None = None,
    ) -> Float[Tensor, "b vocab"]:
        """Scores of what follows these tokens, which follow those that the cache has seen; in fp32.

        Args:
            x: What was heard; None once the cache holds it.
        """
        y = self.position(self.table(said), offset=cache[0].attention.length)
        y = self.decoder(y, context=x, context_layout=layout, cache=cache)
        return self._scores(y[:, -1]).float()

    def _scores(self, y: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens vocab"]:
        return F.linear(y, self.table.weight)
