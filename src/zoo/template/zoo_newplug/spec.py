"""The settings of the rooms that are ours, and what a model costs. Imports nothing heavy."""

from pydantic import Field
from zoo.cost import Cost, core_cost, linear
from zoo.specs import RunSpec, Spec

MEAN_LENGTH = 20
"""Symbols in a generated sequence, on average."""


class EmbedSpec(Spec):
    """The first room: each symbol becomes a token."""

    num_symbols: int = Field(8, ge=2, le=26, description="letters of the alphabet in use, from a on")


class HeadSpec(Spec):
    """The last room: the mean of the tokens becomes a score for each class."""

    num_classes: int = Field(8, ge=2, description="classes")


class AugmentSpec(Spec):
    """What is done to training sequences."""

    shuffle: bool = Field(False, description="put the symbols in another order, which changes no label")


def cost(spec: RunSpec) -> Cost:
    """Of a model, and of a sequence of `MEAN_LENGTH` symbols."""
    embed, head, dim = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head), spec.core.dim
    table = Cost(parameters=embed.num_symbols * dim)
    return table + core_cost(spec.core, MEAN_LENGTH) + linear(1, dim, head.num_classes)
