"""From a spec to the arguments of this plugin's rooms, where tasks share one."""

from collections.abc import Callable, Collection

from torch import nn

from zoo.core.layers import make_norm
from zoo.errors import UserError
from zoo.specs import CoreSpec, RunSpec
from zoo_text.model import TextEmbed
from zoo_text.spec import EmbedSpec


def norms(core: CoreSpec) -> Callable[[int], nn.Module]:
    """The maker of norms as the core has them, of a width."""
    return lambda dim: make_norm(core.norm, dim, core.norm_eps, bias="norm" in core.bias)


def build_embed(spec: RunSpec, embed: EmbedSpec, *, hands_on: Collection[str] = ()) -> TextEmbed:
    """
    Args:
        hands_on: As in `TextEmbed`.

    Raises:
        UserError: Texts are to be filled up with a token that is none.
    """
    width = embed.token_dim or spec.core.dim
    if embed.pad_token is not None and embed.pad_token >= embed.vocab_size:
        raise UserError(
            f"embed.pad_token {embed.pad_token} is no token: there are {embed.vocab_size:,}\nname the id of one, or "
            "leave it out"
        )
    return TextEmbed(
        spec.core.dim,
        embed.vocab_size,
        max_tokens=embed.max_tokens,
        position=embed.position,
        first_position=embed.first_position,
        num_types=embed.num_types,
        token_dim=embed.token_dim,
        norm=norms(spec.core)(width) if embed.norm else None,
        dropout=embed.dropout,
        hands_on=hands_on,
    )
