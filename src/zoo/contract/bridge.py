"""The models of another library by name: what a bridge to them promises. Torch-free.

A bridge brings tasks (`zoo.contract.TaskEntry`) that are `like` those of ours whose data they read, and whose models
have a `network` as their core.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Offered:
    """A model of a bridge as it is listed.

    Args:
        parameters: As published; None where nobody counted.
        is_variant: The same model with other weights, such as ``resnet18.a1_in1k``: listed on request.
    """

    task: str
    parameters: int | None = None
    description: str = ""
    is_variant: bool = False


@dataclass(frozen=True, slots=True)
class Bridge:
    """Models that another library makes, by the names that it has for them: ``PREFIX/NAME``. None of them stands in a
    catalogue. What it names, ``"package.module:function"``, is torch-free but for `refresh` and `fetch`.

    Args:
        prefix: What stands before the slash, such as ``timm``.
        offered: ``() -> Mapping[str, Offered]``: the names that are known, without the prefix, of an index.
        model: ``(name) -> ModelSpec``; raises a `UserError` for a name that there is not.
        refresh: ``() -> str``: makes the index anew, of the library that is installed, and says what is in it.
        fetch: ``(name) -> None``: brings here what `model` must read, when a training names it; none if nothing.
        examples: Of each of its tasks the model that it is checked on.
    """

    prefix: str
    offered: str
    model: str
    refresh: str
    fetch: str | None = None
    examples: Mapping[str, str] = field(default_factory=dict[str, str])
