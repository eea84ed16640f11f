"""The core's sense of order: rotary positions for attention; learned and sinusoidal ones for whoever embeds tokens.

Rotary: Su et al. 2021, arXiv:2104.09864; sinusoids: Vaswani et al. 2017, arXiv:1706.03762; interpolated grids:
Dosovitskiy et al. 2020, arXiv:2010.11929.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.core.pack import DENSE, Layout


class Rotary(nn.Module):
    """Rotate channel pairs of queries and keys by angles that grow with the position, so that scores see distances.

    Pair i is channels i and i + dim/2 (the half-split order of Llama and GPT-NeoX); its angle is
    position · theta^(-2i/dim). The angles are computed in float32 at each call: nothing to save, and casting a model to
    half precision doesn't blunt them.

    Args:
        dim: how many leading channels of a head are rotated; even. The rest pass.
        theta: base of the wavelengths.
    """

    def __init__(self, dim: int, theta: float = 10_000.0) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"rotary positions turn pairs of channels; {dim} is odd")
        self.dim = dim
        self.theta = theta

    def forward(
        self, q: Float[Tensor, "*tokens h k"], k: Float[Tensor, "*tokens g k"], positions: Int[Tensor, " positions"]
    ) -> tuple[Float[Tensor, "*tokens h k"], Float[Tensor, "*tokens g k"]]:
        pair = torch.arange(0, self.dim, 2, dtype=torch.float32, device=q.device)
        # As 1 / theta^x, not theta^-x: published models round it so.
        angle = positions[:, None, None].float() * (1.0 / self.theta ** (pair / self.dim))
        cos, sin = angle.cos(), angle.sin()
        return self._rotate(q, cos, sin), self._rotate(k, cos, sin)

    def _rotate(
        self, x: Float[Tensor, "*tokens h k"], cos: Float[Tensor, "t 1 pairs"], sin: Float[Tensor, "t 1 pairs"]
    ) -> Float[Tensor, "*tokens h k"]:
        first, second, rest = x.split([self.dim // 2, self.dim // 2, x.shape[-1] - self.dim], -1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
        return torch.cat([turned, rest], -1) if rest.shape[-1] else turned

    def extra_repr(self) -> str:
        return f"dim={self.dim}, theta={self.theta:g}"


class LearnedPosition(nn.Module):
    """Add a learned vector to each token by its place in its sequence.

    Args:
        max_len: the longest sequence, in tokens.
        dim: width of a token.
    """

    def __init__(self, max_len: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_len, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def resize(self, name: str, tensor: Tensor) -> Tensor:
        """Of positions learned for longer sequences, as many as there are here."""
        return tensor[: len(self.weight)]

    def forward(
        self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE, offset: int = 0
    ) -> Float[Tensor, "*tokens d"]:
        """Add positions; `offset` is how many tokens came before, in decoding.

        Raises:
            ValueError: when a sequence is longer than `max_len`.
        """
        end = offset + (x.shape[-2] if layout.max_len is None else layout.max_len)
        if end > self.weight.shape[0]:
            raise ValueError(
                f"a sequence has {end} tokens, but only {self.weight.shape[0]} positions were learned; shorten it"
            )
        if layout.packed:
            # Indexing adds the gradients of repeated places in whichever order the threads come; embedding does not.
            return x + F.embedding(layout.positions(x) + offset, self.weight)
        return x + self.weight[offset:end]


class SinusoidalPosition(nn.Module):
    """Add fixed sinusoids to each token by its place in its sequence, however long."""

    def forward(
        self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE, offset: int = 0
    ) -> Float[Tensor, "*tokens d"]:
        """Add positions; `offset` is how many tokens came before, in decoding."""
        return x + sinusoids(layout.positions(x) + offset, x.shape[-1]).to(x.dtype)


def sinusoids(positions: Int[Tensor, " t"], dim: int) -> Float[Tensor, "t d"]:
    """Channel 2i is sin(position / 10000^(2i/dim)) and channel 2i + 1 its cosine: Vaswani et al. 2017, section 3.5."""
    pair = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device)
    angle = positions[:, None].float() * torch.exp(pair * (-math.log(10_000.0) / dim))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)[:, :dim]


def interpolate_grid(
    table: Float[Tensor, "old d"],
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    num_prefix: int = 0,
    antialias: bool = True,
) -> Float[Tensor, "new d"]:
    """Resize learned positions of a grid, rows first, to another grid: bicubic.

    Args:
        old: rows and columns that the table was learned for.
        new: rows and columns wanted.
        num_prefix: leading positions that belong to no cell of the grid and are kept.
        antialias: smooth what a smaller grid cannot hold, as timm does and transformers does not.
    """
    if table.shape[0] != num_prefix + math.prod(old):
        raise ValueError(
            f"a table of {table.shape[0]} positions is no grid of {old[0]} x {old[1]} with {num_prefix} before it"
        )
    if old == new:
        return table
    prefix, grid = table[:num_prefix], table[num_prefix:]
    grid = grid.float().T.unflatten(-1, old)[None]
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=antialias)[0]
    return torch.cat([prefix, grid.flatten(1).T.to(table.dtype)])
