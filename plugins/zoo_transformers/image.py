"""Image classification by a model of transformers: all but the model is the other task's, `image-classification`."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from zoo.contract import Variant
from zoo.core import DENSE, Layout, Model, Stream
from zoo.specs import RunSpec, network_of
from zoo_transformers.network import create, rooms
from zoo_transformers.spec import IMAGE, ImageEmbedSpec, ImageHeadSpec, as_image

RESIZING = ("dinov2", "dinov2_with_registers")
"""Networks that fit their table of positions to each picture, and so have it of another size than pictures may be."""


def build(spec: RunSpec) -> Model:
    """A network of transformers in our rooms, with random weights."""
    channels = ImageEmbedSpec.model_validate(spec.embed).channels
    return Model(Pixels(channels), *rooms(create_image(spec), as_pixels))


class Pixels(nn.Module):
    """The first room: pictures pass it as they are.

    Args:
        channels: Of the pictures.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: Float[Tensor, "b c h w"]) -> Stream:
        """
        Raises:
            ValueError: The pictures have another number of channels.
        """
        if image.shape[1] != self.channels:
            raise ValueError(
                f"pictures have {image.shape[1]} channels, but the model reads {self.channels}; convert them"
            )
        return Stream(image, DENSE, {"raw": image})


def as_pixels(x: Tensor, layout: Layout) -> dict[str, Tensor]:
    return {"pixel_values": x}


def create_image(spec: RunSpec) -> Any:
    """transformers' own model, whole."""
    core, embed = network_of(spec), ImageEmbedSpec.model_validate(spec.embed)
    head = ImageHeadSpec.model_validate(spec.head)
    side = {} if core.architecture in RESIZING else {"image_size": embed.image_size}
    sizes = {**side, "num_channels": embed.channels}
    return create(IMAGE, core.architecture, core.options, head.num_classes, **sizes)


CLASSIFICATION = Variant(as_image, build)
