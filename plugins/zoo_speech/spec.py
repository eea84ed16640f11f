"""What a recogniser's first and last room and its augmentation are made from, and what they cost. Torch-free.

Connectionist temporal classification: Graves et al. 2006; SpecAugment: Park et al. 2019, arXiv:1904.08779; subsampling
by convolutions: Gulati et al. 2020, arXiv:2005.08100; consistency: Yao et al. 2024, arXiv:2410.05101; the waveform's
knobs: Baevski et al. 2020 (wav2vec 2.0), arXiv:2006.11477.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from zoo.cost import Cost, core_cost, core_parameters, linear, norm
from zoo.errors import UserError
from zoo.specs import CoreSpec, Fraction, RunSpec, Spec

Speed = Annotated[float, Field(ge=0.25, le=4)]
Size = Annotated[int, Field(ge=1, le=65_536)]
COST_SECONDS = 10
"""Of the recording that `zoo show` counts operations for."""


class EmbedSpec(Spec):
    """The first room: a recording becomes tokens, by a log-mel spectrogram or by convolutions over its samples."""

    front: Literal["log_mel", "waveform"] = Field("log_mel", description="what is heard: a spectrogram, or samples")
    sample_rate_hz: int = Field(16000, ge=1000, le=192_000, description="recordings are resampled to it")
    num_mels: int = Field(80, ge=1, le=512, description="bands of the log-mel spectrogram")
    window_ms: float = Field(25.0, gt=0, le=1000, description="of sound behind each frame")
    hop_ms: float = Field(10.0, gt=0, le=1000, description="between frames")
    subsampling: Literal["stack", "conv"] = Field(
        "stack", description="frames side by side in a token, or two convolutions that each halve time"
    )
    num_stacked: int = Field(4, ge=1, le=32, description="frames in a token, where they are stacked")
    conv_width: int = Field(32, ge=1, le=1024, description="channels of the convolutions")
    conv_dims: tuple[Size, ...] = Field(
        (512,) * 7, strict=False, min_length=1, description="channels of each convolution over the waveform"
    )
    conv_kernels: tuple[Size, ...] = Field(
        (10, 3, 3, 3, 3, 2, 2), strict=False, min_length=1, description="samples, or frames, that each of them sees"
    )
    conv_strides: tuple[Size, ...] = Field(
        (5, 2, 2, 2, 2, 2, 2), strict=False, min_length=1, description="between those that each of them gives"
    )
    conv_bias: bool = Field(False, description="the convolutions over the waveform have a bias")
    conv_norm: Literal["group", "layer"] = Field(
        "group", description="of the first one's channels over the recording, or of each one's frames"
    )
    feature_norm: bool = Field(True, description="normalise what the convolutions over the waveform give")
    normalise: bool = Field(True, description="give each waveform mean 0 and variance 1")
    position: Literal["sinusoidal", "conv", "none"] = Field(
        "sinusoidal", description="how a token knows its place; conv, over its neighbours, is for waveforms"
    )
    position_kernel: int = Field(128, ge=1, le=4096, description="tokens that the convolution of positions sees")
    position_groups: int = Field(16, ge=1, le=4096, description="of channels in it, each by itself")
    norm: bool = Field(False, description="normalise what goes into the core; for waveforms")
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
    def samples_per_token(self) -> int:
        """Between the beginnings of tokens."""
        return math.prod(self.conv_strides) if self.front == "waveform" else self.hop * self.frames_per_token

    @property
    def samples_beyond(self) -> int:
        """What a token sees of the waveform beyond the beginning of the next."""
        if self.front == "log_mel":
            return 0
        return receptive(self.conv_kernels, self.conv_strides) - self.samples_per_token

    @property
    def token_seconds(self) -> float:
        return self.samples_per_token / self.sample_rate_hz

    def num_tokens(self, num_samples: int) -> int:
        """Of a recording. Of log-mel frames a last, partial token counts; of a waveform it does not, but one there is
        always."""
        if self.front == "waveform":
            return max(1, (num_samples - self.samples_beyond) // self.samples_per_token)
        return math.ceil(math.ceil(num_samples / self.hop) / self.frames_per_token)

    @model_validator(mode="after")
    def _convolutions_are_as_many(self) -> Self:
        if len({len(self.conv_dims), len(self.conv_kernels), len(self.conv_strides)}) > 1:
            raise ValueError(
                f"conv_dims, conv_kernels and conv_strides say {len(self.conv_dims)}, {len(self.conv_kernels)} and "
                f"{len(self.conv_strides)} convolutions; write one value each for every convolution"
            )
        if self.front == "waveform" and self.samples_beyond < 0:
            raise ValueError("conv_strides are wider than conv_kernels: sound would be passed over")
        if self.front == "log_mel" and (self.position == "conv" or self.norm):
            raise ValueError("position conv and norm are for waveforms; set front to waveform, or leave them out")
        return self

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
    symbols: Literal["characters", "bpe", "published"] = Field(
        "characters", description="what is written with: learnt from the data, or what published weights write with"
    )
    max_symbols: int = Field(256, ge=3, le=100_000, description="of bpe; characters are as many as there are")
    lowercase: bool = Field(True, description="transcriptions are written small")
    uppercase: bool = Field(False, description="transcriptions are written large, where not small")
    punctuation: bool = Field(False, description="keep punctuation; else but apostrophes within words are kept")
    decoder_depth: int = Field(
        0, ge=0, le=48, description="blocks of a decoder that learns beside CTC, which alone is decoded by"
    )
    decoder_weight: Fraction = Field(0.3, description="share of the loss that is the decoder's, where there is one")

    @model_validator(mode="after")
    def _one_case(self) -> Self:
        if self.lowercase and self.uppercase:
            raise ValueError("lowercase and uppercase contradict each other; set lowercase=false with uppercase=true")
        return self


class AugmentSpec(Spec):
    """What is done to training recordings; nothing by default."""

    speeds: tuple[Speed, ...] = Field(
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


class MaskedHeadSpec(Spec):
    """The last room of masked frames: a linear layer."""

    target: Literal["frames", "clusters"] = Field(
        "frames", description="what it tells of a hidden token: its frames, or which cluster of sounds it is of"
    )
    num_clusters: int = Field(100, ge=2, le=10_000, description="of sounds, where they are the target")


class MaskingSpec(Spec):
    """Which stretches of a recording are hidden, after what is done to it."""

    share: Fraction = Field(0.4, gt=0, description="of the tokens; at least one is hidden and one heard")
    stretch: int = Field(8, ge=1, description="tokens of a hidden stretch, at most")
    speeds: tuple[Speed, ...] = Field((), strict=False, description="as in speech to text")
    noise_db: float | None = Field(None, ge=0, le=100, description="as in speech to text")

    @property
    def altering(self) -> AugmentSpec:
        return AugmentSpec.model_validate({"speeds": self.speeds, "noise_db": self.noise_db})


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


def receptive(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one frame of convolutions, one after another, sees."""
    seen = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        seen = (seen - 1) * stride + kernel
    return seen


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
    if embed.position == "conv" and spec.core.dim % embed.position_groups:
        raise UserError(
            f"embed.position_groups: core.dim {spec.core.dim} does not divide by {embed.position_groups}\nchange one"
        )
    if spec.train.label_smoothing and not head.decoder_depth:
        raise UserError(
            "train.label_smoothing: CTC sums over alignments and has no label to smooth\n"
            "leave it out, or set head.decoder_depth: the decoder has"
        )
    return Rooms(embed, head, AugmentSpec.model_validate(spec.augment), DecodeSpec.model_validate(spec.decode))


def masked_rooms(spec: RunSpec) -> tuple[EmbedSpec, MaskedHeadSpec, MaskingSpec]:
    """The specs of what surrounds the core where frames are masked, once they fit it.

    Raises:
        UserError: They do not.
    """
    if spec.core.cross_attention or spec.core.causal:
        raise UserError("core.cross_attention and core.causal are not for masked frames; leave them off")
    if spec.train.label_smoothing:
        raise UserError("train.label_smoothing: there are no labels here; leave it out")
    if spec.train.distill is not None:
        raise UserError("train.distill compares scores of classes, of which there are none here; leave it out")
    embed = EmbedSpec.model_validate(spec.embed)
    if embed.front == "waveform":
        raise UserError(
            "embed.front: masked frames are log-mel frames, which a model of waveforms has not\n"
            "name a model that has, such as stt-base"
        )
    return embed, MaskedHeadSpec.model_validate(spec.head), MaskingSpec.model_validate(spec.augment)


def told_values(embed: EmbedSpec, head: MaskedHeadSpec) -> int:
    """What the head says of a hidden token."""
    return head.num_clusters if head.target == "clusters" else embed.num_mels * embed.frames_per_token


def masked_cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a recording of `COST_SECONDS`; the spectrogram is left out."""
    (embed, head, masking), core = masked_rooms(spec), spec.core
    num_tokens = embed.num_tokens(COST_SECONDS * embed.sample_rate_hz)
    room = _subsampling(embed, num_tokens, core) + core_cost(core, num_tokens)
    return room + linear(round(masking.share * num_tokens), core.dim, told_values(embed, head))


def cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a recording of `COST_SECONDS`; the spectrogram is left out."""
    (embed, head, _, _), core = rooms(spec), spec.core
    num_tokens = embed.num_tokens(COST_SECONDS * embed.sample_rate_hz)
    front = _convolutions if embed.front == "waveform" else _subsampling
    room = front(embed, num_tokens, core) + core_cost(core, num_tokens)
    room += linear(num_tokens, core.dim, head.num_symbols)
    if head.decoder_depth:  # it runs in training only
        room += Cost(core_parameters(decoder_core(core, head)) + (2 * core.dim + 1) * head.num_symbols)
    return room


def decoder_core(core: CoreSpec, head: HeadSpec) -> CoreSpec:
    """The core's blocks, as many as asked for, that see what was said and all that the core gives."""
    own = {"depth": head.decoder_depth, "causal": True, "cross_attention": True, "conv_kernel": None}
    return core.model_copy(update={**own, "rotary_theta": None, "windows": None, "drop_path": 0.0})


def _subsampling(embed: EmbedSpec, num_tokens: int, core: CoreSpec) -> Cost:
    if embed.subsampling == "stack":
        return linear(num_tokens, embed.num_stacked * embed.num_mels, core.dim)
    half, quarter = math.ceil(embed.num_mels / 2), math.ceil(embed.num_mels / 4)
    first = linear(2 * num_tokens * half, 9, embed.conv_width)
    second = linear(num_tokens * quarter, 9 * embed.conv_width, embed.conv_width)
    return first + second + linear(num_tokens, quarter * embed.conv_width, core.dim)


def _convolutions(embed: EmbedSpec, num_tokens: int, core: CoreSpec) -> Cost:
    """Of the waveform. Each convolution keeps its input, what its norm reads, and what GELU does."""
    t, width, room = max(COST_SECONDS * embed.sample_rate_hz, embed.samples_per_token + embed.samples_beyond), 1, Cost()
    sizes = zip(embed.conv_dims, embed.conv_kernels, embed.conv_strides, strict=True)
    for index, (dim, kernel, stride) in enumerate(sizes):
        kept, t = t * width, (t - kernel) // stride + 1
        whole = linear(t, width * kernel, dim, bias=embed.conv_bias)
        room += Cost(whole.parameters, whole.flops, kept + t * dim)
        if embed.conv_norm == "layer" or index == 0:
            room += norm(t, dim)
        width = dim
    if embed.feature_norm:
        room += norm(num_tokens, width, kind=core.norm, bias="norm" in core.bias)
    room += linear(num_tokens, width, core.dim)
    if embed.position == "conv":
        whole = linear(num_tokens, core.dim // embed.position_groups * embed.position_kernel, core.dim)
        room += Cost(whole.parameters + embed.position_kernel, whole.flops, 2 * num_tokens * core.dim)
    if embed.norm:
        room += norm(num_tokens, core.dim, kind=core.norm, bias="norm" in core.bias)
    return room
