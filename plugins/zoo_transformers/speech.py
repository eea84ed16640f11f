"""Speech to text by a CTC model of transformers that reads samples: all is the other task's, `speech-to-text`, but for
the model. wav2vec 2.0: Baevski et al. 2020, arXiv:2006.11477."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.contract import Variant
from zoo.core import Layout, Model, Stream, standardise
from zoo.specs import RunSpec, network_of
from zoo_transformers.network import Given, create, rooms
from zoo_transformers.spec import SPEECH, SpeechEmbedSpec, SpeechHeadSpec, as_speech, reach, stride

EPSILON = 1e-7
"""Added to the variance, as transformers does."""


def build(spec: RunSpec) -> Model:
    """A network of transformers in our rooms, with random weights."""
    normalise = SpeechEmbedSpec.model_validate(spec.embed).normalise
    return take_apart(create_speech(spec), network_of(spec).options, normalise=normalise)


def take_apart(whole: Any, options: Mapping[str, Any], *, normalise: bool) -> Model:
    """A whole model in our rooms.

    Raises:
        AttributeError: It is made otherwise than wav2vec 2.0.
    """
    step, span = stride(options), reach(options)
    core, head = rooms(whole, Marked(step, span))
    trunk: Any = core.network
    alone = getattr(whole.config, "feat_extract_norm", "layer") == "group"
    first = Samples(trunk.feature_extractor, step, span, alone=alone, normalise=normalise)
    trunk.feature_extractor = Given()
    if isinstance(getattr(trunk, "masked_spec_embed", None), nn.Parameter):  # stands for what is masked: nothing is
        unused = trunk.masked_spec_embed.detach()
        del trunk.masked_spec_embed
        trunk.register_buffer("masked_spec_embed", unused)
    return Model(first, Hearing(core), head)


class Samples(nn.Module):
    """The first room: the network's convolutions over samples.

    A recording is followed by as much silence as its last token needs to be whole, so that it has a token for each
    `step` samples, the last, partial one included.

    Args:
        step: Samples from one token to the next.
        span: Samples that a token is made of.
        alone: Recordings are read one by one, since the convolutions normalise over time, pads included.
        normalise: Each recording to mean 0 and deviation 1.
    """

    def __init__(self, network: nn.Module, step: int, span: int, *, alone: bool, normalise: bool) -> None:
        super().__init__()
        self.network = network
        self.step, self.span, self.alone, self.normalise = step, span, alone, normalise

    def forward(
        self, samples: Float[Tensor, "b samples"], num_samples: Int[Tensor, " b"], layout: Layout, num_tokens: int
    ) -> Stream:
        assert layout.max_len is not None
        assert layout.lengths is not None
        if self.normalise:
            samples = standardise(samples, num_samples, EPSILON)
        longest = self.step * (layout.max_len - 1) + self.span
        samples = nn.functional.pad(samples, (0, max(0, longest - samples.shape[1])))[:, :longest]
        if self.alone:
            lengths = (self.step * (layout.lengths - 1) + self.span).tolist()
            rows = [self.network(row[None, :length])[0] for row, length in zip(samples, lengths, strict=True)]
            features = nn.utils.rnn.pad_sequence([row.T for row in rows], batch_first=True).transpose(1, 2)
        else:
            features = self.network(samples)
        return Stream(features, layout, {"raw": samples, "num_tokens": num_tokens})


class Marked:
    """What a network reads of features: how many samples each recording has stands in a mask.

    Args:
        step, span: As in `Samples`.
    """

    def __init__(self, step: int, span: int) -> None:
        self.step, self.span = step, span

    def __call__(self, x: Tensor, layout: Layout) -> dict[str, Tensor]:
        assert layout.max_len is not None
        assert layout.lengths is not None
        place = torch.arange(self.step * (layout.max_len - 1) + self.span, device=x.device)
        valid = place < (self.step * (layout.lengths - 1) + self.span)[:, None]
        return {"input_values": x, "attention_mask": valid.long()}


class Hearing(nn.Module):
    """The core: a trunk whose convolutions stand in the first room.

    Args:
        trunk: With a `Given` in their place.
    """

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Float[Tensor, "b c t"], layout: Layout) -> Any:
        given = self.trunk.network.feature_extractor
        given.value = x
        try:
            return self.trunk(x, layout)
        finally:
            given.value = None


def create_speech(spec: RunSpec) -> Any:
    """transformers' own model, whole."""
    core, head = network_of(spec), SpeechHeadSpec.model_validate(spec.head)
    return create(
        SPEECH, core.architecture, core.options, head.num_symbols, vocab_size=head.num_symbols, pad_token_id=0
    )


RECOGNITION = Variant(as_speech, build)
