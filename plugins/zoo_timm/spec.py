"""What surrounds a network of timm. Torch-free.

What the network itself is made with stands in `core.options`, by timm's own names, such as ``drop_path_rate``.
"""

from typing import Literal

from pydantic import Field

from zoo.errors import UserError
from zoo.specs import CoreSpec, RunSpec, Spec

TASK = "timm-image-classification"
LIKE = "image-classification"
STAND_IN = CoreSpec.model_validate({"dim": 4, "depth": 1, "num_heads": 1})
"""The other task checks that its rooms fit a core of ours; no model is built of it."""


class EmbedSpec(Spec):
    """The first room: how a picture becomes what the network reads. Pixels pass it as they are."""

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


class HeadSpec(Spec):
    """The last room: timm's classifier."""

    num_classes: int = Field(1000, ge=2, description="classes")


def as_like(spec: RunSpec) -> RunSpec:
    """The spec as image classification reads it.

    Raises:
        UserError: It asks for what only a core of ours can do.
    """
    if spec.train.lora is not None:
        raise UserError(
            "train.lora adapts attention of a core of ours, and this model's core is timm's\n"
            "leave it out; --set 'train.freeze=[core]' trains the classifier alone"
        )
    rooms = {
        "core": STAND_IN,
        "embed": {**spec.embed, "patch_size": 1},
        "head": {**spec.head, "pool": "mean"},
    }
    return spec.model_copy(update={"task": LIKE, **rooms})
