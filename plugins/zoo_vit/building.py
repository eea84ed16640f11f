"""From a spec to the arguments of this plugin's rooms, where tasks share one."""

from torch import nn

from zoo.core.layers import make_norm
from zoo.specs import CoreSpec, RunSpec
from zoo_vit.model import PictureEmbed
from zoo_vit.spec import CONV_STEM_WIDTH, EmbedSpec


def build_norm(core: CoreSpec) -> nn.Module:
    """A norm as the core has them."""
    return make_norm(core.norm, core.dim, core.norm_eps, bias="norm" in core.bias)


def build_embed(spec: RunSpec, embed: EmbedSpec, *, num_class_tokens: int) -> PictureEmbed:
    return PictureEmbed(
        spec.core.dim,
        embed.image_size,
        channels=embed.channels,
        patch_size=embed.patch_size,
        num_conv_layers=embed.num_conv_layers if embed.stem == "conv" else 0,
        conv_width=CONV_STEM_WIDTH,
        patch_bias=embed.patch_bias,
        num_class_tokens=num_class_tokens,
        num_registers=embed.num_registers,
        position=embed.position,
        class_position=embed.class_position,
        cut=embed.partial_patches == "cut",
        smooth=embed.smooth_positions,
        norm=build_norm(spec.core) if embed.norm else None,
    )
