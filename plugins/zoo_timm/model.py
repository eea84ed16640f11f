"""timm's networks in our three rooms: pixels → features → scores.

Wightman 2019, github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Mapping
from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core import DENSE, Layout, Model, Stream
from zoo.core.statistics import rest_frozen, resting
from zoo.errors import UserError, did_you_mean

OURS = ("num_classes", "in_chans", "img_size")
"""Arguments of timm's that a spec says by other names."""
FETCHING = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only")
"""Arguments with which timm would fetch or open other weights, or give something else than a classifier."""


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
        return Stream(image, DENSE)


class Network(nn.Module):
    """The core: a network of timm's without its classifier.

    What is frozen of it stays as it is: batch norm with frozen parameters keeps its statistics too. A batch of one
    picture has no spread, so that it is normalised by those statistics also in training.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        rest_frozen(self)
        return self

    def forward(self, x: Float[Tensor, "b c h w"], layout: Layout = DENSE) -> Float[Tensor, "b ..."]:
        with resting(self.network, when=len(x) == 1):
            return self.network(x)


class Classifier(nn.Module):
    """The last room: the network's own classifier, or the mean of its two, such as LeViT's."""

    def __init__(self, *classifiers: nn.Module) -> None:
        super().__init__()
        self.classifier = classifiers[0]
        self.second = classifiers[1] if len(classifiers) == 2 else None

    def forward(self, x: Float[Tensor, "b ..."], layout: Layout = DENSE) -> Float[Tensor, "b classes"]:
        if self.second is None:
            return _scores(self.classifier, x)
        return (_scores(self.classifier, x) + _scores(self.second, x)) / 2


class Scores(nn.Module):
    """The last room of a network whose classifier cannot be taken off: it gives scores itself."""

    def forward(self, x: Float[Tensor, "b classes"], layout: Layout = DENSE) -> Float[Tensor, "b classes"]:
        return x


def build(architecture: str, *, channels: int, image_size: int, num_classes: int, options: Mapping[str, Any]) -> Model:
    """A model of timm's with random weights.

    Args:
        architecture: A name of timm's, without a tag.
        options: Further arguments, by timm's names.

    Raises:
        UserError: timm has no such model, or cannot make it so.
    """
    network = create(architecture, channels=channels, image_size=image_size, num_classes=num_classes, options=options)
    classifiers = split_off(network)
    last = Classifier(*classifiers) if classifiers else Scores()
    return Model(Pixels(channels), Network(network), last)


def create(
    architecture: str, *, channels: int, image_size: int, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """timm's own model, whole.

    Raises:
        UserError: As in `build`.
    """
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models())
        raise UserError(f"timm {timm.__version__} has no model '{architecture}'{near}\nupdate timm, or name another")
    if taken := [key for key in options if key in (*OURS, *FETCHING)]:
        raise UserError(
            f"core.options.{taken[0]} is not for timm here\n"
            "classes, channels and size stand in head and embed, and weights are named with --weights"
        )
    config: Any = timm.get_pretrained_cfg(architecture)
    sized = config is not None and config.fixed_input_size and config.input_size[-1] != image_size
    size = {"img_size": image_size} if sized else {}
    try:
        return timm.create_model(
            architecture, pretrained=False, num_classes=num_classes, in_chans=channels, **size, **options
        )
    except Exception as error:  # whatever strange arguments make timm raise
        asked = ", ".join([f"embed.image_size={image_size}", *(f"core.options.{key}" for key in options)])
        raise UserError(
            f"timm cannot make '{architecture}' with {asked}: {type(error).__name__}: {error}\nchange or leave them out"
        ) from error


def split_off(network: Any) -> tuple[nn.Module, ...]:
    """Take a network's classifier off it, which then gives the features that it reads.

    Returns:
        The classifier, or two of them that read the same features; none where it is too much a part of the network.
    """
    classifiers = [network.get_submodule(name) for name in classifier_names(network)]
    # DeiT's two read two tokens, CrossViT has one for each of its branches, VOLO another for the parts of a picture.
    parted = any(isinstance(each, nn.ModuleList) for each in classifiers)
    if parted or hasattr(network, "dist_token") or hasattr(network, "aux_head"):
        return ()
    for name in classifier_names(network):
        network.set_submodule(name, nn.Identity())
    return tuple(classifiers)


def classifier_names(network: Any) -> list[str]:
    """What a network calls its classifiers.

    Raises:
        UserError: The network is no classifier.
    """
    if not hasattr(network, "get_classifier"):
        raise UserError(f"timm's '{type(network).__name__}' scores no classes\nname another model")
    found = network.get_classifier()
    classifiers = [*(found if isinstance(found, tuple | list) else (found,)), getattr(network, "aux_head", None)]
    names = {id(module): name for name, module in network.named_modules()}
    return [names[id(each)] for each in classifiers if each is not None]


def _scores(classifier: nn.Module, x: Tensor) -> Tensor:
    """A classifier that is a convolution reads features as a picture of one pixel."""
    if isinstance(classifier, nn.Conv2d):
        return classifier(x[:, :, None, None] if x.ndim == 2 else x).flatten(1)
    return classifier(x)
