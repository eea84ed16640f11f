"""What surrounds a network of transformers, by task. Torch-free.

What the network itself is made with stands in `core`: `architecture` is its `model_type`, `options` what else its
configuration says, such as `core.options.num_hidden_layers`.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zoo.errors import UserError
from zoo.files import user_path
from zoo.specs import CoreSpec, RunSpec, Spec, network_of

TEXT, IMAGE, SPEECH = "hf-text-classification", "hf-image-classification", "hf-speech-to-text"
STAND_IN = CoreSpec.model_validate({"dim": 4, "depth": 1, "num_heads": 1})
"""The other task checks that its rooms fit a core of ours; no model is built of it."""
LEARNT = ("wordpiece", "bpe")
"""Tokenizers that a training learns."""
STRIDES, KERNELS = (5, 2, 2, 2, 2, 2, 2), (10, 3, 3, 3, 3, 2, 2)
"""Of the convolutions over samples, where a configuration says nothing: wav2vec 2.0's."""


class TextEmbedSpec(Spec):
    """The first room of texts: tokens as the network reads them."""

    tokenizer: str = Field(
        "wordpiece",
        description="the folder of the model, or a tokenizer.json; or one that is learnt: wordpiece or bpe",
    )
    lowercase: bool = Field(True, description="a learnt tokenizer reads all letters as small ones")
    max_vocab_size: int = Field(8192, ge=300, le=1_000_000, description="pieces that a learnt tokenizer has, at most")
    vocab_size: int = Field(8192, ge=1, description="rows of the table of tokens; the tokenizer decides")
    max_tokens: int = Field(128, ge=3, le=1_000_000, description="a longer text loses its end")


class TextHeadSpec(Spec):
    """The last room of texts: whatever the network has after its trunk."""

    num_classes: int = Field(2, ge=2, description="classes")
    multi_label: bool = Field(False, description="a text may have several classes, or none; the data decides")


class ImageEmbedSpec(Spec):
    """The first room of pictures: how they become what the network reads."""

    image_size: int = Field(224, ge=1, le=4096, description="side of the square picture, pixels; others are resized")
    channels: int = Field(3, ge=1, le=64, description="3 is colour, 1 is grey")
    crop_fraction: float = Field(
        1.0, gt=0, le=1, description="a picture is resized to image_size over this, and its middle is read"
    )
    crop_mode: Literal["center", "squash"] = Field(
        "center", description="the shorter side is resized to that, or each side by itself"
    )
    interpolation: Literal["bicubic", "bilinear", "nearest"] = Field("bicubic", description="how a picture is resized")
    resizer: Literal["torch", "pillow"] = Field("torch", description="who resizes it: each rounds in its own way")


class ImageHeadSpec(Spec):
    """The last room of pictures: whatever the network has after its trunk."""

    num_classes: int = Field(1000, ge=2, description="classes")


class SpeechEmbedSpec(Spec):
    """The first room of recordings: the network's convolutions over samples."""

    front: Literal["samples"] = Field("samples", description="what is heard; a last, partial token counts")
    sample_rate_hz: int = Field(16000, ge=1000, le=192_000, description="recordings are resampled to it")
    normalise: bool = Field(True, description="each recording has mean 0 and deviation 1")


class SpeechHeadSpec(Spec):
    """The last room of recordings: each token becomes a score for each symbol and for none (CTC's blank)."""

    num_symbols: int = Field(29, ge=2, description="symbols, the blank among them; the data decides")
    symbols: Literal["characters", "bpe"] = Field("characters", description="what is written with")
    max_symbols: int = Field(256, ge=3, le=100_000, description="of bpe; characters are as many as there are")
    lowercase: bool = Field(True, description="transcriptions are written small")
    punctuation: bool = Field(False, description="keep punctuation; else but apostrophes within words are kept")


def as_text(spec: RunSpec) -> RunSpec:
    """The spec as text classification reads it.

    Raises:
        UserError: It asks for what only a core of ours can do; likewise the others below.
    """
    embed = TextEmbedSpec.model_validate(spec.embed)
    own = "wordpiece" if folder_of(embed) else embed.tokenizer  # what is no folder's, the other task reads or refuses
    rooms = {"embed": {**spec.embed, "tokenizer": own}, "head": {**spec.head, "pool": "mean"}}
    return _as_like(spec, "text-classification", rooms)


def folder_of(embed: TextEmbedSpec) -> Path | None:
    """The folder whose tokenizer is read; None where it is a file, or one that is learnt."""
    if embed.tokenizer in LEARNT:
        return None
    place = user_path(embed.tokenizer)
    return place if place.is_dir() else None


def as_image(spec: RunSpec) -> RunSpec:
    """The spec as image classification reads it."""
    rooms = {"embed": {**spec.embed, "patch_size": 1}, "head": {**spec.head, "pool": "mean"}}
    return _as_like(spec, "image-classification", rooms)


def as_speech(spec: RunSpec) -> RunSpec:
    """The spec as speech to text reads it: a token is as long as the network's convolutions step."""
    masked = ("num_time_masks", "num_band_masks", "consistency")
    if asked := [key for key in masked if spec.augment.get(key)]:
        raise UserError(
            f"augment.{asked[0]} masks a spectrogram, and this model reads samples\n"
            "leave it out; augment.speeds, noise_db and joined change samples"
        )
    embed = SpeechEmbedSpec.model_validate(spec.embed)
    step = 1000 * stride(network_of(spec).options) / embed.sample_rate_hz
    rooms = {
        "embed": {"sample_rate_hz": embed.sample_rate_hz, "hop_ms": step, "window_ms": step, "num_stacked": 1},
        "head": dict(spec.head),
    }
    return _as_like(spec, "speech-to-text", rooms)


def _as_like(spec: RunSpec, task: str, rooms: Mapping[str, Any]) -> RunSpec:
    if spec.train.lora is not None:
        raise UserError(
            "train.lora adapts attention of a core of ours, and this model's core is another library's\n"
            "leave it out; --set 'train.freeze=[core]' trains the head alone"
        )
    return spec.model_copy(update={"task": task, "core": STAND_IN, **rooms})


def stride(options: Mapping[str, Any]) -> int:
    """Samples from one token to the next."""
    return prod(options.get("conv_stride") or STRIDES)


def reach(options: Mapping[str, Any]) -> int:
    """Samples that a token is made of."""
    span, step = 1, 1
    kernels, strides = options.get("conv_kernel") or KERNELS, options.get("conv_stride") or STRIDES
    for kernel, each in zip(kernels, strides, strict=True):
        span, step = span + (kernel - 1) * step, step * each
    return span
