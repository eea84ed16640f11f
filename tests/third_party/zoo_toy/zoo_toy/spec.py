"""The settings of a tagger's first and last room, and what one costs. Torch-free."""

from pydantic import Field
from zoo.cost import Cost, core_cost, linear
from zoo.specs import RunSpec, Spec

MEAN_LENGTH = 13


class EmbedSpec(Spec):
    """The first room: each symbol becomes a token."""

    num_symbols: int = Field(26, ge=2, le=26, description="letters in use, from a on")


class HeadSpec(Spec):
    """The last room: each token becomes a score for each tag."""

    num_tags: int = Field(2, ge=2, description="tags")


class AugmentSpec(Spec):
    """What is done to training sequences."""

    shuffle: bool = Field(False, description="put the letters, and their tags with them, in another order")


def cost(spec: RunSpec) -> Cost:
    """Of a model, and of a sequence of `MEAN_LENGTH` symbols."""
    embed, head, dim = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head), spec.core.dim
    table = Cost(parameters=embed.num_symbols * dim)
    return table + core_cost(spec.core, MEAN_LENGTH) + linear(MEAN_LENGTH, dim, head.num_tags)
