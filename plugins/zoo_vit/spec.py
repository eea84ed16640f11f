"""What a picture classifier's first and last room and its augmentation are made from, and what they cost. Torch-free.

Patches: Dosovitskiy et al. 2020, arXiv:2010.11929; convolutional stem and sequence pooling: Hassani et al. 2021,
arXiv:2104.05704; registers: Darcet et al. 2023, arXiv:2309.16588; distillation token: Touvron et al. 2020,
arXiv:2012.12877; attention pooling: Zhai et al. 2021, arXiv:2106.04560.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zoo.cost import Cost, core_cost, linear, mlp_cost, norm
from zoo.errors import UserError
from zoo.specs import CoreSpec, Fraction, RunSpec, Spec

CONV_STEM_WIDTH = 64
"""Channels between the layers of the convolutional stem, as published."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class EmbedSpec(Spec):
    """The first room: a picture becomes tokens."""

    image_size: int = Field(224, ge=1, le=4096, description="side of the square picture, pixels; others are resized")
    channels: int = Field(3, ge=1, le=64, description="3 is colour, 1 is grey")
    crop_fraction: float = Field(
        1.0, gt=0.0, le=1.0, description="a picture is resized to image_size over this, and its middle is read"
    )
    crop_mode: Literal["center", "squash"] = Field(
        "center", description="the shorter side is resized to that, or each side by itself"
    )
    interpolation: Literal["bicubic", "bilinear", "nearest"] = Field("bicubic", description="how a picture is resized")
    resizer: Literal["torch", "pillow"] = Field(
        "torch", description="who resizes it: each rounds in its own way, and weights of timm are used to pillow"
    )
    stem: Literal["patch", "conv"] = Field("patch", description="linear patches, or a small convolutional network")
    patch_size: int = Field(16, ge=1, le=256, description="side of a patch, pixels; the patch stem only")
    num_conv_layers: int = Field(2, ge=1, le=6, description="layers of the conv stem, each halving the picture")
    num_registers: int = Field(0, ge=0, le=64, description="extra tokens that belong to no patch")
    num_class_tokens: int | None = Field(
        None, ge=0, le=2, description="1 with head.pool=cls, else 0, when null; 2 adds DeiT's distillation token"
    )
    position: Literal["learned", "sinusoidal"] = Field("learned", description="how a token knows its place")
    class_position: bool = Field(True, description="class tokens have learned positions too")
    patch_bias: bool = Field(True, description="linear patches have a bias")
    norm: bool = Field(False, description="normalise what goes into the core, as CLIP does")
    partial_patches: Literal["pad", "cut"] = Field(
        "pad", description="where the patches do not divide a side: pad it, or cut off what is over, as timm does"
    )
    smooth_positions: bool = Field(
        True, description="learned positions for smaller pictures are smoothed, as timm does and transformers does not"
    )

    @property
    def stride(self) -> int:
        """Side of the picture's square that a token stands for, pixels."""
        return self.patch_size if self.stem == "patch" else 2**self.num_conv_layers

    @property
    def grid_size(self) -> int:
        """Tokens along each side of a picture of `image_size`; a last, partial patch counts if it is padded."""
        over = self.stride - 1 if self.partial_patches == "pad" else 0
        return (self.image_size + over) // self.stride

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.stride > self.image_size:
            raise ValueError(
                f"a token of {self.stride} pixels is larger than image_size {self.image_size}; "
                "lower patch_size (or num_conv_layers of the conv stem)"
            )
        return self


class HeadSpec(Spec):
    """The last room: tokens become one score a class."""

    num_classes: int = Field(1000, ge=2, description="classes")
    pool: Literal["cls", "mean", "cls_mean", "seq", "map"] = Field(
        "cls",
        description="the class tokens, the patches' mean, both side by side (DINOv2), the patches' learned weighting "
        "(sequence pooling), or what a learned query attends to (SigLIP)",
    )
    norm: bool = Field(
        False, description="normalise what was pooled, as timm does after the mean; set core.final_norm off"
    )
    pooler: Literal["tanh", "linear"] | None = Field(
        None, description="a linear layer over what was pooled, then tanh or nothing, as CLIP projects; none when null"
    )
    pooler_dim: int | None = Field(None, ge=1, description="width that the pooler gives; core.dim when null")
    pooler_bias: bool = Field(True, description="the pooler's layer has a bias")
    distilled: bool = Field(True, description="with head.pool=cls, a second class token has a classifier too (DeiT)")


class AugmentSpec(Spec):
    """What is done to training pictures; nothing by default. In the order of the fields."""

    crop_scale: tuple[Probability, Probability] | None = Field(
        None, strict=False, description="random resized crop: smallest and largest share of the area"
    )
    crop_padding: int = Field(0, ge=0, le=256, description="random crop: pixels of black border to shift within")
    flip: Probability = Field(0.0, description="probability of a left-right flip")
    randaugment: str | None = Field(
        None,
        pattern=r"^rand(-((m|n|mmax)\d+|(mstd|p)\d+(\.\d+)?|inc[01]))*$",
        description="timm's RandAugment, such as rand-m9-mstd0.5-inc1",
    )
    color_jitter: float = Field(
        0.0, ge=0.0, le=1.0, description="largest change of brightness, contrast and saturation"
    )
    erase: Probability = Field(0.0, description="probability of erasing a rectangle")
    rotate: float = Field(0.0, ge=0.0, le=180.0, description="largest rotation, degrees")
    translate: float = Field(0.0, ge=0.0, le=1.0, description="largest shift, share of the side")
    scale: Fraction = Field(0.0, description="largest change of size, share")
    mixup: float = Field(0.0, ge=0.0, description="alpha of mixup; 0 is off")
    cutmix: float = Field(0.0, ge=0.0, description="alpha of cutmix; 0 is off. With mixup, one of the two is drawn")
    mix_probability: Probability = Field(1.0, description="share of batches that are mixed")

    @model_validator(mode="after")
    def _crop_scale_rises(self) -> Self:
        if self.crop_scale is not None and not 0.0 < self.crop_scale[0] <= self.crop_scale[1]:
            raise ValueError(f"crop_scale {list(self.crop_scale)} must rise and be above 0, such as [0.3, 1.0]")
        return self


class MaskedHeadSpec(Spec):
    """The decoder of masked patches, which is not kept: a core of its own."""

    dim: int = Field(96, ge=4, multiple_of=4, description="width of a token")
    depth: int = Field(2, ge=1, description="blocks")
    num_heads: int = Field(3, ge=1, description="heads")

    @model_validator(mode="after")
    def _heads_share_dim(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} does not divide by num_heads {self.num_heads}; change one")
        return self


class MaskingSpec(AugmentSpec):
    """What is hidden of a picture, after what is done to it."""

    share: Fraction = Field(0.75, gt=0, description="of the patches; at least one is hidden and one seen")

    def num_masked(self, num_patches: int) -> int:
        return min(num_patches - 1, max(1, round(self.share * num_patches)))


def num_class_tokens(embed: EmbedSpec, head: HeadSpec) -> int:
    """Tokens that belong to no patch and that the head may read."""
    return int(head.pool.startswith("cls")) if embed.num_class_tokens is None else embed.num_class_tokens


def num_classifiers(embed: EmbedSpec, head: HeadSpec) -> int:
    return 2 if head.pool == "cls" and num_class_tokens(embed, head) == 2 and head.distilled else 1


def rooms(spec: RunSpec) -> tuple[EmbedSpec, HeadSpec, AugmentSpec]:
    """The specs of what surrounds the core, once they fit it and each other.

    Raises:
        UserError: They do not.
    """
    embed, head = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head)
    augment, core = AugmentSpec.model_validate(spec.augment), spec.core
    if core.cross_attention:
        raise UserError("core.cross_attention: a picture has no second sequence to attend to; leave it off")
    if core.causal and head.pool.startswith("cls"):
        raise UserError(
            "core.causal: the class token is the first and would see no patch; leave it off, or set head.pool=mean"
        )
    if head.pool.startswith("cls") and num_class_tokens(embed, head) == 0:
        raise UserError(
            f"head.pool={head.pool} reads the class token, and embed.num_class_tokens is 0; leave one of them out"
        )
    if head.pool == "cls_mean" and head.norm:
        raise UserError("head.norm is for what is as wide as a token, not for head.pool=cls_mean; leave it off")
    if head.pooler and num_classifiers(embed, head) == 2:
        raise UserError("head.pooler leads to one classifier; leave it out, or set head.distilled=false")
    if head.pool == "map" and core.dim % core.num_heads:
        raise UserError(
            f"head.pool=map shares core.dim {core.dim} among core.num_heads {core.num_heads}, which does not divide "
            "it; change one, or pool otherwise"
        )
    if embed.position == "sinusoidal" and core.dim % 4:
        raise UserError(
            f"embed.position=sinusoidal: core.dim {core.dim} does not divide by 4 (a sine and a cosine of the row and "
            "of the column); change it, or set embed.position=learned"
        )
    if embed.channels not in (1, 3) and (augment.randaugment or augment.color_jitter):
        raise UserError(
            f"augment.randaugment and augment.color_jitter know grey and colour, not embed.channels {embed.channels}; "
            "leave them off"
        )
    return embed, head, augment


def masked_rooms(spec: RunSpec) -> tuple[EmbedSpec, MaskedHeadSpec, MaskingSpec]:
    """The specs of what surrounds the core where patches are masked, once they fit it and each other.

    Raises:
        UserError: They do not.
    """
    embed, masking = EmbedSpec.model_validate(spec.embed), MaskingSpec.model_validate(spec.augment)
    if spec.core.cross_attention or spec.core.causal:
        raise UserError("core.cross_attention and core.causal are not for masked patches; leave them off")
    if spec.train.distill is not None:
        raise UserError("train.distill compares scores of classes, of which there are none here; leave it out")
    if embed.stem == "conv":
        raise UserError("embed.stem=conv sees beyond a patch, and so what is hidden; set embed.stem=patch")
    if embed.grid_size < 2:
        raise UserError("a picture of a single patch has none to tell it from; lower embed.patch_size")
    if masking.mixup or masking.cutmix:
        raise UserError("augment.mixup and augment.cutmix mix classes, of which there are none here; leave them off")
    if embed.position == "sinusoidal" and spec.core.dim % 4:
        raise UserError(f"embed.position=sinusoidal: core.dim {spec.core.dim} does not divide by 4; change it")
    return embed, MaskedHeadSpec.model_validate(spec.head), masking


def masked_cost(spec: RunSpec) -> Cost:
    """Of the whole model, decoder included, for a picture of `embed.image_size`."""
    (embed, head, masking), core = masked_rooms(spec), spec.core
    num_patches = embed.grid_size**2
    num_own = 1 if embed.num_class_tokens is None else embed.num_class_tokens
    hidden, prefix = masking.num_masked(num_patches), num_own + embed.num_registers
    num_seen, num_values = num_patches - hidden + prefix, embed.channels * embed.stride**2
    decoder = CoreSpec.model_validate({"dim": head.dim, "depth": head.depth, "num_heads": head.num_heads})
    room = _embed_cost(spec, embed, num_own, num_seen) + core_cost(core, num_seen)
    room += linear(num_seen, core.dim, head.dim) + Cost(head.dim) + core_cost(decoder, num_patches + prefix)
    return room + linear(hidden, head.dim, num_values)


def _embed_cost(spec: RunSpec, embed: EmbedSpec, num_own: int, num_tokens: int) -> Cost:
    core = spec.core
    learned = (num_own + embed.num_registers) * core.dim
    if embed.position == "learned":
        learned += (num_own * embed.class_position + embed.grid_size**2) * core.dim
    room = _stem(embed, core.dim) + Cost(learned)
    if embed.norm:
        room += norm(num_tokens, core.dim, kind=core.norm, bias="norm" in core.bias)
    return room


def cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a picture of `embed.image_size`."""
    (embed, head, _), core = rooms(spec), spec.core
    num_patches = embed.grid_size**2
    num_own = num_class_tokens(embed, head)
    num_tokens = num_patches + num_own + embed.num_registers
    room = _embed_cost(spec, embed, num_own, num_tokens) + core_cost(core, num_tokens)
    if head.pool == "seq":
        room += linear(num_patches, core.dim, 1) + Cost(flops=2 * num_patches * core.dim, activations=num_patches)
    if head.pool == "map":
        room += _attention_pool(core, num_tokens)
    count = num_classifiers(embed, head)
    if head.norm:
        room += norm(count, core.dim, kind=core.norm, bias="norm" in core.bias)
    width = core.dim * (2 if head.pool == "cls_mean" else 1)
    if head.pooler:
        room += linear(1, width, head.pooler_dim or core.dim, bias=head.pooler_bias)
        width = head.pooler_dim or core.dim
    return room + linear(1, width, head.num_classes) * count


def _attention_pool(core: CoreSpec, num_tokens: int) -> Cost:
    dim = core.dim
    projections = linear(1, dim, dim) + linear(num_tokens, dim, 2 * dim) + linear(1, dim, dim)
    products = Cost(flops=4 * num_tokens * dim, activations=dim + 2 * num_tokens * dim)
    mlp = mlp_cost(core.model_copy(update={"layer_scale": None, "bias": ("mlp", *core.bias)}), 1)
    return Cost(dim) + projections + products + mlp


def _stem(embed: EmbedSpec, dim: int) -> Cost:
    if embed.stem == "patch":
        return linear(embed.grid_size**2, embed.channels * embed.patch_size**2, dim, bias=embed.patch_bias)
    widths = [embed.channels, *[CONV_STEM_WIDTH] * (embed.num_conv_layers - 1), dim]
    side = embed.grid_size * embed.stride
    stem = Cost()
    for before, after in pairwise(widths):
        stem += linear(side**2, 9 * before, after, bias=False)
        # Kept: the convolution's input and not its nine shifts; the activation; the pooled cells' 8-byte indices.
        stem += Cost(activations=side**2 * (after - 8 * before) + 2 * after * (side // 2) ** 2)
        side //= 2
    return stem
