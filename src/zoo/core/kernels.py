"""The core's engine: softmax(Q Kᵀ · scale + bias) V for dense, padded and packed tokens.

Attention: Vaswani et al. 2017, arXiv:1706.03762; FlashAttention-2: Dao 2023, arXiv:2307.08691; grouped heads: Ainslie
et al. 2023, arXiv:2305.13245; local windows: Beltagy et al. 2020, arXiv:2004.05150.
"""

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from zoo.core.pack import Layout, to_packed, to_padded

# torch 2.11's kernel knows no grouped heads, those of 2.12 and later do
_VARLEN_GROUPS_HEADS = "enable_gqa" in inspect.signature(varlen_attn).parameters


def attend(
    q: Float[Tensor, "*tokens h k"],
    k: Float[Tensor, "*context g k"],
    v: Float[Tensor, "*context g k"],
    layout: Layout,
    context_layout: Layout,
    *,
    bias: Float[Tensor, "#b #h #t s"] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
) -> tuple[Float[Tensor, "*tokens h k"], Float[Tensor, "b h t s"] | None]:
    """Attention of queries over keys and values, each in its own layout.

    The last query and the last key of a sequence stand at the same position, so that queries may be fewer than keys in
    decoding. A query with nothing to attend to gives zeros.

    Args:
        bias: added to the scores; in padded shape whatever the layout.
        causal: attend to no later token.
        window: attend to |i - j| <= window // 2, which FlashAttention calls (window // 2, window // 2); when causal, to
            the `window` latest tokens, itself among them, which it calls (window - 1, 0). None or 0 is everywhere.
        scale: of the scores; None is 1/√k.
        dropout: probability that a weight is dropped.
        return_weights: compute the weights too, exactly, before dropout; the rows of pad tokens mean nothing.
    """
    sides = _sides(causal, window)
    packed = layout.packed and context_layout.packed
    if packed and bias is None and dropout == 0.0 and not return_weights and _varlen_runs(q):
        return _varlen(q, k, v, layout, context_layout, sides, scale), None

    num_tokens = q.shape[0]
    valid = context_layout.padding_mask(k.shape[0])
    if packed and causal:
        valid = None  # pads come after every real token, so causality hides them already
    if layout.packed:
        q = to_padded(q, layout)
    if context_layout.packed:
        k, v = to_padded(k, context_layout), to_padded(v, context_layout)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    out, weights = _dense(q, k, v, valid, bias, sides, scale, dropout, return_weights=return_weights)
    out = out.transpose(1, 2)
    return to_packed(out, layout, num_tokens) if layout.packed else out, weights


def _sides(causal: bool, window: int | None) -> tuple[int, int]:
    """How many earlier and later tokens may be attended to; -1 is all of them."""
    if not window:
        return (-1, 0) if causal else (-1, -1)
    return (window - 1, 0) if causal else (window // 2, window // 2)


def _dense(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    valid: Bool[Tensor, "b s"] | None,
    bias: Float[Tensor, "#b #h #t s"] | None,
    sides: tuple[int, int],
    scale: float | None,
    dropout: float,
    *,
    return_weights: bool,
) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b h t s"] | None]:
    num_queries, num_keys = q.shape[2], k.shape[2]
    if num_queries == 1 and sides == (-1, 0):
        sides = (-1, -1)  # the last token sees all
    # the fast kernels take the causal flag, but no mask
    flag = sides == (-1, 0) and num_queries == num_keys and valid is None and bias is None and not return_weights
    mask = None if flag else _mask(num_queries, num_keys, sides, valid, q.device)
    empty = None
    if mask is not None and valid is not None:
        empty = ~mask.any(-1, keepdim=True)
        mask = mask | empty
    if bias is not None:
        mask = bias.to(q.dtype) if mask is None else bias.to(q.dtype).masked_fill(~mask, -math.inf)

    if return_weights:
        out, weights = _exact(q, k, v, mask, scale, dropout)
    else:
        grouped = q.shape[1] != k.shape[1]
        if grouped and mask is not None:  # on CUDA no fast kernel takes both
            k, v, grouped = _repeat(k, q.shape[1]), _repeat(v, q.shape[1]), False
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=flag, scale=scale, enable_gqa=grouped
        )
        weights = None
    if empty is not None:
        out = out.masked_fill(empty, 0.0)
        weights = None if weights is None else weights.masked_fill(empty, 0.0)
    return out, weights


def _mask(
    num_queries: int, num_keys: int, sides: tuple[int, int], valid: Bool[Tensor, "b s"] | None, device: torch.device
) -> Bool[Tensor, "#b 1 #t s"] | None:
    """True where a query may attend to a key; None when it may everywhere."""
    mask = None if valid is None else valid[:, None, None, :]
    if sides == (-1, -1):
        return mask
    earlier, later = sides
    query = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
    key = torch.arange(num_keys, device=device)
    near = key >= query - earlier if earlier >= 0 else None
    if later >= 0:
        near = key <= query + later if near is None else near & (key <= query + later)
    assert near is not None
    return near[None, None] if mask is None else mask & near


def _exact(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    mask: Tensor | None,
    scale: float | None,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b h t s"]]:
    k, v = _repeat(k, q.shape[1]), _repeat(v, q.shape[1])
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype)
    return F.dropout(weights, dropout) @ v, weights


def _repeat(x: Float[Tensor, "_ g ..."], num_heads: int) -> Float[Tensor, "_ h ..."]:
    """Give each query head its own copy of the key or value head that it shares; heads are on axis 1."""
    return x if x.shape[1] == num_heads else x.repeat_interleave(num_heads // x.shape[1], 1)


def _varlen_runs(q: Float[Tensor, "n h k"]) -> bool:
    """Whether FlashAttention's kernel for packed tokens can take these."""
    if not q.is_cuda or q.dtype not in (torch.float16, torch.bfloat16):
        return False
    return q.shape[-1] % 8 == 0 and q.shape[-1] <= 256 and torch.cuda.get_device_capability(q.device) >= (8, 0)


def _varlen(
    q: Float[Tensor, "n h k"],
    k: Float[Tensor, "m g k"],
    v: Float[Tensor, "m g k"],
    layout: Layout,
    context_layout: Layout,
    sides: tuple[int, int],
    scale: float | None,
) -> Float[Tensor, "n h k"]:
    """Every torch's `varlen_attn`: whatever the signature, grouped heads work."""
    options: dict[str, Any] = {"scale": scale, "window_size": sides}
    if q.shape[1] != k.shape[1]:
        if _VARLEN_GROUPS_HEADS:
            options["enable_gqa"] = True
        else:
            k, v = _repeat(k, q.shape[1]), _repeat(v, q.shape[1])
    where: Any = (layout.cu_seqlens, context_layout.cu_seqlens, layout.max_len, context_layout.max_len)
    # cuDNN, which torch 2.14 may choose inside, finds a sequence by its offset alone and so misreads strided tokens
    out = varlen_attn(q.contiguous(), k.contiguous(), v.contiguous(), *where, **options)
    assert isinstance(out, Tensor), "no auxiliary output was asked for"
    return out
