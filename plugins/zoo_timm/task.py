"""Image classification by a model of timm: all is the other task's, `image-classification`, but for the model."""

from zoo.contract import Variant
from zoo.core import Model
from zoo.specs import RunSpec, network_of
from zoo_timm.model import build as build_rooms
from zoo_timm.spec import EmbedSpec, HeadSpec, as_like


def build(spec: RunSpec) -> Model:
    """timm's network in our rooms, with random weights."""
    core, embed, head = network_of(spec), EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head)
    return build_rooms(
        core.architecture,
        channels=embed.channels,
        image_size=embed.image_size,
        num_classes=head.num_classes,
        options=core.options,
    )


CLASSIFICATION = Variant(as_like, build)
