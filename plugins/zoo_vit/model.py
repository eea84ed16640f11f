"""The rooms that know pictures: pixels to tokens, and tokens to one score a class.

Patches: Dosovitskiy et al. 2020, arXiv:2010.11929; convolutional stem and sequence pooling: Hassani et al. 2021,
arXiv:2104.05704; registers: Darcet et al. 2023, arXiv:2309.16588.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core import DENSE, Layout, Stream, interpolate_grid, sinusoids


class PictureEmbed(nn.Module):
    """Pictures as tokens: the class token where there is one, the registers, then the patches, row by row.

    Positions are learned for pictures of `image_size` and interpolated for others; the class token has one of its own,
    registers have none. A side that the stride doesn't divide is padded below and to the right.

    Args:
        dim: Width of a token.
        image_size: Side of the pictures that positions are learned for, pixels.
        patch_size: Side of a patch, pixels, where there is no convolutional stem.
        num_conv_layers: Layers of the convolutional stem; 0 is linear patches.
        conv_width: Channels between those layers.
        position: `learned` or `sinusoidal`, of one half of the channels by row and of the other by column.
    """

    def __init__(
        self,
        dim: int,
        image_size: int,
        *,
        channels: int = 3,
        patch_size: int = 16,
        num_conv_layers: int = 0,
        conv_width: int = 64,
        class_token: bool = True,
        num_registers: int = 0,
        position: str = "learned",
    ) -> None:
        super().__init__()
        self.dim, self.channels = dim, channels
        self.stride = 2**num_conv_layers if num_conv_layers else patch_size
        self.grid_size = -(-image_size // self.stride)
        self.num_prefix = class_token + num_registers
        if num_conv_layers:
            self.stem = conv_stem(channels, dim, num_conv_layers, conv_width)
        else:
            self.stem = nn.Conv2d(channels, dim, patch_size, stride=patch_size)
        # Deviations are timm's: a token that stands for no patch starts from almost nothing.
        self.class_token = nn.Parameter(1e-6 * torch.randn(1, dim)) if class_token else None
        self.registers = nn.Parameter(1e-6 * torch.randn(num_registers, dim)) if num_registers else None
        self.position = None
        if position == "learned":
            self.position = nn.Parameter(torch.empty(class_token + self.grid_size**2, dim))
            nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, image: Float[Tensor, "b c height width"]) -> Stream:
        """
        Raises:
            ValueError: The pictures have another number of channels.
        """
        if image.shape[1] != self.channels:
            raise ValueError(
                f"pictures have {image.shape[1]} channels, but the model reads {self.channels}; convert them"
            )
        height, width = image.shape[-2:]
        patches = self.stem(F.pad(image, (0, -width % self.stride, 0, -height % self.stride)))
        grid = (patches.shape[-2], patches.shape[-1])
        x = patches.flatten(2).transpose(1, 2)
        prefix = []
        if self.position is None:
            x = x + grid_sinusoids(grid, self.dim, x.device).to(x.dtype)
            own = None
        else:
            num_own = int(self.class_token is not None)
            table = interpolate_grid(self.position, (self.grid_size, self.grid_size), grid, num_prefix=num_own)
            own, x = table[:num_own], x + table[num_own:]
        if self.class_token is not None:
            prefix.append(self.class_token if own is None else self.class_token + own)
        if self.registers is not None:
            prefix.append(self.registers)
        if prefix:
            x = torch.cat([torch.cat(prefix).to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        return Stream(x, DENSE)


def conv_stem(channels: int, dim: int, num_layers: int, width: int) -> nn.Sequential:
    """Layers of 3×3 convolution, ReLU and 3×3 max pooling, each of which halves the picture."""
    widths = [channels, *[width] * (num_layers - 1), dim]
    stem = nn.Sequential()
    for before, after in pairwise(widths):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        stem.extend([conv, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)])
    return stem


def grid_sinusoids(grid: tuple[int, int], dim: int, device: torch.device) -> Float[Tensor, "cells dim"]:
    """Sinusoids of the row in one half of the channels and of the column in the other."""
    rows, columns = (sinusoids(torch.arange(size, device=device), dim // 2) for size in grid)
    return torch.cat([rows.repeat_interleave(grid[1], 0), columns.repeat(grid[0], 1)], -1)


class PictureHead(nn.Module):
    """Pool the tokens and score the classes. The classifier starts from zero: every class is equally likely.

    Args:
        pool: `cls` is the first token, `mean` of the patches, `seq` their mean weighted by a learned score.
        num_prefix: Tokens before the first patch.
        norm: Applied to what was pooled.
    """

    def __init__(
        self, dim: int, num_classes: int, *, pool: str, num_prefix: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.pool, self.num_prefix = pool, num_prefix
        self.score = nn.Linear(dim, 1) if pool == "seq" else None
        self.norm = norm or nn.Identity()
        self.classifier = nn.Linear(dim, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        if self.score is not None:
            nn.init.trunc_normal_(self.score.weight, std=0.02)
            nn.init.zeros_(self.score.bias)

    def forward(self, x: Float[Tensor, "b t d"], layout: Layout = DENSE) -> Float[Tensor, "b classes"]:
        return self.classifier(self.norm(self._pooled(x)))

    def readout_weights(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
        """How much each token counts in what is pooled; a picture's sum to 1."""
        weights = x.new_zeros(x.shape[:2])
        if self.pool == "cls":
            weights[:, 0] = 1
        elif self.score is None:
            weights[:, self.num_prefix :] = 1 / (x.shape[1] - self.num_prefix)
        else:
            weights[:, self.num_prefix :] = self.score(x[:, self.num_prefix :]).squeeze(-1).softmax(1)
        return weights

    def _pooled(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        if self.pool == "cls":
            return x[:, 0]
        patches = x[:, self.num_prefix :]
        if self.score is None:
            return patches.mean(1)
        weights = self.score(patches).softmax(1)
        return (weights.transpose(1, 2) @ patches).squeeze(1)
