"""What a recogniser's first and last room and its augmentation are made from, and what they cost. Torch-free.

Connectionist temporal classification: Graves et al. 2006; SpecAugment: Park et al. 2019, arXiv:1904.08779; subsampling
by convolutions: Gulati et al. 2020, arXiv:2005.08100; consistency: Yao et al. 2024, arXiv:2410.05101.
"""

import math
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from zoo.cost import Cost, core_cost, core_parameters, linear
from zoo.errors import UserError
from zoo.specs import CoreSpec, Fraction, RunSpec, Spec

COST_SECONDS = 10
"""Of the recording that `zoo show` counts operations for."""


class EmbedSpec(Spec):
    """The first room: a recording becomes tokens."""

    sample_rate_hz: int = Field(16000, ge=1000, le=192_000, description="recordings are resampled to it")
    num_mels: int = Field(80, ge=1, le=512, description="bands of the log-mel spectrogram")
    window_ms: float = Field(25.0, gt=0, le=1000, description="of sound behind each frame")
    hop_ms: float = Field(10.0, gt=0, le=1000, description="between frames")
    subsampling: Literal["stack", "conv"] = Field(
        "stack", description="frames side by side in a token, or two convolutions that each halve time"
    )
    num_stacked: int = Field(4, ge=1, le=32, description="frames in a token, where they are stacked")
    conv_width: int = Field(32, ge=1, le=1024, description="channels of the convolutions")
    position: Literal["sinusoidal", "none"] = Field("sinusoidal", description="how a token knows its place")
    dropout: Fraction = Field(0.0, description="of what goes into the core")

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return max(1, round(self.sample_rate_hz * self.hop_ms / 1000))

    @property
    def window(self) -> int:
        """Samples behind each frame."""
        return max(2, round(self.sample_rate_hz * self.window_ms / 1000))

    @property
    def frames_per_token(self) -> int:
        return self.num_stacked if self.subsampling == "stack" else 4

    @property
    def token_seconds(self) -> float:
        return self.hop * self.frames_per_token / self.sample_rate_hz

    def num_tokens(self, num_samples: int) -> int:
        """Of a recording; a last, partial token counts."""
        return math.ceil(math.ceil(num_samples / self.hop) / self.frames_per_token)

    @model_validator(mode="after")
    def _window_covers_hop(self) -> Self:
        if self.window_ms < self.hop_ms:
            raise ValueError(
                f"window_ms {self.window_ms} is shorter than hop_ms {self.hop_ms}: sound would be passed over"
            )
        return self


class HeadSpec(Spec):
    """The last room: each token becomes a score for each symbol and for none (CTC's blank)."""

    num_symbols: int = Field(29, ge=2, description="symbols, the blank among them; the data decides")
    symbols: Literal["characters", "bpe"] = Field("characters", description="what is written with")
    max_symbols: int = Field(256, ge=3, le=100_000, description="of bpe; characters are as many as there are")
    lowercase: bool = Field(True, description="transcriptions are written small")
    punctuation: bool = Field(False, description="keep punctuation; else but apostrophes within words are kept")
    decoder_depth: int = Field(
        0, ge=0, le=48, description="blocks of a decoder that learns beside CTC, which alone is decoded by"
    )
    decoder_weight: Fraction = Field(0.3, description="share of the loss that is the decoder's, where there is one")


class AugmentSpec(Spec):
    """What is done to training recordings; nothing by default."""

    speeds: tuple[float, ...] = Field(
        (), strict=False, description="factors of speed to draw from, such as 0.9, 1, 1.1"
    )
    num_time_masks: int = Field(0, ge=0, le=100, description="stretches of time to mask")
    time_mask_fraction: Fraction = Field(0.05, description="longest such stretch, share of the recording")
    num_band_masks: int = Field(0, ge=0, le=100, description="stretches of bands to mask")
    band_mask_fraction: Fraction = Field(0.3, description="widest such stretch, share of the bands")
    joined: Fraction = Field(0.0, description="probability that the next recording of its batch follows one, as one")
    noise_db: float | None = Field(
        None, ge=0, le=100, description="white noise this far below the recording, or farther"
    )
    consistency: float | None = Field(
        None, gt=0, description="weight of the agreement between two maskings of each recording; one only when null"
    )

    @property
    def num_views(self) -> int:
        """Maskings of each recording in a batch."""
        return 1 if self.consistency is None else 2

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.consistency is not None and not (self.num_time_masks or self.num_band_masks):
            raise ValueError("consistency is between two maskings; set num_time_masks or num_band_masks")
        return self

    @model_validator(mode="after")
    def _speeds_are_sane(self) -> Self:
        if any(not 0.25 <= each <= 4 for each in self.speeds):
            raise ValueError(f"speeds {list(self.speeds)} must lie between 0.25 and 4")
        return self


class DecodeSpec(Spec):
    """How scores become text; may be set anew for a trained model."""

    beam_width: int = Field(
        1, ge=1, le=10_000, description="beginnings that are followed; 1 is the best path, without a language model"
    )
    language_model: str = Field(
        "none", description="none, train (n-grams of its transcriptions, stored in the run) or an ARPA file"
    )
    ngram_order: int = Field(3, ge=1, le=6, description="words of an n-gram that is learnt in training")
    language_weight: float = Field(0.5, ge=0, le=100, description="of the language model's logarithms")
    word_bonus: float = Field(
        0.5, ge=-100, le=100, description="for each word, with a language model, which likes short texts"
    )
    window_seconds: float = Field(30.0, ge=1, le=86_400, description="longer recordings are heard in windows of it")
    overlap_seconds: float = Field(4.0, ge=0, description="what a window shares with the next")

    @model_validator(mode="after")
    def _file_is_searched_with(self) -> Self:
        if self.beam_width == 1 and self.language_model not in ("none", "train"):
            raise ValueError(
                f"language_model '{self.language_model}' would not count: the best path, beam_width 1, has no use for "
                "it; set decode.beam_width=32"
            )
        return self

    @model_validator(mode="after")
    def _windows_go_on(self) -> Self:
        if 2 * self.overlap_seconds > self.window_seconds:
            raise ValueError(
                f"overlap_seconds {self.overlap_seconds} is more than half of window_seconds {self.window_seconds}"
            )
        return self


class Rooms(NamedTuple):
    """What surrounds the core."""

    embed: EmbedSpec
    head: HeadSpec
    augment: AugmentSpec
    decode: DecodeSpec


def rooms(spec: RunSpec) -> Rooms:
    """The specs of what surrounds the core, once they fit it.

    Raises:
        UserError: They do not.
    """
    if spec.core.cross_attention:
        raise UserError("core.cross_attention: a recording has no second sequence to attend to; leave it off")
    embed, head = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head)
    if spec.train.label_smoothing and not head.decoder_depth:
        raise UserError(
            "train.label_smoothing: CTC sums over alignments and has no label to smooth\n"
            "leave it out, or set head.decoder_depth: the decoder has"
        )
    return Rooms(embed, head, AugmentSpec.model_validate(spec.augment), DecodeSpec.model_validate(spec.decode))


def cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a recording of `COST_SECONDS`; the spectrogram is left out."""
    (embed, head, _, _), core = rooms(spec), spec.core
    num_tokens = embed.num_tokens(COST_SECONDS * embed.sample_rate_hz)
    room = _subsampling(embed, num_tokens, core.dim) + core_cost(core, num_tokens)
    room += linear(num_tokens, core.dim, head.num_symbols)
    if head.decoder_depth:  # it runs in training only
        room += Cost(core_parameters(decoder_core(core, head)) + (2 * core.dim + 1) * head.num_symbols)
    return room


def decoder_core(core: CoreSpec, head: HeadSpec) -> CoreSpec:
    """The core's blocks, as many as asked for, that see what was said and all that the core gives."""
    own = {"depth": head.decoder_depth, "causal": True, "cross_attention": True, "conv_kernel": None}
    return core.model_copy(update={**own, "rotary_theta": None, "windows": None, "drop_path": 0.0})


def _subsampling(embed: EmbedSpec, num_tokens: int, dim: int) -> Cost:
    if embed.subsampling == "stack":
        return linear(num_tokens, embed.num_stacked * embed.num_mels, dim)
    half, quarter = math.ceil(embed.num_mels / 2), math.ceil(embed.num_mels / 4)
    first = linear(2 * num_tokens * half, 9, embed.conv_width)
    second = linear(num_tokens * quarter, 9 * embed.conv_width, embed.conv_width)
    return first + second + linear(num_tokens, quarter * embed.conv_width, dim)
