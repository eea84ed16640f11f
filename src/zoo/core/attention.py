"""The core's heart: multi-head attention, self or cross, over dense, padded or packed tokens.

Vaswani et al. 2017, arXiv:1706.03762; grouped key and value heads: Ainslie et al. 2023, arXiv:2305.13245; query and key
norms: Dehghani et al. 2023, arXiv:2302.05442.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core import kernels
from zoo.core.layers import FusedLinear, init_linear, make_norm
from zoo.core.pack import DENSE, Layout, to_padded
from zoo.core.position import Rotary


@dataclass
class KVCache:
    """The keys and values that one attention has seen, for decoding step by step. Starts empty."""

    k: Float[Tensor, "b s g k"] | None = None
    v: Float[Tensor, "b s g k"] | None = None
    layout: Layout = DENSE

    @property
    def length(self) -> int:
        return 0 if self.k is None else self.k.shape[1]

    def append(
        self, k: Float[Tensor, "b t g k"], v: Float[Tensor, "b t g k"]
    ) -> tuple[Float[Tensor, "b s g k"], Float[Tensor, "b s g k"]]:
        """Add new tokens' keys and values and give all of them."""
        if self.k is not None and self.v is not None:
            k, v = torch.cat([self.k, k], 1), torch.cat([self.v, v], 1)
        self.k, self.v = k, v
        return k, v


class Attention(nn.Module):
    """softmax(Q Kᵀ · scale + bias) V, then a projection back to the width.

    Args:
        dim: width of a token.
        num_heads: query heads.
        num_kv_heads: key and value heads, a divisor of `num_heads`; None is as many.
        head_dim: width of a head; None is `dim // num_heads`.
        context_dim: width of a context token; given, this is cross-attention, None is self-attention.
        bias: which of q, k, v, out (and norm, for the query and key norms) have a bias.
        qk_norm: norm queries and keys, head by head.
        norm: kind of those norms.
        norm_eps: their epsilon.
        scale: of the scores; None is 1/√head_dim.
        dropout: probability that an attention weight is dropped in training.
        causal: attend to no later token.
        window: attend to |i - j| <= window // 2; when causal, to the `window` latest tokens. None or 0 is everywhere.
        rotary: rotates queries and keys by their positions; self-attention only.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        context_dim: int | None = None,
        bias: Collection[str] = ("q", "k", "v", "out", "norm"),
        qk_norm: bool = False,
        norm: str = "layernorm",
        norm_eps: float = 1e-6,
        scale: float | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        window: int | None = None,
        rotary: Rotary | None = None,
    ) -> None:
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        if head_dim is None and dim % num_heads:
            raise ValueError(f"dim {dim} is no multiple of num_heads {num_heads}; change one, or give head_dim")
        if num_heads % num_kv_heads:
            raise ValueError(f"num_heads {num_heads} is no multiple of num_kv_heads {num_kv_heads}; change one")
        if context_dim is not None and (causal or window or rotary):
            raise ValueError(
                "cross-attention has no causal, window or rotary: its tokens and context share no positions"
            )
        self.head_dim = head_dim or dim // num_heads
        self.scale, self.dropout, self.causal, self.window, self.rotary = scale, dropout, causal, window, rotary
        self.is_cross = context_dim is not None

        q_dim, kv_dim = num_heads * self.head_dim, num_kv_heads * self.head_dim
        biased = ["q" in bias, "k" in bias, "v" in bias]
        if context_dim is None:
            self.qkv = FusedLinear(dim, [q_dim, kv_dim, kv_dim], biased)
        else:
            self.q = nn.Linear(dim, q_dim, bias=biased[0])
            init_linear(self.q)
            self.kv = FusedLinear(context_dim, [kv_dim, kv_dim], biased[1:])
        self.q_norm = make_norm(norm, self.head_dim, norm_eps, bias="norm" in bias) if qk_norm else nn.Identity()
        self.k_norm = make_norm(norm, self.head_dim, norm_eps, bias="norm" in bias) if qk_norm else nn.Identity()
        self.out = nn.Linear(q_dim, dim, bias="out" in bias)
        init_linear(self.out)

    def forward(
        self,
        x: Float[Tensor, "*tokens d"],
        layout: Layout = DENSE,
        *,
        context: Float[Tensor, "*context c"] | None = None,
        context_layout: Layout | None = None,
        bias: Float[Tensor, "#b #h #t s"] | None = None,
        cache: KVCache | None = None,
        return_weights: bool = False,
    ) -> Float[Tensor, "*tokens d"] | tuple[Float[Tensor, "*tokens d"], Float[Tensor, "b h t s"]]:
        """Mix tokens.

        Args:
            context: what cross-attention attends to; None once the cache holds it.
            bias: added to the scores; in padded shape whatever the layout.
            cache: earlier keys and values; `x` holds the tokens that follow them. Only for dense tokens.
            return_weights: give the softmax's weights too, before dropout, in padded shape.

        Raises:
            ValueError: when cross-attention has no context, self-attention has one, or a cache meets ragged tokens.
        """
        if self.is_cross:
            q = self._heads(self.q(x), self.q_norm)
            k, v, context_layout = self._context(context, context_layout or DENSE, cache)
        elif context is not None:
            raise ValueError(
                "this is self-attention and takes no context; build it with context_dim for cross-attention"
            )
        else:
            q, k, v = self._tokens(x, layout, cache)
            context_layout = layout
        out, weights = kernels.attend(
            q.to(v.dtype),  # under autocast norms and rotations come out wider
            k.to(v.dtype),
            v,
            layout,
            context_layout,
            bias=bias,
            causal=self.causal,
            window=self.window,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
            return_weights=return_weights,
        )
        out = self.out(out.flatten(-2))
        return out if weights is None else (out, weights)

    def _tokens(self, x: Tensor, layout: Layout, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x)
        q, k, v = self._heads(q, self.q_norm), self._heads(k, self.k_norm), self._heads(v)
        if self.rotary is not None:
            q, k = self.rotary(q, k, layout.positions(x) + (cache.length if cache else 0))
        if cache is None:
            return q, k, v
        if layout.packed or layout.padded:
            raise ValueError("a cache takes dense tokens only; decode sequences of different lengths one at a time")
        return q, *cache.append(k, v)

    def _context(self, context: Tensor | None, layout: Layout, cache: KVCache | None) -> tuple[Tensor, Tensor, Layout]:
        """Keys and values of the context: computed once when there is a cache."""
        if cache is not None and cache.k is not None and cache.v is not None:
            return cache.k, cache.v, cache.layout
        if context is None:
            raise ValueError("cross-attention needs a context")
        k, v = self.kv(context)
        k, v = self._heads(k, self.k_norm), self._heads(v)
        if cache is not None:
            if layout.packed:
                valid = layout.padding_mask(k.shape[0])
                k, v, layout = to_padded(k, layout), to_padded(v, layout), Layout(valid=valid)
            cache.k, cache.v, cache.layout = k, v, layout
        return k, v, layout

    def _heads(self, x: Float[Tensor, "*tokens _"], norm: nn.Module | None = None) -> Float[Tensor, "*tokens _ k"]:
        x = x.unflatten(-1, (-1, self.head_dim))
        return x if norm is None else norm(x)
