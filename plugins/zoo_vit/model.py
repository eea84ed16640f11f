"""The rooms that know pictures: pixels to tokens, and tokens to one score a class.

Patches: Dosovitskiy et al. 2020, arXiv:2010.11929; convolutional stem and sequence pooling: Hassani et al. 2021,
arXiv:2104.05704; registers: Darcet et al. 2023, arXiv:2309.16588; distillation token: Touvron et al. 2020,
arXiv:2012.12877; attention pooling: Zhai et al. 2021, arXiv:2106.04560.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core import DENSE, Attention, Layout, Stream, interpolate_grid, sinusoids
from zoo.core.layers import MLP


class PictureEmbed(nn.Module):
    """Pictures as tokens: the class tokens, the registers, then the patches, row by row.

    Positions are learned for pictures of `image_size` and interpolated for others; class tokens have their own,
    registers have none. A side that the stride doesn't divide is padded below and to the right.

    Args:
        dim: Width of a token.
        image_size: Side of the pictures that positions are learned for, pixels.
        patch_size: Side of a patch, pixels, where there is no convolutional stem.
        num_conv_layers: Layers of the convolutional stem; 0 is linear patches.
        conv_width: Channels between those layers.
        position: `learned` or `sinusoidal`, of one half of the channels by row and of the other by column.
        class_position: Class tokens have learned positions too.
        norm: Applied to all tokens.
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
        patch_bias: bool = True,
        num_class_tokens: int = 1,
        num_registers: int = 0,
        position: str = "learned",
        class_position: bool = True,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.channels = dim, channels
        self.stride = 2**num_conv_layers if num_conv_layers else patch_size
        self.grid_size = -(-image_size // self.stride)
        self.num_prefix = num_class_tokens + num_registers
        if num_conv_layers:
            self.stem = conv_stem(channels, dim, num_conv_layers, conv_width)
        else:
            self.stem = nn.Conv2d(channels, dim, patch_size, stride=patch_size, bias=patch_bias)
        # Deviations are timm's: a token that stands for no patch starts from almost nothing.
        self.class_token = nn.Parameter(1e-6 * torch.randn(num_class_tokens, dim)) if num_class_tokens else None
        self.registers = nn.Parameter(1e-6 * torch.randn(num_registers, dim)) if num_registers else None
        self.position = None
        self.num_own_positions = num_class_tokens if class_position else 0
        if position == "learned":
            self.position = nn.Parameter(torch.empty(self.num_own_positions + self.grid_size**2, dim))
            nn.init.trunc_normal_(self.position, std=0.02)
        self.norm = norm or nn.Identity()

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
        prefix: list[Tensor] = [each for each in (self.class_token, self.registers) if each is not None]
        if self.position is None:
            x = x + grid_sinusoids(grid, self.dim, x.device).to(x.dtype)
        else:
            num_own = self.num_own_positions
            table = interpolate_grid(self.position, (self.grid_size, self.grid_size), grid, num_prefix=num_own)
            x = x + table[num_own:]
            if num_own:
                prefix[0] = prefix[0] + table[:num_own]
        if prefix:
            x = torch.cat([torch.cat(prefix).to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        return Stream(self.norm(x), DENSE)


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


class AttentionPool(nn.Module):
    """What a learned query attends to among the tokens, and an MLP upon it.

    Args:
        mlp_dim: Width inside the MLP; None is 4 · dim.
        norm: Before the MLP.
    """

    def __init__(
        self, dim: int, num_heads: int, *, mlp_dim: int | None = None, norm: nn.Module, activation: str = "gelu"
    ) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, dim))
        nn.init.trunc_normal_(self.query, std=dim**-0.5)
        self.attention = Attention(dim, num_heads, context_dim=dim)
        self.norm = norm
        self.mlp = MLP(dim, mlp_dim or 4 * dim, activation=activation)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        y = self.attention(self.query.expand(x.shape[0], -1, -1), context=x)[:, 0]
        return y + self.mlp(self.norm(y))

    def weights(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
        """Of each token the mean over the heads."""
        _, weights = self.attention(self.query.expand(x.shape[0], -1, -1), context=x, return_weights=True)
        return weights.mean(1)[:, 0]


class PictureHead(nn.Module):
    """Pool the tokens and score the classes. The classifier starts from zero: every class is equally likely.

    Where there are two class tokens, each has a classifier, and the scores are their mean; each one's own stand in
    `further`.

    Args:
        pool: `cls` is the class tokens, `mean` of the patches, `seq` their mean weighted by a learned score; an
            `AttentionPool` is itself.
        num_prefix: Tokens before the first patch.
        num_class_tokens: The first of them, which `cls` reads.
        norm: Applied to what was pooled.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        pool: str | AttentionPool,
        num_prefix: int,
        num_class_tokens: int = 1,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.num_prefix = num_prefix
        self.pool = pool if isinstance(pool, str) else "map"
        self.attention_pool = None if isinstance(pool, str) else pool
        self.score = nn.Linear(dim, 1) if pool == "seq" else None
        self.norm = norm or nn.Identity()
        self.classifier = nn.Linear(dim, num_classes)
        self.distilled = nn.Linear(dim, num_classes) if pool == "cls" and num_class_tokens == 2 else None
        for layer in (self.classifier, self.distilled):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        if self.score is not None:
            nn.init.trunc_normal_(self.score.weight, std=0.02)
            nn.init.zeros_(self.score.bias)

    def forward(
        self, x: Float[Tensor, "b t d"], layout: Layout = DENSE
    ) -> Float[Tensor, "b classes"] | tuple[Float[Tensor, "b classes"], dict[str, Tensor]]:
        own = self.classifier(self.norm(self._pooled(x)))
        if self.distilled is None:
            return own
        taught = self.distilled(self.norm(x[:, 1]))
        return (own + taught) / 2, {"classified": own, "distilled": taught}

    def readout_weights(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
        """How much each token counts in what is pooled; a picture's sum to 1."""
        if self.attention_pool is not None:
            return self.attention_pool.weights(x)
        weights = x.new_zeros(x.shape[:2])
        if self.pool == "cls":
            num_read = 1 if self.distilled is None else 2
            weights[:, :num_read] = 1 / num_read
        elif self.score is None:
            weights[:, self.num_prefix :] = 1 / (x.shape[1] - self.num_prefix)
        else:
            weights[:, self.num_prefix :] = self.score(x[:, self.num_prefix :]).squeeze(-1).softmax(1)
        return weights

    def _pooled(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        if self.attention_pool is not None:
            return self.attention_pool(x)
        if self.pool == "cls":
            return x[:, 0]
        patches = x[:, self.num_prefix :]
        if self.score is None:
            return patches.mean(1)
        weights = self.score(patches).softmax(1)
        return (weights.transpose(1, 2) @ patches).squeeze(1)
