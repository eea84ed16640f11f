"""What the rooms of a model that writes token by token are made from, and what they cost. Torch-free.

Whisper: Radford et al. 2022, arXiv:2212.04356.
"""

import math
from typing import Literal, NamedTuple

from pydantic import Field

from zoo.cost import Cost, core_cost, linear
from zoo.errors import UserError
from zoo.specs import CoreSpec, Fraction, RunSpec, Spec
from zoo_speech.spec import AugmentSpec, HeadSpec, Speed

SAMPLE_RATE_HZ = 16_000
BINS = 400
"""Samples behind each frame, and points of its Fourier transform."""
HOP = 160
"""Samples between frames."""
FRAMES_PER_TOKEN = 2
TOKEN_SECONDS = HOP * FRAMES_PER_TOKEN / SAMPLE_RATE_HZ
COST_SECONDS = 10
"""Of the recording that `zoo show` counts operations for, where it is not padded to the whole window."""
COST_TOKENS = 100
"""Tokens that are said in it."""


class LogMelSpec(Spec):
    """The first room: log-mel frames at 16 kHz, two convolutions, and places by a fixed table."""

    num_mels: int = Field(80, ge=1, le=512, description="bands of the log-mel spectrogram")
    max_tokens: int = Field(
        1500, ge=1, le=100_000, description="places of the table, 0.02 s each: the window that is heard at once"
    )
    padded: bool = Field(True, description="silence follows each recording up to the whole window, as was published")
    dropout: Fraction = Field(0.0, description="of what goes into the core")

    @property
    def max_frames(self) -> int:
        return self.max_tokens * FRAMES_PER_TOKEN

    @property
    def max_samples(self) -> int:
        """Of the window."""
        return self.max_frames * HOP

    @property
    def window_seconds(self) -> float:
        return self.max_samples / SAMPLE_RATE_HZ

    def num_tokens(self, num_samples: int) -> int:
        """Of a recording no longer than the window; a last, partial token counts."""
        if self.padded:
            return self.max_tokens
        return max(1, math.ceil(math.ceil(num_samples / HOP) / FRAMES_PER_TOKEN))


class WriterSpec(Spec):
    """The last room: a decoder that reads what it has written and attends to the core's tokens; it scores the next
    token by the table that it reads by."""

    vocab_size: int = Field(1024, ge=2, le=1_000_000, description="rows of the table; the tokenizer decides")
    max_tokens: int = Field(448, ge=4, le=100_000, description="tokens that can be written, the prompt among them")
    depth: int | None = Field(None, ge=1, le=100, description="blocks of the decoder; as many as the core's when null")
    num_heads: int | None = Field(None, ge=1, description="its heads; as many as the core's when null")
    mlp_dim: int | None = Field(None, ge=1, description="hidden width of its MLP; the core's when null")
    dropout: Fraction = Field(0.0, description="of what goes into the decoder")
    max_pieces: int = Field(
        1024, ge=257, le=100_000, description="tokens of a tokenizer that is learnt, where no weights bring one"
    )
    lowercase: bool = Field(False, description="transcriptions are learnt in small letters")
    punctuation: bool = Field(True, description="punctuation is learnt too; else but apostrophes within words")

    @property
    def rule(self) -> HeadSpec:
        """How transcriptions are written that it learns from."""
        return HeadSpec.model_validate({"lowercase": self.lowercase, "punctuation": self.punctuation})


class AlteringSpec(Spec):
    """What is done to training recordings; nothing by default."""

    speeds: tuple[Speed, ...] = Field(
        (), strict=False, description="factors of speed to draw from, such as 0.9, 1, 1.1"
    )
    noise_db: float | None = Field(
        None, ge=0, le=100, description="white noise this far below the recording, or farther"
    )

    @property
    def altering(self) -> AugmentSpec:
        return AugmentSpec.model_validate({"speeds": self.speeds, "noise_db": self.noise_db})


class WritingSpec(Spec):
    """How text is made; may be set anew for a trained model."""

    language: str | None = Field(
        None,
        min_length=1,
        description="what is spoken, such as en, where the weights know several; found by the model when null",
    )
    task: Literal["transcribe", "translate"] = Field(
        "transcribe", description="write in the language that is spoken, or in English; where the weights know both"
    )
    timestamps: bool = Field(
        False, description="say when each segment is said, by the model; longer recordings than a window always do"
    )
    max_new_tokens: int | None = Field(
        None, ge=1, description="tokens written of a window, at most; as many as there are places when null"
    )
    lowercase: bool = Field(True, description="letters count as small ones in the error rates")
    punctuation: bool = Field(False, description="punctuation counts in the error rates")

    @property
    def rule(self) -> HeadSpec:
        """How texts are compared."""
        return HeadSpec.model_validate({"lowercase": self.lowercase, "punctuation": self.punctuation})


class Rooms(NamedTuple):
    """What surrounds the core."""

    embed: LogMelSpec
    head: WriterSpec
    augment: AlteringSpec
    decode: WritingSpec


def rooms(spec: RunSpec) -> Rooms:
    """The specs of what surrounds the core, once they fit it.

    Raises:
        UserError: They do not.
    """
    if spec.core.cross_attention or spec.core.causal:
        raise UserError(
            "core.cross_attention and core.causal are the decoder's, which has both by itself; leave them off"
        )
    if spec.core.dim % 2 or spec.core.dim < 4:
        raise UserError(f"core.dim {spec.core.dim}: places are pairs of sine and cosine\nset an even number, 4 or more")
    embed, head = LogMelSpec.model_validate(spec.embed), WriterSpec.model_validate(spec.head)
    decoder_core(spec.core, head)
    return Rooms(embed, head, AlteringSpec.model_validate(spec.augment), WritingSpec.model_validate(spec.decode))


def decoder_core(core: CoreSpec, head: WriterSpec) -> CoreSpec:
    """The core's blocks that see no later token and attend to what the core gives.

    Raises:
        UserError: Its heads do not divide the width.
    """
    own = core.model_copy(
        update={
            "depth": head.depth or core.depth,
            "num_heads": head.num_heads or core.num_heads,
            "num_kv_heads": core.num_kv_heads if head.num_heads is None else None,
            "mlp_dim": head.mlp_dim or core.mlp_dim,
            "causal": True,
            "cross_attention": True,
            "conv_kernel": None,
            "rotary_theta": None,
            "windows": None,
            "drop_path": 0.0,
        }
    )
    if own.head_dim is None and own.dim % own.num_heads:
        raise UserError(f"head.num_heads {own.num_heads} does not divide core.dim {own.dim}; change one")
    return own


def cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a window in which `COST_TOKENS` are said; the spectrogram is left out. The table of
    places is fixed, and no parameter."""
    (embed, head, _, _), core = rooms(spec), spec.core
    num_tokens = embed.num_tokens(min(COST_SECONDS * SAMPLE_RATE_HZ, embed.max_samples))
    num_said = min(COST_TOKENS, head.max_tokens)
    room = linear(FRAMES_PER_TOKEN * num_tokens, 3 * embed.num_mels, core.dim)
    room += linear(num_tokens, 3 * core.dim, core.dim) + core_cost(core, num_tokens)
    room += core_cost(decoder_core(core, head), num_said, num_tokens)
    return room + linear(num_said, core.dim, head.vocab_size, bias=False) + Cost(head.max_tokens * core.dim)
