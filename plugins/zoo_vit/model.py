"""The rooms that know pictures: pixels to tokens, and tokens to one score a class.

Patches: Dosovitskiy et al. 2020, arXiv:2010.11929; convolutional stem and sequence pooling: Hassani et al. 2021,
arXiv:2104.05704; registers: Darcet et al. 2023, arXiv:2309.16588; distillation token: Touvron et al. 2020,
arXiv:2012.12877; attention pooling: Zhai et al. 2021, arXiv:2106.04560.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.core import DENSE, Attention, Layout, Stream, Transformer, init_linear, interpolate_grid, sinusoids
from zoo.core.layers import MLP


class PictureEmbed(nn.Module):
    """Pictures as tokens: the class tokens, the registers, then the patches, row by row.

    Positions are learned for pictures of `image_size` and interpolated for others; class tokens have their own,
    registers have none. A side that the stride doesn't divide is padded or cut, below and to the right.

    Args:
        dim: Width of a token.
        image_size: Side of the pictures that positions are learned for, pixels.
        patch_size: Side of a patch, pixels, where there is no convolutional stem.
        num_conv_layers: Layers of the convolutional stem; 0 is linear patches.
        conv_width: Channels between those layers.
        position: `learned` or `sinusoidal`, of one half of the channels by row and of the other by column.
        class_position: Class tokens have learned positions too.
        cut: Rather than pad what the stride doesn't divide.
        smooth: Positions that are interpolated for smaller pictures.
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
        cut: bool = False,
        smooth: bool = True,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.channels, self.cut, self.smooth = dim, channels, cut, smooth
        self.stride = 2**num_conv_layers if num_conv_layers else patch_size
        self.grid_size = (image_size if cut else image_size + self.stride - 1) // self.stride
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

    def resize(self, name: str, tensor: Tensor) -> Tensor:
        """Positions learned for squares of another size, for those of this one."""
        own, new = self.num_own_positions, self.grid_size
        old = math.isqrt(len(tensor) - own)
        if name != "position" or own + old**2 != len(tensor):
            return tensor
        return interpolate_grid(tensor, (old, old), (new, new), num_prefix=own, antialias=self.smooth)

    def forward(
        self,
        image: Float[Tensor, "b c height width"],
        visible: Int[Tensor, "b v"] | None = None,
        masked: Int[Tensor, "b m"] | None = None,
    ) -> Stream:
        """
        Args:
            visible: the only patches that become tokens, of pictures of `image_size`; None is all.
            masked: the others, for a `PatchDecoder`.

        Raises:
            ValueError: The pictures have another number of channels.
        """
        if image.shape[1] != self.channels:
            raise ValueError(
                f"pictures have {image.shape[1]} channels, but the model reads {self.channels}; convert them"
            )
        patches = self.stem(whole_patches(image, self.stride, cut=self.cut))
        grid = (patches.shape[-2], patches.shape[-1])
        x = patches.flatten(2).transpose(1, 2)
        prefix: list[Tensor] = [each for each in (self.class_token, self.registers) if each is not None]
        if self.position is None:
            x = x + grid_sinusoids(grid, self.dim, x.device).to(x.dtype)
        else:
            num_own, old = self.num_own_positions, (self.grid_size, self.grid_size)
            table = interpolate_grid(self.position, old, grid, num_prefix=num_own, antialias=self.smooth)
            x = x + table[num_own:]
            if num_own:
                prefix[0] = prefix[0] + table[:num_own]
        if visible is not None:
            x = x.gather(1, visible[:, :, None].expand(-1, -1, self.dim))
        if prefix:
            x = torch.cat([torch.cat(prefix).to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        aside = {} if visible is None else {"visible": visible, "masked": masked}
        return Stream(self.norm(x), DENSE, aside)


def whole_patches(
    image: Float[Tensor, "b c height width"], stride: int, *, cut: bool
) -> Float[Tensor, "b c whole_height whole_width"]:
    """Pictures with sides that the stride divides: cut, or padded with zeros, below and to the right."""
    height, width = image.shape[-2:]
    if cut:
        return image[..., : height - height % stride, : width - width % stride]
    return F.pad(image, (0, -width % stride, 0, -height % stride))


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


class PatchDecoder(nn.Module):
    """The pixels of patches that are hidden, from the tokens of those that are seen (He et al. 2021).

    Args:
        dim: Width of the core's tokens.
        core: Of the decoder; its width may be another.
        grid_size: Patches along each side of a picture.
        num_prefix: Tokens before the first patch.
        num_values: Of a patch.
    """

    def __init__(self, dim: int, core: Transformer, *, grid_size: int, num_prefix: int, num_values: int) -> None:
        super().__init__()
        self.dim, self.grid, self.num_prefix = dim, (grid_size, grid_size), num_prefix
        self.project = nn.Linear(dim, core.dim)
        self.mask_token = nn.Parameter(torch.empty(core.dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.core = core
        self.draw = nn.Linear(core.dim, num_values)
        init_linear(self.project)
        init_linear(self.draw)

    def forward(
        self, x: Float[Tensor, "b t d"], layout: Layout, visible: Int[Tensor, "b v"], masked: Int[Tensor, "b m"]
    ) -> Float[Tensor, "b m values"]:
        x = self.project(x)
        places = grid_sinusoids(self.grid, self.core.dim, x.device).to(x.dtype)
        prefix, seen = x[:, : self.num_prefix], x[:, self.num_prefix :] + places[visible]
        y = self.core(torch.cat([prefix, seen, self.mask_token.to(x.dtype) + places[masked]], 1))
        return self.draw(y[:, -masked.shape[1] :])


class PictureHead(nn.Module):
    """Pool the tokens and score the classes. The classifier starts from zero: every class is equally likely.

    Where there are two class tokens, each may have a classifier, and the scores are their mean; each one's own stand in
    `further`.

    Args:
        pool: `cls` is the class tokens, `mean` of the patches, `cls_mean` the first beside the second, `seq` the
            patches' mean weighted by a learned score; an `AttentionPool` is itself.
        num_prefix: Tokens before the first patch.
        distilled: A second class token, which `cls` reads too, has a classifier of its own.
        norm: Applied to what was pooled.
        pooler: Put what was pooled through a linear layer and `tanh`, or a `linear` one alone.
        pooler_dim: Width that it gives; None is `dim`.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        pool: str | AttentionPool,
        num_prefix: int,
        distilled: bool = False,
        norm: nn.Module | None = None,
        pooler: str | None = None,
        pooler_dim: int | None = None,
        pooler_bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_prefix = num_prefix
        self.pool = pool if isinstance(pool, str) else "map"
        self.attention_pool = None if isinstance(pool, str) else pool
        self.score = nn.Linear(dim, 1) if pool == "seq" else None
        self.norm = norm or nn.Identity()
        width = dim * (2 if pool == "cls_mean" else 1)
        self.pooler = nn.Linear(width, pooler_dim or dim, bias=pooler_bias) if pooler else None
        self.activation = nn.Tanh() if pooler == "tanh" else nn.Identity()
        if self.pooler is not None:
            init_linear(self.pooler)
            width = pooler_dim or dim
        self.classifier = nn.Linear(width, num_classes)
        self.distilled = nn.Linear(dim, num_classes) if distilled else None
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
        pooled = self.norm(self._pooled(x))
        if self.pooler is not None:
            pooled = self.activation(self.pooler(pooled))
        own = self.classifier(pooled)
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
            share = 0.5 if self.pool == "cls_mean" else 1.0
            weights[:, self.num_prefix :] = share / (x.shape[1] - self.num_prefix)
            weights[:, :1] += 1 - share
        else:
            weights[:, self.num_prefix :] = self.score(x[:, self.num_prefix :]).squeeze(-1).softmax(1)
        return weights

    def _pooled(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        if self.attention_pool is not None:
            return self.attention_pool(x)
        if self.pool == "cls":
            return x[:, 0]
        patches = x[:, self.num_prefix :]
        if self.pool == "cls_mean":
            return torch.cat([x[:, 0], patches.mean(1)], -1)
        if self.score is None:
            return patches.mean(1)
        weights = self.score(patches).softmax(1)
        return (weights.transpose(1, 2) @ patches).squeeze(1)
