"""The adapter to `varlen_attn`, held against the padded path; the CUDA kernel itself where there is a device."""

import functools
import importlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from zoo.core import Layout, kernels

LAYOUT, CONTEXT = Layout.from_lengths([3, 5, 1]), Layout.from_lengths([4, 2, 6])


def reference(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, scale: float | None, window: tuple[int, int]
) -> Tensor:
    """FlashAttention's stated behaviour, sequence by sequence."""
    assert q.shape[1] == k.shape[1], "this kernel knows no grouped heads"
    outs = []
    for q0, q1, k0, k1 in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        scores = torch.einsum("thk,shk->hts", q[q0:q1], k[k0:k1]) * (q.shape[-1] ** -0.5 if scale is None else scale)
        distance = torch.arange(k1 - k0) - torch.arange(q1 - q0)[:, None] - ((k1 - k0) - (q1 - q0))
        left, right = window
        far = ((distance < -left) & (left >= 0)) | ((distance > right) & (right >= 0))
        outs.append(torch.einsum("hts,shk->thk", scores.masked_fill(far, -torch.inf).softmax(-1), v[k0:k1]))
    return torch.cat(outs)


def torch_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    assert query.is_contiguous()
    assert key.is_contiguous()
    assert value.is_contiguous()
    assert max_q == cu_seq_q.diff().max()
    assert max_k == cu_seq_k.diff().max()
    return reference(query, key, value, cu_seq_q, cu_seq_k, scale, window_size)


def torch_2_14(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1),
    enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    assert enable_gqa or query.shape[1] == key.shape[1], "later signatures refuse grouped heads unless told"
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    return torch_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size)


@pytest.fixture(params=[torch_2_11, torch_2_14], ids=lambda f: f.__name__)
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable]]:
    """Put one signature in torch's place, as if its kernel ran here, and record the calls."""
    calls = []

    @functools.wraps(request.param)
    def recorded(*args, **options):
        calls.append(request.param)
        return request.param(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(varlen, "varlen_attn", recorded)
        importlib.reload(kernels)
        patch.setattr(kernels, "_varlen_runs", lambda q: True)
        yield calls
    importlib.reload(kernels)


CASES = [{}, {"causal": True}, {"window": 3}, {"causal": True, "window": 2}, {"scale": 0.3}]


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_varlen_equals_padded(installed: list, options: dict, num_kv_heads: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(9, 4 + 2 * num_kv_heads, 8).split([4, num_kv_heads, num_kv_heads], 1)
    got, _ = kernels.attend(q, k, v, LAYOUT, LAYOUT, **options)
    assert len(installed) == 1
    want, _ = kernels.attend(q, k, v, LAYOUT, LAYOUT, return_weights=True, **options)
    assert (got - want).abs().max() < 1e-5


def test_varlen_crosses(installed: list) -> None:
    q, k, v = torch.randn(9, 2, 8), torch.randn(12, 2, 8), torch.randn(12, 2, 8)
    got, _ = kernels.attend(q, k, v, LAYOUT, CONTEXT)
    want, _ = kernels.attend(q, k, v, LAYOUT, CONTEXT, return_weights=True)
    assert len(installed) == 1
    assert (got - want).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{"bias": torch.zeros(1, 1, 5, 5)}, {"dropout": 0.1}, {"return_weights": True}])
def test_what_varlen_lacks_is_padded(installed: list, options: dict) -> None:
    q = torch.randn(9, 2, 8)
    kernels.attend(q, q, q, LAYOUT, LAYOUT, **options)
    assert not installed


@pytest.mark.parametrize(("lengths", "masked"), [([4, 4], False), ([4, 3], True)])
def test_no_mask_where_nothing_is_masked(monkeypatch: pytest.MonkeyPatch, lengths: list[int], masked: bool) -> None:
    seen = []
    real = kernels.F.scaled_dot_product_attention

    def spied(*args: Tensor, **options: object) -> Tensor:
        seen.append((options["attn_mask"], options["is_causal"]))
        return real(*args, **options)

    monkeypatch.setattr(kernels.F, "scaled_dot_product_attention", spied)
    q = torch.randn(sum(lengths), 2, 8)
    layout = Layout.from_lengths(lengths)
    kernels.attend(q, q, q, layout, layout)
    kernels.attend(q, q, q, layout, layout, causal=True)
    (mask, _), (causal_mask, flag) = seen
    assert (mask is not None) == masked
    assert causal_mask is None
    assert flag


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_cuda_kernel_equals_padded(options: dict, num_kv_heads: int) -> None:
    torch.manual_seed(0)
    layout = Layout.from_lengths([3, 200, 1], "cuda")
    qkv = torch.randn(204, (4 + 2 * num_kv_heads) * 32, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    q, k, v = (x.unflatten(-1, (-1, 32)) for x in qkv.split([128, 32 * num_kv_heads, 32 * num_kv_heads], -1))
    assert kernels._varlen_runs(q)
    got, _ = kernels.attend(q, k, v, layout, layout, **options)
    want, _ = kernels.attend(q.float(), k.float(), v.float(), layout, layout, **options)
    assert (got - want).abs().max() < 2e-2
    (grad,) = torch.autograd.grad(got.float().square().sum(), qkv, retain_graph=True)
    (want_grad,) = torch.autograd.grad(want.square().sum(), qkv)
    assert (grad - want_grad).abs().max() <= 2e-2 * want_grad.abs().max()
