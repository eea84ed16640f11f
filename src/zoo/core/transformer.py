"""The core's body: blocks of attention and MLP, stacked; encoder, decoder, or decoder with cross-attention.

A knob puts a convolution between the two, as a conformer has it.

Vaswani et al. 2017, arXiv:1706.03762; norm before or after: Xiong et al. 2020, arXiv:2002.04745; layer scale: Touvron
et al. 2021, arXiv:2103.17239; stochastic depth: Huang et al. 2016, arXiv:1603.09382.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core.attention import Attention, KVCache
from zoo.core.convolution import Convolution
from zoo.core.layers import MLP, DropPath, make_norm
from zoo.core.pack import DENSE, Layout
from zoo.core.position import Rotary

BIASES = ("q", "k", "v", "out", "mlp", "norm")


@dataclass
class BlockCache:
    """What one block remembers between decoding steps."""

    attention: KVCache = field(default_factory=KVCache)
    cross_attention: KVCache = field(default_factory=KVCache)


@dataclass
class Intermediates:
    """What happened inside: for probes, comparisons and drawing.

    Args:
        hidden: the input, then each block's output; one more than there are blocks.
        weights: each block's self-attention weights, in padded shape.
        cross_weights: the same of its cross-attention; empty where there is none.
        output: the core's output, after the final norm.
    """

    hidden: tuple[Float[Tensor, "*tokens d"], ...]
    weights: tuple[Float[Tensor, "b h t t"], ...]
    cross_weights: tuple[Float[Tensor, "b h t s"], ...]
    output: Float[Tensor, "*tokens d"]


class Block(nn.Module):
    """Self-attention, cross-attention where there is a context, perhaps a convolution, and an MLP, each in a residual
    branch.

    Pre-norm: x + branch(norm(x)); post-norm: norm(x + branch(x)).
    """

    def __init__(
        self,
        attention: Attention,
        mlp: MLP,
        cross_attention: Attention | None = None,
        convolution: Convolution | None = None,
        *,
        dim: int,
        norm: str = "layernorm",
        norm_eps: float = 1e-6,
        norm_bias: bool = True,
        norm_position: str = "pre",
        layer_scale: float | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.pre_norm = norm_position == "pre"

        def scale() -> nn.Parameter | None:
            return None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

        self.norm1 = make_norm(norm, dim, norm_eps, bias=norm_bias)
        self.attention = attention
        self.scale1 = scale()
        self.cross_attention = cross_attention
        if cross_attention is not None:
            self.cross_norm = make_norm(norm, dim, norm_eps, bias=norm_bias)
            self.cross_scale = scale()
        self.convolution = convolution
        if convolution is not None:
            self.conv_norm = make_norm(norm, dim, norm_eps, bias=norm_bias)
            self.conv_scale = scale()
        self.norm2 = make_norm(norm, dim, norm_eps, bias=norm_bias)
        self.mlp = mlp
        self.scale2 = scale()
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Float[Tensor, "*tokens d"],
        layout: Layout = DENSE,
        *,
        context: Float[Tensor, "*context c"] | None = None,
        context_layout: Layout | None = None,
        bias: Float[Tensor, "#b #h #t s"] | None = None,
        cache: BlockCache | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "*tokens d"], Tensor | None, Tensor | None]:
        """The tokens, and on request the weights of self- and cross-attention."""
        own = cross = None
        y = self.attention(
            self.norm1(x) if self.pre_norm else x,
            layout,
            bias=bias,
            cache=None if cache is None else cache.attention,
            return_weights=return_weights,
        )
        if return_weights:
            y, own = y
        x = self._add(x, y, self.norm1, self.scale1, layout)
        if self.cross_attention is not None:
            y = self.cross_attention(
                self.cross_norm(x) if self.pre_norm else x,
                layout,
                context=context,
                context_layout=context_layout,
                cache=None if cache is None else cache.cross_attention,
                return_weights=return_weights,
            )
            if return_weights:
                y, cross = y
            x = self._add(x, y, self.cross_norm, self.cross_scale, layout)
        if self.convolution is not None:
            y = self.convolution(self.conv_norm(x) if self.pre_norm else x, layout)
            x = self._add(x, y, self.conv_norm, self.conv_scale, layout)
        y = self.mlp(self.norm2(x) if self.pre_norm else x)
        return self._add(x, y, self.norm2, self.scale2, layout), own, cross

    def _add(self, x: Tensor, y: Tensor, norm: nn.Module, scale: Tensor | None, layout: Layout) -> Tensor:
        if scale is not None:
            y = y * scale
        x = x + self.drop_path(self.dropout(y), layout)
        return x if self.pre_norm else norm(x)


class Transformer(nn.Module):
    """A stack of blocks: the middle of every model.

    Linear weights start from a truncated normal of deviation 0.02, biases from zero.

    Args:
        dim: width of a token.
        depth: number of blocks.
        num_heads: query heads.
        num_kv_heads: key and value heads; None is `num_heads`.
        head_dim: width of a head; None is `dim // num_heads`.
        mlp_dim: width inside the MLP, after the gate of a gated one; None is 4 · dim.
        norm: `layernorm` or `rmsnorm`.
        norm_position: `pre` or `post` of each residual branch.
        first_norm: norm what the first block's attention reads, in `pre`; off where the embed has done so.
        final_norm: norm the output too.
        activation: of the MLP; see `layers.ACTIVATIONS`.
        bias: which of q, k, v, out, mlp, norm have one.
        qk_norm: norm queries and keys, head by head.
        scale: of attention scores; None is 1/√head_dim.
        layer_scale: initial value of the branches' learned gains; None is no gains.
        rotary_theta: base of rotary positions, or several, repeated over the blocks; None is no rotary positions.
        windows: local windows in tokens, repeated over the blocks; a None or 0 entry is global. See `Attention`.
        causal: attend to no later token.
        conv_kernel: tokens that a convolution between attention and MLP sees, odd; None is no convolution.
        cross_attention: attend to a context in every block.
        context_dim: width of a context token; None is `dim`.
        dropout: of each branch's output and inside the MLP.
        attention_dropout: of attention weights.
        drop_path: probability that the last block's branches are dropped for a sequence; grows linearly from 0.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        mlp_dim: int | None = None,
        norm: str = "layernorm",
        norm_eps: float = 1e-6,
        norm_position: str = "pre",
        first_norm: bool = True,
        final_norm: bool = True,
        activation: str = "gelu",
        bias: Collection[str] = BIASES,
        qk_norm: bool = False,
        scale: float | None = None,
        layer_scale: float | None = None,
        rotary_theta: float | Sequence[float] | None = None,
        windows: Sequence[int | None] | None = None,
        causal: bool = False,
        conv_kernel: int | None = None,
        cross_attention: bool = False,
        context_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if unknown := set(bias) - set(BIASES):
            raise ValueError(f"no bias is called {', '.join(sorted(unknown))}; choose among {', '.join(BIASES)}")
        if norm_position not in ("pre", "post"):
            raise ValueError(f"unknown norm_position {norm_position!r}; choose pre or post")
        if not first_norm and norm_position == "post":
            raise ValueError("first_norm false is for norm_position pre; with post, norms stand after; change one")
        if conv_kernel is not None and causal:
            raise ValueError("a convolution sees later tokens, which a causal core must not; leave conv_kernel out")
        self.dim = dim
        attention = partial(
            Attention, dim, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bias=bias, qk_norm=qk_norm,
            norm=norm, norm_eps=norm_eps, scale=scale, dropout=attention_dropout
        )  # fmt: skip
        mlp = partial(MLP, dim, mlp_dim or 4 * dim, activation=activation, bias="mlp" in bias, dropout=dropout)
        convolution = partial(
            Convolution, dim, bias="mlp" in bias, norm=norm, norm_eps=norm_eps, norm_bias="norm" in bias
        )
        block = partial(
            Block, dim=dim, norm=norm, norm_eps=norm_eps, norm_bias="norm" in bias, norm_position=norm_position,
            layer_scale=layer_scale, dropout=dropout
        )  # fmt: skip
        thetas = (rotary_theta,) if rotary_theta is None or isinstance(rotary_theta, float | int) else rotary_theta
        rotaries = [None if theta is None else Rotary(head_dim or dim // num_heads, theta) for theta in thetas]
        windows = windows or (None,)
        self.blocks = nn.ModuleList(
            block(
                attention(causal=causal, window=windows[index % len(windows)], rotary=rotaries[index % len(rotaries)]),
                mlp(),
                attention(context_dim=context_dim or dim) if cross_attention else None,
                None if conv_kernel is None else convolution(conv_kernel),
                drop_path=drop_path * index / max(depth - 1, 1),
            )
            for index in range(depth)
        )
        if not first_norm:
            self.blocks[0].norm1 = nn.Identity()
        self.norm = make_norm(norm, dim, norm_eps, bias="norm" in bias) if final_norm else nn.Identity()

    def new_cache(self) -> list[BlockCache]:
        """An empty memory for decoding step by step."""
        return [BlockCache() for _ in self.blocks]

    def forward(
        self,
        x: Float[Tensor, "*tokens d"],
        layout: Layout = DENSE,
        *,
        context: Float[Tensor, "*context c"] | None = None,
        context_layout: Layout | None = None,
        bias: Float[Tensor, "#b #h #t s"] | None = None,
        cache: list[BlockCache] | None = None,
        return_intermediates: bool = False,
    ) -> Float[Tensor, "*tokens d"] | tuple[Float[Tensor, "*tokens d"], Intermediates]:
        """Mix tokens through all blocks.

        Args:
            context: what cross-attention attends to; None once the cache holds it.
            bias: added to every block's self-attention scores; in padded shape whatever the layout.
            cache: from `new_cache`, when `x` holds the tokens that follow those given before.
            return_intermediates: give everything inside too; attention is then computed exactly, without fast kernels.
        """
        hidden, weights, cross_weights = [x], [], []
        for index, block in enumerate(self.blocks):
            x, own, cross = block(
                x,
                layout,
                context=context,
                context_layout=context_layout,
                bias=bias,
                cache=None if cache is None else cache[index],
                return_weights=return_intermediates,
            )
            if return_intermediates:
                hidden.append(x)
                weights.append(own)
                cross_weights.extend([] if cross is None else [cross])
        x = self.norm(x)
        if not return_intermediates:
            return x
        return x, Intermediates(tuple(hidden), tuple(weights), tuple(cross_weights), x)
