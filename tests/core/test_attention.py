import itertools

import pytest
import torch
from torch import Tensor, nn

from zoo.core import DENSE, Attention, KVCache, Layout, Rotary, pack, unpack

DIM, HEADS = 24, 4


def like_torch(theirs: nn.MultiheadAttention, ours: Attention) -> None:
    with torch.no_grad():
        weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
        if ours.is_cross:
            ours.q.weight.copy_(weight[:DIM])
            ours.q.bias.copy_(bias[:DIM])
            ours.kv.weight.copy_(weight[DIM:])
            ours.kv.bias.copy_(bias[DIM:])
        else:
            ours.qkv.weight.copy_(weight)
            ours.qkv.bias.copy_(bias)
        ours.out.load_state_dict(theirs.out_proj.state_dict())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_torch(dtype: torch.dtype, bound: float, cross: bool, masked: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True, dtype=dtype)
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(DIM, HEADS, context_dim=DIM if cross else None).to(dtype)
    like_torch(theirs, ours)
    x = torch.randn(3, 5, DIM, dtype=dtype)
    context = torch.randn(3, 7, DIM, dtype=dtype) if cross else x
    valid = torch.arange(context.shape[1]) < torch.tensor([context.shape[1], 3, 1])[:, None]
    layout = Layout(valid=valid) if masked else DENSE
    want, want_weights = theirs(
        x, context, context, key_padding_mask=~valid if masked else None, average_attn_weights=False
    )
    call = {"context": context, "context_layout": layout} if cross else {"layout": layout}
    got, weights = ours(x, **call, return_weights=True)
    assert (got - want).abs().max() <= bound
    assert (weights - want_weights).abs().max() <= bound
    assert (ours(x, **call) - want).abs().max() <= bound


@pytest.mark.parametrize("scale", [None, 0.3])
def test_weights_are_the_softmax_computed_on_the_side(scale: float | None) -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, num_kv_heads=2, scale=scale, causal=True, window=3).double()
    x = torch.randn(2, 6, DIM, dtype=torch.float64)
    _, weights = attention(x, return_weights=True)
    for b, h in itertools.product(range(2), range(HEADS)):
        rows = attention.qkv.weight.split(6)
        q = x[b] @ rows[h].T + attention.qkv.bias[6 * h : 6 * h + 6]
        k = x[b] @ rows[HEADS + h // 2].T
        scores = q @ k.T * (6**-0.5 if scale is None else scale)
        for i, j in itertools.product(range(6), range(6)):
            if not 0 <= i - j < 3:
                scores[i, j] = -torch.inf
        assert (weights[b, h] - scores.softmax(-1)).abs().max() < 1e-12


def variants() -> list[dict]:
    return [
        {},
        {"causal": True},
        {"window": 3},
        {"causal": True, "window": 2},
        {"num_kv_heads": 2, "head_dim": 8, "rotary": Rotary(8)},
        {"num_kv_heads": 1, "causal": True, "rotary": Rotary(4), "qk_norm": True, "norm": "rmsnorm"},
        {"qk_norm": True, "scale": 0.5, "bias": ("q", "v")},
    ]


@pytest.mark.parametrize("options", variants(), ids=str)
@pytest.mark.parametrize("with_bias", [False, True])
def test_all_layouts_agree(options: dict, with_bias: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, **options)
    lengths = [4, 7, 1]
    valid = torch.arange(7) < torch.tensor(lengths)[:, None]
    x = torch.randn(3, 7, DIM)
    bias = torch.randn(3, HEADS, 7, 7) if with_bias else None
    alone = torch.cat(
        [
            attention(x[i : i + 1, :n], bias=None if bias is None else bias[i : i + 1, :, :n, :n])[0]
            for i, n in enumerate(lengths)
        ]
    )
    packed, layout = pack(x, valid)
    assert (attention(packed, layout, bias=bias) - alone).abs().max() <= 1e-5
    assert (attention(x, Layout(valid=valid), bias=bias)[valid] - alone).abs().max() <= 1e-5
    exact, weights = attention(packed, layout, bias=bias, return_weights=True)
    assert (exact - alone).abs().max() <= 1e-5
    assert weights.shape == (3, HEADS, 7, 7)
    full = Layout.from_lengths([7, 7, 7])
    assert (attention(x.flatten(0, 1), full, bias=bias) - attention(x, bias=bias).flatten(0, 1)).abs().max() <= 1e-5


@pytest.mark.parametrize("options", variants()[:5:2], ids=str)
def test_packed_and_padded_gradients_agree(options: dict) -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, **options).double()
    valid = torch.arange(5) < torch.tensor([5, 2])[:, None]
    x = torch.randn(2, 5, DIM, dtype=torch.float64, requires_grad=True)
    target = torch.randn(7, DIM, dtype=torch.float64)
    wanted = [x, *attention.parameters()]
    padded = torch.autograd.grad((attention(x, Layout(valid=valid))[valid] * target).sum(), wanted)
    packed = torch.autograd.grad((attention(*pack(x, valid)) * target).sum(), wanted)
    for one, other in zip(padded, packed, strict=True):
        assert (one - other).abs().max() < 1e-10


@pytest.mark.parametrize("packed_tokens", [False, True])
@pytest.mark.parametrize("packed_context", [False, True])
def test_cross_attention_mixes_layouts(packed_tokens: bool, packed_context: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, num_kv_heads=2, context_dim=10)
    valid = torch.arange(4) < torch.tensor([4, 2])[:, None]
    context_valid = torch.arange(6) < torch.tensor([3, 6])[:, None]
    x, context = torch.randn(2, 4, DIM), torch.randn(2, 6, 10)
    alone = torch.cat(
        [attention(x[i : i + 1, :n], context=context[i : i + 1, :m])[0] for i, (n, m) in enumerate([(4, 3), (2, 6)])]
    )
    tokens, layout = pack(x, valid) if packed_tokens else (x, Layout(valid=valid))
    context, context_layout = pack(context, context_valid) if packed_context else (context, Layout(valid=context_valid))
    got = attention(tokens, layout, context=context, context_layout=context_layout)
    assert ((got if packed_tokens else got[valid]) - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("return_weights", [False, True])
def test_nothing_to_attend_to_gives_zeros_not_nan(return_weights: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, context_dim=DIM, bias=())
    x = torch.randn(2, 3, DIM, requires_grad=True)
    context, layout = torch.randn(4, DIM), Layout.from_lengths([4, 0])
    out = attention(x, context=context, context_layout=layout, return_weights=return_weights)
    if return_weights:
        out, weights = out
        assert weights[1].abs().max() == 0
    assert out[1].abs().max() == 0
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_windows_reach_as_far_as_stated() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 9, DIM)
    distance = torch.arange(9)[:, None] - torch.arange(9)
    for window, causal, want in [
        (4, False, distance.abs() <= 2),
        (3, False, distance.abs() <= 1),
        (3, True, (distance >= 0) & (distance < 3)),
        (0, False, distance.abs() <= 9),
        (None, True, distance >= 0),
    ]:
        _, weights = Attention(DIM, HEADS, window=window, causal=causal)(x, return_weights=True)
        assert torch.equal(weights[0, 0] > 0, want)


@pytest.mark.parametrize("options", [v for v in variants() if v.get("causal")], ids=str)
def test_cached_steps_equal_the_whole(options: dict) -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, **options)
    x = torch.randn(2, 8, DIM)
    want, cache = attention(x), KVCache()
    got = torch.cat([attention(part, cache=cache) for part in x.split([3, 1, 1, 2, 1], 1)], 1)
    assert cache.length == 8
    assert (got - want).abs().max() <= 1e-5


def test_a_cached_context_is_projected_once() -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, context_dim=10)
    calls = []
    attention.kv.register_forward_hook(lambda *_: calls.append(1))
    x, context, layout = torch.randn(2, 3, DIM), torch.randn(7, 10), Layout.from_lengths([5, 2])
    want = attention(x, context=context, context_layout=layout)
    cache = KVCache()
    first = attention(x[:, :1], context=context, context_layout=layout, cache=cache)
    rest = attention(x[:, 1:], cache=cache)
    assert (torch.cat([first, rest], 1) - want).abs().max() <= 1e-5
    assert len(calls) == 2


def test_each_part_has_a_bias_or_none() -> None:
    def count(**options: object) -> int:
        return sum(p.numel() for p in Attention(DIM, HEADS, **options).parameters())

    square = DIM * DIM
    assert count(bias=()) == 4 * square
    assert count(bias=("q", "v", "out")) == 4 * square + 3 * DIM
    assert count(bias=("q", "v", "out"), context_dim=10) == 2 * square + 2 * DIM * 10 + 3 * DIM
    assert count(bias=(), num_kv_heads=1) == 2 * square + 2 * DIM * DIM // HEADS
    assert count(bias=(), qk_norm=True, norm="rmsnorm") == 4 * square + 2 * DIM // HEADS


def test_a_part_without_bias_behaves_as_with_zeros() -> None:
    torch.manual_seed(0)
    partial, full = Attention(DIM, HEADS, bias=("q", "v")), Attention(DIM, HEADS, bias=("q", "k", "v"))
    nn.init.normal_(partial.qkv.bias)
    q, v = partial.qkv.bias.detach().split(DIM)
    full.load_state_dict(partial.state_dict() | {"qkv.bias": torch.cat([q, torch.zeros(DIM), v])})
    x = torch.randn(1, 4, DIM)
    assert torch.equal(partial(x), full(x))


def test_attention_dropout_only_in_training_and_works_packed() -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, dropout=0.5)
    x, layout = torch.randn(5, DIM), Layout.from_lengths([3, 2])
    assert not torch.equal(attention(x, layout), attention(x, layout))
    attention.eval()
    assert torch.equal(attention(x, layout), attention(x, layout))


def test_misuse_is_told() -> None:
    x = torch.randn(1, 2, DIM)
    for call, words in [
        (lambda: Attention(10, 3), "no multiple of num_heads"),
        (lambda: Attention(DIM, 4, num_kv_heads=3), "num_kv_heads"),
        (lambda: Attention(DIM, 4, context_dim=8, causal=True), "cross-attention has no causal"),
        (lambda: Attention(DIM, 4)(x, context=x), "takes no context"),
        (lambda: Attention(DIM, 4, context_dim=DIM)(x), "needs a context"),
        (lambda: Attention(DIM, 4)(x[0], Layout.from_lengths([2]), cache=KVCache()), "dense tokens only"),
        (lambda: Attention(DIM, 4, qk_norm=True, norm="batchnorm"), "layernorm or rmsnorm"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_half_precision_autocast_keeps_the_layouts_equal() -> None:
    torch.manual_seed(0)
    attention = Attention(DIM, HEADS, qk_norm=True, rotary=Rotary(6))
    x, layout = torch.randn(6, DIM), Layout.from_lengths([4, 2])
    with torch.autocast("cpu", torch.bfloat16):
        packed: Tensor = attention(x, layout)
        padded, valid = unpack(x, layout)
        assert packed.dtype == torch.bfloat16
        assert (attention(padded, Layout(valid=valid))[valid] - packed).abs().max() < 1e-2
