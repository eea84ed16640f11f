"""Clusters of sounds: what stands for the phones of recordings that nobody transcribed.

After the first targets of Hsu et al. 2021 (HuBERT), arXiv:2106.07447: k-means of mel-frequency cepstra (Davis and
Mermelstein 1980) and of their deltas, here a token's, by scikit-learn.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torchaudio.functional import create_dct

from zoo.contract import Batch, Dataset, Measures, Record
from zoo.core import Output
from zoo.errors import UserError
from zoo.metrics import likelihood
from zoo_speech import audio
from zoo_speech.building import as_inputs
from zoo_speech.model import SpeechEmbed
from zoo_speech.spec import EmbedSpec

NUM_CEPSTRA = 13
MOST_TOKENS = 200_000
"""From which clusters are learnt, of recordings drawn from all: k-means gains nothing from more."""
K_MEANS: Mapping[str, Any] = {"batch_size": 10_000, "n_init": 5, "max_iter": 200, "random_state": 0}


class Clusters:
    """What is to be told of a hidden token: the cluster whose centre is nearest to its sound.

    Args:
        centres: Of each cluster, (clusters, features).
        scale: Deviation of each feature, by which it is divided.
    """

    def __init__(self, embed: EmbedSpec, centres: Sequence[Sequence[float]], scale: Sequence[float]) -> None:
        self.cepstra, self.centres, self.scale = Cepstra(embed), torch.tensor(centres), torch.tensor(scale)

    @torch.no_grad()
    def nearest(self, frames: Float[Tensor, "m values"]) -> Int[Tensor, " m"]:
        """In fp32 always, as they were learnt.

        Args:
            frames: Each token's normalised log-mel frames, side by side.
        """
        with torch.autocast(frames.device.type, enabled=False):
            features = self.cepstra(frames) / self.scale.to(frames.device)
            return torch.cdist(features, self.centres.to(frames.device)).argmin(1)

    def loss(self, output: Output) -> tuple[Tensor, int]:
        """Cross-entropy of the hidden tokens."""
        wanted = self.nearest(output.further["frames"])
        return F.cross_entropy(output.logits, wanted, reduction="sum"), len(wanted)

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        wanted = self.nearest(output.further["frames"])
        likelihoods = -F.cross_entropy(output.logits.detach(), wanted, reduction="none")
        counts = [facts["count"] for facts in batch.columns]
        parts = [each.cpu().split(counts) for each in (output.logits.argmax(1), wanted, likelihoods)]
        return [
            Record(item, told.tolist(), target.tolist(), columns={"log_likelihood": float(likely.sum())})
            for item, told, target, likely in zip(batch.ids, *parts, strict=True)
        ]

    def measure(self, records: Sequence[Record]) -> Measures:
        return likelihood(records)

    def describe(self, record: Record) -> Mapping[str, Any]:
        return {"perplexity": math.exp(-record.columns["log_likelihood"] / len(record.target))}


class Cepstra:
    """Of a token's frames the mean cepstrum and its slope over time."""

    def __init__(self, embed: EmbedSpec) -> None:
        self.num_frames = embed.frames_per_token
        self.transform = create_dct(min(NUM_CEPSTRA, embed.num_mels), embed.num_mels, norm="ortho")

    def __call__(self, frames: Float[Tensor, "m values"]) -> Float[Tensor, "m features"]:
        cepstra = frames.float().unflatten(1, (self.num_frames, -1)) @ self.transform.to(frames.device)
        time = torch.arange(self.num_frames, device=frames.device) - (self.num_frames - 1) / 2
        slope = (time[:, None] * cepstra).sum(1) / time.square().sum().clamp(min=1)
        return torch.cat([cepstra.mean(1), slope], 1)


def learn(recordings: Dataset, first: SpeechEmbed, embed: EmbedSpec, num_clusters: int) -> Mapping[str, Any]:
    """The arguments of `Clusters`, from training recordings, as JSON values; those that cannot be read are left out.

    Args:
        first: The room that hears them.

    Raises:
        UserError: The recordings are too short for so many clusters.
    """
    cepstra = Cepstra(embed)
    features: list[Tensor] = []
    num_tokens = 0
    for frames in _frames(recordings, first, embed):
        features.append(cepstra(frames))
        num_tokens += len(frames)
        if num_tokens >= MOST_TOKENS:
            break
    if num_tokens < 2 * num_clusters:
        raise UserError(
            f"head.num_clusters: {num_clusters} clusters of sounds cannot be learnt from {num_tokens} tokens of sound\n"
            "lower head.num_clusters, or add recordings"
        )
    together = torch.cat(features)
    scale = together.std(0).clamp(min=1e-6)
    means: Any = MiniBatchKMeans(num_clusters, **K_MEANS).fit((together / scale).numpy())
    return {"centres": means.cluster_centers_.tolist(), "scale": scale.tolist()}


def _frames(recordings: Dataset, first: SpeechEmbed, embed: EmbedSpec) -> Iterator[Float[Tensor, "m values"]]:
    """The frames of each recording's tokens, recordings in an order that is drawn once."""
    for index in np.random.default_rng(0).permutation(len(recordings)).tolist():
        try:
            samples = audio.load(recordings[index].inputs, embed.sample_rate_hz)
        except UserError:  # the training stops at it or skips it, as data.on_error says
            continue
        inputs = as_inputs([samples], embed)
        frames, _ = first.frames(inputs["samples"], inputs["num_samples"])
        yield first.stacked(frames, inputs["layout"], inputs["num_tokens"])
