"""What a model costs, by formula: parameters, forward floating-point operations, memory while training. Torch-free.

Operations are counted as `torch.utils.flop_counter` does: 2·m·n·k for a matrix product, both products of attention over
every pair of tokens whether masked or not; norms, activations and additions count nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.specs import CoreSpec, TrainSpec

FLOAT32_BYTES = 4
_GATED = {"swiglu", "geglu"}
_KEPT_BY_ACTIVATION = {"relu": 0, "gelu": 1, "gelu_tanh": 1, "silu": 1, "quick_gelu": 2, "swiglu": 3, "geglu": 3}
"""Tensors of the hidden width kept beside the input of the MLP's second layer."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a part of a model; parts are added.

    Args:
        parameters: Learned numbers.
        flops: Floating-point operations of the forward pass, one item.
        activations: Numbers kept for the backward pass, one item.
    """

    parameters: int = 0
    flops: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops, self.activations + other.activations)

    def __mul__(self, count: int) -> Cost:
        return Cost(self.parameters * count, self.flops * count, self.activations * count)


def linear(num_tokens: int, in_dim: int, out_dim: int, *, bias: bool = True) -> Cost:
    """A linear layer. What it keeps for the backward pass is its input."""
    return Cost(in_dim * out_dim + bias * out_dim, 2 * num_tokens * in_dim * out_dim, num_tokens * in_dim)


def norm(num_tokens: int, dim: int, *, kind: str = "layernorm", bias: bool = True) -> Cost:
    """A norm. It keeps its input; torch's RMSNorm on the CPU, which is not fused, its unscaled output too."""
    return Cost(dim * (2 if bias and kind == "layernorm" else 1), 0, num_tokens * dim * (2 if kind == "rmsnorm" else 1))


def core_cost(core: CoreSpec, num_tokens: int, num_context: int = 0) -> Cost:
    """The core over one item.

    Args:
        num_tokens: Tokens of the item, class tokens and the like included.
        num_context: Tokens of the context that cross-attention reads.
    """
    block = _attention(core, num_tokens) + mlp_cost(core, num_tokens)
    if core.cross_attention:
        block += _attention(core, num_tokens, num_context, core.context_dim or core.dim)
    if core.conv_kernel:
        block += _convolution(core, num_tokens, core.conv_kernel)
    num_norms = core.final_norm - (not core.first_norm)
    return block * core.depth + _norm(core, num_tokens, core.dim) * num_norms


def core_parameters(core: CoreSpec) -> int:
    return core_cost(core, 0).parameters


def mlp_cost(core: CoreSpec, t: int) -> Cost:
    """A branch of MLP. Besides the layers' inputs it keeps what the activation and the gate need."""
    hidden = core.sizes["mlp_dim"]
    fc1 = linear(t, core.dim, hidden * (2 if core.activation in _GATED else 1), bias="mlp" in core.bias)
    fc2 = linear(t, hidden, core.dim, bias="mlp" in core.bias)
    between = Cost(activations=t * hidden * _KEPT_BY_ACTIVATION[core.activation])
    return _norm(core, t, core.dim) + fc1 + between + fc2 + _layer_scale(core, t)


def training_memory_bytes(cost: Cost, train: TrainSpec) -> int:
    """An estimate of what training holds at its peak.

    In fp32, 4 bytes × (per parameter: the weight, its gradient, AdamW's two moments or SGD's momentum, and the EMA
    where it is on; per item of a micro-batch: the activations).

    Left out: the program itself, the data, what kernels use in passing. bf16 halves the activations at best.
    """
    copies = 2 + (2 if train.optimizer == "adamw" else 1) + (train.ema_decay is not None)
    return FLOAT32_BYTES * (copies * cost.parameters + train.batch_size * cost.activations)


def _attention(core: CoreSpec, t: int, s: int | None = None, context_dim: int | None = None) -> Cost:
    """A branch of attention over `s` keys: over the tokens themselves, or over a context of width `context_dim`.

    Projections of one input keep it once; the products keep queries, keys, values and the sum that `out` reads.
    """
    s, is_cross = (t, False) if s is None else (s, True)
    sizes = core.sizes
    head_dim = sizes["head_dim"]
    q_dim, kv_dim = core.num_heads * head_dim, sizes["num_kv_heads"] * head_dim
    q = linear(t, core.dim, q_dim, bias="q" in core.bias)
    k = linear(s, context_dim or core.dim, kv_dim, bias="k" in core.bias)
    v = linear(s, context_dim or core.dim, kv_dim, bias="v" in core.bias)
    shared = v.activations + (0 if is_cross else k.activations)
    products = Cost(0, 2 * 2 * t * s * q_dim, t * q_dim + 2 * s * kv_dim - shared)
    cost = _norm(core, t, core.dim) + q + k + v + products + linear(t, q_dim, core.dim, bias="out" in core.bias)
    if core.qk_norm:
        normed = [_norm(core, rows * heads, head_dim) for rows, heads in ((t, core.num_heads), (s, kv_dim // head_dim))]
        cost += normed[0] + normed[1]
    return cost + _layer_scale(core, t)


def _convolution(core: CoreSpec, t: int, kernel: int) -> Cost:
    """A branch of convolution. Besides its layers' inputs it keeps both halves of the gate and what SiLU reads."""
    dim, bias = core.dim, "mlp" in core.bias
    gate, out = linear(t, dim, 2 * dim, bias=bias), linear(t, dim, dim, bias=bias)
    depthwise = Cost(dim * kernel + bias * dim, 2 * t * dim * kernel, t * dim)
    between = Cost(activations=3 * t * dim) + _norm(core, t, dim)
    return _norm(core, t, dim) + gate + depthwise + between + out + _layer_scale(core, t)


def _layer_scale(core: CoreSpec, t: int) -> Cost:
    return Cost() if core.layer_scale is None else Cost(core.dim, 0, t * core.dim)


def _norm(core: CoreSpec, num_tokens: int, dim: int) -> Cost:
    return norm(num_tokens, dim, kind=core.norm, bias="norm" in core.bias)
