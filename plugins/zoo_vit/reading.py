"""From an item to normalised pixels in a batch, for every task of pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.contract import Item
from zoo_vit.augment import Augment, warp
from zoo_vit.pictures import Pixels, fit_channels, fit_size, read_picture
from zoo_vit.spec import AugmentSpec, EmbedSpec


class Reader:
    """Pictures as a spec has them.

    Args:
        info: `mean` and `std` of each channel, of values from 0 to 1.
        num_classes: What mixup and cutmix mix.
    """

    def __init__(self, embed: EmbedSpec, augment: AugmentSpec, info: Mapping[str, Any], num_classes: int = 0) -> None:
        self.embed = embed
        mean, std = (torch.tensor(info[key]).view(-1, 1, 1) for key in ("mean", "std"))
        self.shift, self.gain = mean * 255, 1 / (std * 255)
        own = augment.model_dump(include=set(AugmentSpec.model_fields))
        self.augment = Augment(
            embed.image_size, info["mean"], num_classes, fit=self.fit, interpolation=embed.interpolation, **own
        )

    def sample(self, item: Item, rng: np.random.Generator | None) -> dict[str, Any]:
        """`image` and whatever else `batch` needs; nothing is changed without a generator."""
        picture = self.pixels(item)
        if rng is None:
            return {"image": self.fit(picture)}
        return self.augment.picture(picture, rng)

    def fit(self, picture: Pixels) -> Pixels:
        """What the model sees of a picture."""
        how = self.embed.model_dump(include={"crop_fraction", "crop_mode", "interpolation", "resizer"})
        return fit_size(picture, self.embed.image_size, **how)

    def pixels(self, item: Item) -> Pixels:
        if isinstance(item.inputs, Path):
            return read_picture(item.inputs, self.embed.channels)
        return fit_channels(item.inputs, self.embed.channels)

    def batch(self, samples: Sequence[Mapping[str, Any]]) -> Float[Tensor, "b c h w"]:
        images = torch.from_numpy(np.stack([sample["image"] for sample in samples])).float()
        if "affine" in samples[0]:
            images = warp(images, torch.from_numpy(np.stack([sample["affine"] for sample in samples])))
        return (images - self.shift) * self.gain
