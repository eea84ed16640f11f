"""The rooms that know sound: samples to log-mel frames to tokens, packed, and tokens to one score a symbol.

Log-mel frames: Davis and Mermelstein 1980, by torchaudio; SpecAugment: Park et al. 2019, arXiv:1904.08779; subsampling
by convolutions: Gulati et al. 2020, arXiv:2005.08100; a decoder beside CTC: Kim et al.
2017, arXiv:1609.06773.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from zoo.core import DENSE, Layout, SinusoidalPosition, Stream, Transformer, init_linear
from zoo.core.pack import to_packed, to_padded

FLOOR = 1e-6
"""Added to the power before the logarithm: what is quieter is silence."""


class SpeechEmbed(nn.Module):
    """Recordings as tokens.

    Frames stand `hop` samples apart from the first sample on; sound beyond the ends is silence. Each band's mean over
    the recording is taken off, and all is divided by the deviation that is left. So loudness, and a microphone's
    colour, count little, and a recording gives the same tokens alone and in a batch.

    Args:
        dim: Width of a token.
        num_stacked: Frames side by side in a token; 0 where two convolutions of `conv_width` channels halve time twice.
        position: `sinusoidal` or `none`.
    """

    def __init__(
        self,
        dim: int,
        *,
        sample_rate_hz: int,
        num_mels: int,
        window: int,
        hop: int,
        num_stacked: int = 4,
        conv_width: int = 32,
        position: str = "sinusoidal",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.window, self.hop, self.num_stacked = dim, window, hop, num_stacked
        num_bins = 1 << (window - 1).bit_length()
        self.mels = MelSpectrogram(
            sample_rate_hz, n_fft=num_bins, win_length=window, hop_length=hop, n_mels=num_mels, center=False
        )
        if num_stacked:
            self.convolutions = None
            self.project = nn.Linear(num_stacked * num_mels, dim)
        else:
            self.convolutions = nn.ModuleList(
                [nn.Conv2d(1, conv_width, 3, 2, padding=1), nn.Conv2d(conv_width, conv_width, 3, 2, padding=1)]
            )
            self.project = nn.Linear(conv_width * math.ceil(num_mels / 4), dim)
        init_linear(self.project)
        self.position = SinusoidalPosition() if position == "sinusoidal" else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        samples: Float[Tensor, "b samples"],
        num_samples: Int[Tensor, " b"],
        layout: Layout,
        num_tokens: int,
        time_masks: Float[Tensor, "views masks 2"] | None = None,
        band_masks: Float[Tensor, "views masks 2"] | None = None,
        hidden: Int[Tensor, " m"] | None = None,
        **aside: Any,
    ) -> Stream:
        """
        Args:
            samples: Zero beyond a recording's `num_samples`.
            layout: Of the tokens; as many sequences as there are views of the recordings, one of each after another.
            num_tokens: Of all views together.
            time_masks: Where each masked stretch begins and ends, as shares of the recording; `band_masks` likewise.
            hidden: Places of tokens whose frames become silence, for a `HiddenHead` to tell of.
            aside: What the head is told.
        """
        frames, valid = self.frames(samples, num_samples)
        if time_masks is not None and len(time_masks) > len(frames):
            num_views = len(time_masks) // len(frames)
            frames, valid = frames.repeat(num_views, 1, 1), valid.repeat(num_views, 1)
        if time_masks is not None:
            place = torch.arange(frames.shape[1], device=frames.device) / valid.sum(1, keepdim=True)
            frames = frames.masked_fill(within(place, time_masks)[:, :, None], 0)
        if band_masks is not None:
            place = (torch.arange(frames.shape[2], device=frames.device) / frames.shape[2]).expand(len(frames), -1)
            frames = frames.masked_fill(within(place, band_masks)[:, None, :], 0)
        if hidden is not None:
            stacked = self.stacked(frames, layout, num_tokens)
            aside |= {"hidden": hidden, "frames": stacked[hidden]}
            frames = self._silenced(frames, hidden, layout, num_tokens)
        x = self._subsampled(frames, valid, layout, num_tokens)
        if self.position is not None:
            x = self.position(x, layout)
        return Stream(self.dropout(x), layout, aside)

    @torch.no_grad()
    def frames(
        self, samples: Float[Tensor, "b samples"], num_samples: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b t mels"], Bool[Tensor, "b t"]]:
        """Log-mel frames, normalised, and which of them are real; the others are zero. In fp32 always."""
        with torch.autocast(samples.device.type, enabled=False):
            before = (self.mels.n_fft - self.hop) // 2
            count = -(-samples.shape[1] // self.hop)
            after = (count - 1) * self.hop + self.mels.n_fft - samples.shape[1] - before
            power = self.mels(F.pad(samples.float(), (before, max(after, 0))))[:, :, :count]
            frames = torch.log(power + FLOOR).transpose(1, 2)
            length = -(-num_samples // self.hop)
            valid = torch.arange(count, device=frames.device) < length[:, None]
            real = valid[:, :, None]
            mean = (frames * real).sum(1, keepdim=True) / length[:, None, None]
            frames = (frames - mean) * real
            variance = frames.square().sum((1, 2), keepdim=True) / (length[:, None, None] * frames.shape[2])
            return frames / (variance + 1e-5).sqrt(), valid

    @property
    def frames_per_token(self) -> int:
        return self.num_stacked or 4

    def stacked(self, frames: Float[Tensor, "b t mels"], layout: Layout, num_tokens: int) -> Float[Tensor, "n values"]:
        """The frames that each token stands for, side by side."""
        assert layout.max_len is not None
        size = layout.max_len * self.frames_per_token
        frames = F.pad(frames, (0, 0, 0, max(0, size - frames.shape[1])))[:, :size]
        stacked = frames.unflatten(1, (layout.max_len, self.frames_per_token)).flatten(2)
        return to_packed(stacked, layout, num_tokens)

    def _silenced(
        self, frames: Float[Tensor, "b t mels"], hidden: Int[Tensor, " m"], layout: Layout, num_tokens: int
    ) -> Float[Tensor, "b t mels"]:
        marks = frames.new_zeros(num_tokens, 1)
        marks[hidden] = 1
        covered = to_padded(marks, layout).repeat_interleave(self.frames_per_token, 1)
        covered = F.pad(covered, (0, 0, 0, max(0, frames.shape[1] - covered.shape[1])))[:, : frames.shape[1]]
        return frames.masked_fill(covered.bool(), 0)

    def _subsampled(
        self, frames: Float[Tensor, "b t mels"], valid: Bool[Tensor, "b t"], layout: Layout, num_tokens: int
    ) -> Float[Tensor, "n d"]:
        if self.convolutions is None:
            return self.project(self.stacked(frames, layout, num_tokens))
        x, length = frames[:, None], valid.sum(1)
        for convolution in self.convolutions:
            x, length = F.relu(convolution(x)), -(-length // 2)
            # What lies beyond the end must be silence to the next layer, as it is for a recording alone.
            x = x * (torch.arange(x.shape[2], device=x.device) < length[:, None])[:, None, :, None]
        return self.project(to_packed(x.transpose(1, 2).flatten(2), layout, num_tokens))


def within(place: Float[Tensor, "b t"], masks: Float[Tensor, "b masks 2"]) -> Bool[Tensor, "b t"]:
    """Which places, as shares, lie between a mask's ends."""
    inside = (place[:, None] >= masks[:, :, :1]) & (place[:, None] < masks[:, :, 1:])
    return inside.any(1)


class SymbolHead(nn.Module):
    """A score for each symbol, of each token; when training perhaps also of the symbol that comes next.

    Args:
        decoder: Reads the symbols so far and the core's tokens, causally. It makes the tokens tell more; nothing is
            decoded by it.
    """

    def __init__(self, dim: int, num_symbols: int, decoder: Transformer | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.classifier = nn.Linear(dim, num_symbols)
        init_linear(self.classifier)
        self.decoder = decoder
        if decoder is not None:
            self.table = nn.Embedding(num_symbols, dim)
            nn.init.normal_(self.table.weight, std=dim**-0.5)
            self.position = SinusoidalPosition()
            self.next = nn.Linear(dim, num_symbols)
            init_linear(self.next)

    def forward(
        self,
        x: Float[Tensor, "*tokens d"],
        layout: Layout = DENSE,
        said: Int[Tensor, " m"] | None = None,
        said_layout: Layout = DENSE,
    ) -> Float[Tensor, "*tokens symbols"] | tuple[Float[Tensor, "*tokens symbols"], dict[str, Tensor]]:
        """
        Args:
            said: What was said before each symbol that is to be told, packed.
        """
        scores = self.classifier(x)
        if self.decoder is None or said is None:
            return scores
        y = self.position(self.table(said), said_layout)
        return scores, {"next": self.next(self.decoder(y, said_layout, context=x, context_layout=layout))}


class HiddenHead(nn.Module):
    """What hidden tokens are, from what the core made of the others.

    Args:
        num_values: That are told of a token: its log-mel frames, or a score for each cluster of sounds.
    """

    def __init__(self, dim: int, num_values: int) -> None:
        super().__init__()
        self.dim = dim
        self.draw = nn.Linear(dim, num_values)
        init_linear(self.draw)

    def forward(
        self,
        x: Float[Tensor, "*tokens d"],
        layout: Layout,
        hidden: Int[Tensor, " m"],
        frames: Float[Tensor, "m values"],
    ) -> tuple[Float[Tensor, "m values"], dict[str, Tensor]]:
        """What is told, and the log-mel frames as they are."""
        return self.draw(x.flatten(0, -2)[hidden]), {"frames": frames}
