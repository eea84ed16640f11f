"""What is done to training pictures: a function of (seed, epoch, item), by torchvision and timm.

RandAugment: Cubuk et al. 2019, arXiv:1909.13719; random erasing: Zhong et al. 2017, arXiv:1708.04896; mixup: Zhang et
al. 2017, arXiv:1710.09412; cutmix: Yun et al. 2019, arXiv:1905.04899.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from torch import Tensor
from torchvision.transforms import v2

from zoo.data.seeding import seeded
from zoo_vit.pictures import Pixels


class Augment:
    """Draws from an item's generator: `picture` changes one; `mix`, and `warp` below, change a batch by those draws.

    Args:
        image_size: Side of the result, pixels.
        mean: Of each channel, 0 to 1; erased rectangles get it.
        fit: Makes a picture of that size where no crop is drawn: what a model sees when it is evaluated.
        interpolation: Of a crop that is drawn.

    The others are those of `AugmentSpec`.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        num_classes: int,
        *,
        fit: Callable[[Pixels], Pixels],
        interpolation: str,
        crop_scale: tuple[float, float] | None,
        crop_padding: int,
        flip: float,
        randaugment: str | None,
        color_jitter: float,
        erase: float,
        rotate: float,
        translate: float,
        scale: float,
        mixup: float,
        cutmix: float,
        mix_probability: float,
    ) -> None:
        self.fit, self.crop_padding, self.flip = fit, crop_padding, flip
        self.rotate, self.translate, self.scale = rotate, translate, scale
        self.crop = None
        if crop_scale is not None:
            self.crop = v2.RandomResizedCrop(image_size, crop_scale, interpolation=v2.InterpolationMode(interpolation))
        self.colour: list[Callable[[Tensor], Tensor]] = []
        if randaugment is not None:
            self.colour.append(_OnPicture(_rand_augment(randaugment, mean)))
        if color_jitter:
            self.colour.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
        if erase:
            fill: Any = [255 * m for m in mean]  # torchvision takes one value a channel, but its annotation hides it
            self.colour.append(v2.RandomErasing(erase, value=fill))
        self.mix_probability = mix_probability
        mixers = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self.mixers = [mixer(alpha=alpha, num_classes=num_classes) for mixer, alpha in mixers if alpha]

    def picture(self, picture: Pixels, rng: np.random.Generator) -> dict[str, Any]:
        """One augmented picture, and the draws that `warp` (`affine`) and `mix` read."""
        if self.crop is not None:
            with seeded(rng):
                picture = self.crop(torch.from_numpy(picture)).numpy()
        else:
            picture = self.fit(picture)
        if self.crop_padding:
            picture = _shift(picture, *rng.integers(-self.crop_padding, self.crop_padding + 1, 2).tolist())
        if self.flip and rng.random() < self.flip:
            picture = picture[:, :, ::-1]
        if self.colour:
            with seeded(rng):
                tensor = torch.from_numpy(np.ascontiguousarray(picture))
                for change in self.colour:
                    tensor = change(tensor)
                picture = tensor.numpy()
        sample: dict[str, Any] = {"image": picture}
        if self.rotate or self.translate or self.scale:
            sample["affine"] = self._affine(rng)
        if self.mixers:
            sample["mix"] = int(rng.integers(2**63))
        return sample

    def _affine(self, rng: np.random.Generator) -> Float[np.ndarray, "2 3"]:
        """From a place in the result to one in the picture, both from -1 to 1: turned, scaled and shifted."""
        turn, size, right, down = rng.uniform(-1, 1, 4).tolist()
        angle, factor = math.radians(self.rotate * turn), 1 + self.scale * size
        cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
        shift = 2 * self.translate
        return np.array([[cos, -sin, shift * right], [sin, cos, shift * down]], dtype=np.float32)

    def mix(
        self, images: Float[Tensor, "b c h w"], targets: Int[Tensor, " b"], draw: int
    ) -> tuple[Float[Tensor, "b c h w"], Tensor]:
        """Mixup or cutmix of each picture with its neighbour in the batch; targets become (b, num_classes).

        Args:
            draw: Made by the batch's first item, so that mixing too is a function of (seed, epoch, item).
        """
        rng = np.random.Generator(np.random.PCG64(draw))
        if rng.random() >= self.mix_probability:
            return images, targets
        mixer = self.mixers[int(rng.integers(len(self.mixers)))]
        with seeded(rng):
            return mixer(images, targets)


def warp(images: Float[Tensor, "b c h w"], affine: Float[Tensor, "b 2 3"]) -> Float[Tensor, "b c h w"]:
    """Apply each picture's own affine map, bilinear; what comes from outside is black."""
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _shift(picture: Pixels, down: int, right: int) -> Pixels:
    """Move a picture within its frame; what comes in is black: a random crop of the padded picture."""
    height, width = picture.shape[1:]
    moved = np.zeros_like(picture)
    y, x = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    moved[:, y, x] = picture[:, y.start - down : y.stop - down, x.start - right : x.stop - right]
    return moved


def _rand_augment(config: str, mean: Sequence[float]) -> RandAugment:
    fill = [round(255 * m) for m in mean]
    augment = rand_augment_transform(config, {"img_mean": tuple(fill if len(fill) == 3 else fill[:1] * 3)})
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            # At its strongest, timm's keeps no bit at all, which Pillow from release 12 on refuses: keep one.
            operation.level_fn = partial(_some_bits, operation.level_fn)
    return augment


def _some_bits(level: Callable[[float, Any], tuple[int]], magnitude: float, hparams: Any) -> tuple[int]:
    return (max(1, level(magnitude, hparams)[0]),)


class _OnPicture:
    """A change of Pillow pictures, for tensors. Grey goes through colour, which timm's operations expect."""

    def __init__(self, change: Callable[[Image.Image], Image.Image]) -> None:
        self.change = change

    def __call__(self, picture: Tensor) -> Tensor:
        colour = picture.expand(3, -1, -1).permute(1, 2, 0).numpy()
        changed = torch.from_numpy(np.array(self.change(Image.fromarray(np.ascontiguousarray(colour))))).permute(
            2, 0, 1
        )
        return changed if picture.shape[0] == 3 else v2.functional.rgb_to_grayscale(changed)
