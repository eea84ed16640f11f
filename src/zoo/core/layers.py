"""The core's small parts, those that a block is made of: norms, fused projections, the MLP, drop path.

LayerNorm: Ba et al. 2016, arXiv:1607.06450; RMSNorm: Zhang and Sennrich 2019, arXiv:1910.07467; GELU: Hendrycks and
Gimpel 2016, arXiv:1606.08415; GLU variants: Shazeer 2020, arXiv:2002.05202; stochastic depth: Huang et al. 2016,
arXiv:1603.09382.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.core.pack import DENSE, Layout


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# name → (function, whether a linear gate goes with it)
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "gelu": (F.gelu, False),
    "gelu_tanh": (_gelu_tanh, False),
    "quick_gelu": (_quick_gelu, False),
    "relu": (F.relu, False),
    "silu": (F.silu, False),
    "swiglu": (F.silu, True),
    "geglu": (F.gelu, True),
}


def standardise(x: Float[Tensor, "b t"], length: Int[Tensor, " b"], eps: float) -> Float[Tensor, "b t"]:
    """Each row with mean 0 and variance 1, of which pads are no part; they become 0.

    Args:
        length: How much of each row is real.
        eps: Added to the variance.
    """
    real = torch.arange(x.shape[1], device=x.device) < length[:, None]
    mean = (x * real).sum(1, keepdim=True) / length[:, None]
    centred = (x - mean) * real
    variance = centred.square().sum(1, keepdim=True) / length[:, None]
    return centred / (variance + eps).sqrt()


def make_norm(kind: str, dim: int, eps: float, *, bias: bool = True) -> nn.Module:
    """A norm over the last axis: `layernorm`, or `rmsnorm`, which has no bias."""
    if kind == "layernorm":
        return nn.LayerNorm(dim, eps=eps, bias=bias)
    if kind == "rmsnorm":
        return nn.RMSNorm(dim, eps=eps)
    raise ValueError(f"unknown norm {kind!r}; choose layernorm or rmsnorm")


def init_linear(module: nn.Module) -> None:
    """Start a linear layer from a truncated normal of deviation 0.02 and zero biases; for `Module.apply` too."""
    if isinstance(module, nn.Linear | FusedLinear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class FusedLinear(nn.Module):
    """Several projections of the same input as one matrix product, each with a bias or without.

    `weight` holds the projections' rows one after another, `bias` those of the biased ones only.

    Args:
        in_dim: width of the input.
        out_dims: width of each projection.
        biased: which projections have a bias.
    """

    def __init__(self, in_dim: int, out_dims: Sequence[int], biased: Sequence[bool]) -> None:
        super().__init__()
        self.out_dims = tuple(out_dims)
        self.biased = tuple(biased)
        self.weight = nn.Parameter(torch.empty(sum(out_dims), in_dim))
        num_biases = sum(dim for dim, has in zip(out_dims, biased, strict=True) if has)
        self.bias = nn.Parameter(torch.empty(num_biases)) if num_biases else None
        init_linear(self)

    def forward(self, x: Float[Tensor, "*tokens d"]) -> tuple[Float[Tensor, "*tokens _"], ...]:
        return F.linear(x, self.weight, self._full_bias()).split(self.out_dims, -1)

    def _full_bias(self) -> Float[Tensor, " out"] | None:
        if self.bias is None or all(self.biased):
            return self.bias
        parts = iter(self.bias.split([dim for dim, has in zip(self.out_dims, self.biased, strict=True) if has]))
        pairs = zip(self.out_dims, self.biased, strict=True)
        return torch.cat([next(parts) if has else self.bias.new_zeros(dim) for dim, has in pairs])

    def extra_repr(self) -> str:
        return f"in_dim={self.weight.shape[1]}, out_dims={self.out_dims}, biased={self.biased}"


class MLP(nn.Module):
    """Two linear layers with an activation between; `fc1` of a gated one makes gate and value in one product.

    Args:
        hidden_dim: width between the layers, after the gate.
        activation: a key of `ACTIVATIONS`.
        dropout: after the activation.
    """

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: str = "gelu", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        self.activation, self.gated = ACTIVATIONS[activation]
        self.fc1 = nn.Linear(dim, hidden_dim * (2 if self.gated else 1), bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden_dim, dim, bias=bias)
        init_linear(self.fc1)
        init_linear(self.fc2)

    def forward(self, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens d"]:
        x = self.fc1(x)
        if self.gated:
            gate, value = x.chunk(2, -1)
            x = self.activation(gate) * value
        else:
            x = self.activation(x)
        return self.fc2(self.dropout(x))


class DropPath(nn.Module):
    """Zero a residual branch for whole sequences, in any layout, and scale the others up to keep the mean."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE) -> Float[Tensor, "*tokens d"]:
        if self.rate == 0.0 or not self.training:
            return x
        num_sequences = x.shape[0] if layout.cu_seqlens is None else layout.cu_seqlens.numel() - 1
        keep = x.new_empty(num_sequences).bernoulli_(1.0 - self.rate) / (1.0 - self.rate)
        if layout.packed:
            return x * keep[layout.sequence_index(x.shape[0]), None]
        return x * keep[:, None, None]

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"
