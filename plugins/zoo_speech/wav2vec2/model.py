"""The other first room for sound: samples to tokens by learnt convolutions, with no spectrogram before them.

wav2vec 2.0: Baevski et al. 2020, arXiv:2006.11477; HuBERT: Hsu et al. 2021, arXiv:2106.07447; group norm: Wu and He
2018, arXiv:1803.08494; positions by convolution: Mohamed et al. 2019, arXiv:1904.11660; weight norm: Salimans and
Kingma 2016, arXiv:1602.07868.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.core import DENSE, Layout, Stream, init_linear, standardise
from zoo.core.pack import to_packed, to_padded
from zoo_speech.model import within
from zoo_speech.spec import receptive

EPS = 1e-5
"""Added to the variances in the convolutions, as published."""
SAMPLES_EPS = 1e-7
"""Likewise to that of a recording."""


class ChannelNorm(nn.Module):
    """Give each channel of each recording mean 0 and variance 1, then a learnt gain and shift: group norm with as many
    groups as channels, in which pads do not count."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "b c t"], length: Int[Tensor, " b"]) -> Float[Tensor, "b c t"]:
        with torch.autocast(x.device.type, enabled=False):
            y = x.to(torch.promote_types(x.dtype, torch.float32))
            share = _real(y.shape[2], length).to(y.dtype) / length[:, None]
            centred = y - y @ share[:, :, None]
            variance = centred.square() @ share[:, :, None]
            return (centred * ((variance + EPS).rsqrt() * self.weight[:, None]) + self.bias[:, None]).to(x.dtype)


class FrameNorm(nn.Module):
    """A layer norm over the channels of each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "b c t"], length: Int[Tensor, " b"]) -> Float[Tensor, "b c t"]:
        return F.layer_norm(x.transpose(1, 2), self.weight.shape, self.weight, self.bias, EPS).transpose(1, 2)


NORMS = {"group": ChannelNorm, "layer": FrameNorm}


class FeatureLayer(nn.Module):
    """A convolution, perhaps a norm, and GELU.

    Args:
        norm: `group`, `layer` or None.
    """

    def __init__(self, in_dim: int, dim: int, kernel: int, stride: int, *, bias: bool, norm: str | None) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv1d(in_dim, dim, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = None if norm is None else NORMS[norm](dim)

    def forward(
        self, x: Float[Tensor, "b c t"], length: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b e s"], Int[Tensor, " b"]]:
        """The frames, and how many of each recording saw no pad."""
        x, length = self.conv(x), (length - self.kernel) // self.stride + 1
        if self.norm is not None:
            x = self.norm(x, length)
        return F.gelu(x), length


class ConvPosition(nn.Module):
    """Add to each token what a convolution in groups makes of its neighbours; beyond the ends there is nothing.

    The kernel is a direction and, for each of its places, a length: weight norm over all but the last axis.

    Args:
        kernel: Tokens that it sees; of an even number one more before than after.
        groups: Of channels.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        self.direction = nn.Parameter(torch.empty(dim, dim // groups, kernel))
        nn.init.normal_(self.direction, std=(4 / (kernel * dim)) ** 0.5)
        self.length = nn.Parameter(self.direction.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE) -> Float[Tensor, "*tokens d"]:
        y, num_tokens = x, x.shape[0]
        if layout.packed:
            y = to_padded(x, layout)
        elif layout.valid is not None:
            y = x * layout.valid[..., None]
        weight = self.direction * (self.length / self.direction.norm(dim=(0, 1), keepdim=True))
        before = self.kernel // 2
        y = F.pad(y.transpose(1, 2), (before, self.kernel - 1 - before))
        y = F.gelu(F.conv1d(y, weight, self.bias, groups=self.groups)).transpose(1, 2)
        return x + (to_packed(y, layout, num_tokens) if layout.packed else y)


class WaveformEmbed(nn.Module):
    """Recordings as tokens, each as if it were alone: no pad counts in another's statistics or neighbourhood.

    A recording shorter than a token sees is silence from its end on.

    Args:
        dim: Width of a token.
        conv_dims: Channels of each convolution; `conv_kernels` and `conv_strides` likewise.
        conv_norm: `group` is of the first convolution alone, `layer` of each.
        feature_norm: Applied to what the convolutions give.
        position: Adds to each token what tells its place.
        norm: Applied to that sum.
        normalise: Give each recording mean 0 and variance 1 first.
    """

    def __init__(
        self,
        dim: int,
        *,
        conv_dims: Sequence[int],
        conv_kernels: Sequence[int],
        conv_strides: Sequence[int],
        conv_bias: bool = False,
        conv_norm: str = "group",
        feature_norm: nn.Module | None = None,
        position: nn.Module | None = None,
        norm: nn.Module | None = None,
        normalise: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.normalise = dim, normalise
        self.least = receptive(conv_kernels, conv_strides)
        sizes = zip((1, *conv_dims[:-1]), conv_dims, conv_kernels, conv_strides, strict=True)
        self.features = nn.ModuleList(
            FeatureLayer(*size, bias=conv_bias, norm=conv_norm if conv_norm == "layer" or index == 0 else None)
            for index, size in enumerate(sizes)
        )
        self.feature_norm = feature_norm or nn.Identity()
        self.project = nn.Linear(conv_dims[-1], dim)
        init_linear(self.project)
        self.position = position
        self.norm = norm or nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        samples: Float[Tensor, "b samples"],
        num_samples: Int[Tensor, " b"],
        layout: Layout,
        num_tokens: int,
        time_masks: Float[Tensor, "views masks 2"] | None = None,
        band_masks: Float[Tensor, "views masks 2"] | None = None,
        **aside: Any,
    ) -> Stream:
        """As `SpeechEmbed`. What is masked of the features is zero: their mean, where they are normalised."""
        assert layout.lengths is not None
        assert layout.max_len is not None
        if self.normalise:
            samples = standardise(samples, num_samples, SAMPLES_EPS)
        x = F.pad(samples, (0, max(0, self.least - samples.shape[1])))[:, None].to(self.project.weight.dtype)
        length = num_samples.clamp(min=self.least)
        for layer in self.features:
            x, length = layer(x, length)
        x = x.transpose(1, 2)[:, : layout.max_len]
        views = 1 if time_masks is None else len(time_masks) // len(x)
        x = self.feature_norm(to_packed(x.repeat(views, 1, 1), layout, num_tokens))
        if time_masks is not None:
            place = torch.arange(layout.max_len, device=x.device) / layout.lengths[:, None]
            x = x.masked_fill(to_packed(within(place, time_masks)[:, :, None], layout, num_tokens), 0)
        if band_masks is not None:
            place = (torch.arange(x.shape[1], device=x.device) / x.shape[1]).expand(len(band_masks), -1)
            x = x.masked_fill(within(place, band_masks)[layout.sequence_index(num_tokens)], 0)
        x = self.project(x)
        if self.position is not None:
            x = self.position(x, layout)
        return Stream(self.dropout(self.norm(x)), layout, aside)


def _real(size: int, length: Int[Tensor, " b"]) -> Bool[Tensor, "b t"]:
    return torch.arange(size, device=length.device) < length[:, None]
