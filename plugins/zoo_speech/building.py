"""From a spec to the arguments of this plugin's rooms, and from recordings to a batch, where tasks share them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zoo.core import Layout, SinusoidalPosition, make_norm
from zoo.specs import CoreSpec, RunSpec
from zoo_speech.audio import Samples
from zoo_speech.model import SpeechEmbed
from zoo_speech.spec import EmbedSpec
from zoo_speech.wav2vec2.model import ConvPosition, WaveformEmbed


def build_embed(spec: RunSpec, embed: EmbedSpec) -> SpeechEmbed | WaveformEmbed:
    if embed.front == "waveform":
        return _build_waveform(spec.core, embed)
    return SpeechEmbed(
        spec.core.dim,
        sample_rate_hz=embed.sample_rate_hz,
        num_mels=embed.num_mels,
        window=embed.window,
        hop=embed.hop,
        num_stacked=embed.num_stacked if embed.subsampling == "stack" else 0,
        conv_width=embed.conv_width,
        position=embed.position,
        dropout=embed.dropout,
    )


def _build_waveform(core: CoreSpec, embed: EmbedSpec) -> WaveformEmbed:
    def norm(dim: int) -> nn.Module:
        return make_norm(core.norm, dim, core.norm_eps, bias="norm" in core.bias)

    position = {
        "sinusoidal": SinusoidalPosition,
        "conv": lambda: ConvPosition(core.dim, embed.position_kernel, embed.position_groups),
        "none": lambda: None,
    }[embed.position]()
    return WaveformEmbed(
        core.dim,
        conv_dims=embed.conv_dims,
        conv_kernels=embed.conv_kernels,
        conv_strides=embed.conv_strides,
        conv_bias=embed.conv_bias,
        conv_norm=embed.conv_norm,
        feature_norm=norm(embed.conv_dims[-1]) if embed.feature_norm else None,
        position=position,
        norm=norm(core.dim) if embed.norm else None,
        normalise=embed.normalise,
        dropout=embed.dropout,
    )


def as_inputs(recordings: Sequence[Samples], embed: EmbedSpec, *, views: int = 1) -> dict[str, Any]:
    """What the embed reads of recordings of any length.

    Args:
        views: Of each recording, one of each after another.
    """
    counts = [len(samples) for samples in recordings]
    padded = torch.zeros(len(counts), max(counts))
    for row, samples in zip(padded, recordings, strict=True):
        row[: len(samples)] = torch.from_numpy(samples)
    lengths = [embed.num_tokens(count) for count in counts] * views
    return {
        "samples": padded,
        "num_samples": torch.tensor(counts),
        "layout": Layout.from_lengths(lengths),
        "num_tokens": sum(lengths),
    }
