"""Published weights of timm's models, for timm's models: every tensor keeps timm's name."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.specs import RunSpec, network_of
from zoo.weights import Published, Row, Table
from zoo.weights.processors import normalised_by_timm, seen_by_timm, timm_card
from zoo_timm.spec import TASK, EmbedSpec, HeadSpec


class TimmNetwork:
    """A folder of weights with timm's `config.json`."""

    name = "timm"
    task = TASK

    @staticmethod
    def recognises(published: Published) -> bool:
        return isinstance(published.config.get("architecture"), str)

    @staticmethod
    def settings(published: Published) -> Mapping[str, Any]:
        """The architecture, and how pictures were read.

        Raises:
            UserError: The config says something that it cannot mean.
        """
        from zoo_timm.model import FETCHING, OURS

        config = timm_card(published.config)
        arguments = published.config.get("model_args") or {}
        try:
            channels, height, width = config.get("input_size") or (3, 224, 224)
            num_classes = int(published.config.get("num_classes") or config.get("num_classes") or 0)
            options = {f"core.options.{key}": each for key, each in arguments.items() if key not in (*FETCHING, *OURS)}
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"the config.json of '{published.place}' is none of timm's: {error}\ncopy or download it anew"
            ) from error
        return {
            "core.architecture": str(published.config["architecture"]).partition(".")[0],
            **options,
            "embed.image_size": max(height, width),
            "embed.channels": channels,
            **seen_by_timm(config, published.place),
            **({"head.num_classes": num_classes} if num_classes > 1 else {}),
        }

    @staticmethod
    def info(published: Published) -> Mapping[str, Any]:
        """Mean and deviation of each channel that the weights were trained with, and the classes that they tell apart:
        those named, or ImageNet's of that number."""
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

        config = timm_card(published.config)
        channels = int((config.get("input_size") or (3,))[0])  # `settings` has looked at it
        known = normalised_by_timm(config, channels, published.place)
        names = config.get("label_names")
        subset = infer_imagenet_subset(config)
        classes = list(names) if names else ImageNetInfo(subset).label_names() if subset else []
        return {**known, **({"classes": list(classes)} if classes else {})}

    @staticmethod
    def table(spec: RunSpec) -> Table:
        from zoo_timm.model import classifier_names, create, split_off

        core, embed, head = network_of(spec), EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head)
        sizes = {"channels": embed.channels, "image_size": embed.image_size, "num_classes": head.num_classes}
        with torch.device("meta"):
            network = create(core.architecture, **sizes, options=core.options)
        names = classifier_names(network)
        apart = bool(split_off(network))
        ours = ("head.classifier", "head.second") if apart else [f"core.network.{name}" for name in names]
        last = [Row(our, name, predicts=True) for our, name in zip(ours, names, strict=False)]
        parts = dict.fromkeys(name.partition(".")[0] for name in network.state_dict())
        return Table((*last, *(Row(f"core.network.{part}", part) for part in parts)), adapt=_adapted)


def _adapted(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """By timm's own rules for an architecture: older names, and positions of pictures of another size."""
    network: Any = model.get_submodule("core.network")
    rule = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if rule is None:
        return tensors
    try:
        return dict(rule(dict(tensors), network))
    except Exception as error:  # of tensors that are another architecture's
        raise UserError(f"timm cannot adapt the weights to the model: {error}\nname weights of this model") from error
