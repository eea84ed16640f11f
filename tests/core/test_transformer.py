import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo.core import Block, FusedLinear, Layout, Transformer, pack

DIM, HEADS, DEPTH = 16, 4, 3


def copy_attention(theirs: nn.MultiheadAttention, ours: nn.Module) -> None:
    weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
    if ours.is_cross:
        state = {"q.weight": weight[:DIM], "q.bias": bias[:DIM], "kv.weight": weight[DIM:], "kv.bias": bias[DIM:]}
    else:
        state = {"qkv.weight": weight, "qkv.bias": bias}
    ours.load_state_dict(state | {f"out.{key}": value for key, value in theirs.out_proj.state_dict().items()})


def copy_block(theirs: nn.Module, ours: Block) -> None:
    copy_attention(theirs.self_attn, ours.attention)
    pairs = [(theirs.norm1, ours.norm1), (theirs.linear1, ours.mlp.fc1), (theirs.linear2, ours.mlp.fc2)]
    if ours.cross_attention is not None:
        copy_attention(theirs.multihead_attn, ours.cross_attention)
        pairs += [(theirs.norm2, ours.cross_norm), (theirs.norm3, ours.norm2)]
    else:
        pairs += [(theirs.norm2, ours.norm2)]
    for source, target in pairs:
        target.load_state_dict(source.state_dict())


def randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.2)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("decoder", [False, True])
def test_equals_torch(dtype: torch.dtype, bound: float, norm_position: str, activation: str, decoder: bool) -> None:
    torch.manual_seed(0)
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    theirs = [
        kind(DIM, HEADS, 32, 0.0, activation, batch_first=True, norm_first=norm_position == "pre", dtype=dtype)
        for _ in range(2)
    ]
    ours = Transformer(
        DIM, 2, HEADS, mlp_dim=32, norm_position=norm_position, norm_eps=1e-5, activation=activation,
        causal=decoder, cross_attention=decoder, final_norm=False,
    ).to(dtype)  # fmt: skip
    for layer, block in zip(theirs, ours.blocks, strict=True):
        randomise(layer)
        copy_block(layer, block)
    x, memory = torch.randn(3, 5, DIM, dtype=dtype), torch.randn(3, 7, DIM, dtype=dtype)
    valid = torch.arange(7) < torch.tensor([7, 2, 5])[:, None]
    want = x
    for layer in theirs:
        if decoder:
            mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
            want = layer(want, memory, tgt_mask=mask, memory_key_padding_mask=~valid)
        else:
            want = layer(want, src_key_padding_mask=~valid[:, :5])
    if decoder:
        got = ours(x, context=memory, context_layout=Layout(valid=valid))
        assert (got - want).abs().max() <= bound
    else:
        got = ours(x, Layout(valid=valid[:, :5]))
        assert (got - want)[valid[:, :5]].abs().max() <= bound


MODERN = {
    "num_kv_heads": 2, "head_dim": 6, "norm": "rmsnorm", "activation": "swiglu", "bias": (), "qk_norm": True,
    "rotary_theta": 1000.0, "windows": (None, 3), "layer_scale": 0.5,
}  # fmt: skip
VARIANTS = [
    {},
    {"causal": True},
    {"norm_position": "post", "final_norm": False},
    {"conv_kernel": 5},
    MODERN,
    MODERN | {"causal": True},
    MODERN | {"conv_kernel": 3},
    MODERN | {"rotary_theta": (1000.0, 50.0), "first_norm": False},
]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.sampled_from(range(len(VARIANTS))), st.booleans())
def test_dense_padded_packed_and_alone_agree(lengths: list[int], variant: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    core = Transformer(DIM, DEPTH, HEADS, **VARIANTS[variant])
    randomise(core)
    longest = max(lengths)
    valid = torch.arange(longest) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), longest, DIM)
    bias = torch.randn(1, HEADS, longest, longest) if with_bias else None
    alone = torch.cat(
        [core(x[i : i + 1, :n], bias=None if bias is None else bias[..., :n, :n])[0] for i, n in enumerate(lengths)]
    )
    assert (core(*pack(x, valid), bias=bias) - alone).abs().max() <= 1e-5
    assert (core(x, Layout(valid=valid), bias=bias)[valid] - alone).abs().max() <= 1e-5
    dense = core(x, bias=bias)
    full = torch.ones_like(valid)
    assert (core(x, Layout(valid=full), bias=bias) - dense).abs().max() <= 1e-5
    assert (core(*pack(x, full), bias=bias) - dense.flatten(0, 1)).abs().max() <= 1e-5


@pytest.mark.parametrize("options", [v for v in VARIANTS if v.get("causal")], ids=["plain", "modern"])
@pytest.mark.parametrize("packed", [False, True])
def test_causal_never_leaks(options: dict, packed: bool) -> None:
    torch.manual_seed(0)
    core = Transformer(DIM, DEPTH, HEADS, **options)
    randomise(core)
    x = torch.randn(1, 8, DIM)
    changed = x.clone()
    changed[:, 5:] = torch.randn(1, 3, DIM) * 100

    def run(x: Tensor) -> Tensor:
        return core(*pack(x, torch.ones(1, 8, dtype=torch.bool))) if packed else core(x)[0]

    before, after = run(x), run(changed)
    assert (before[:5] - after[:5]).abs().max() <= 1e-6
    assert (before[5:] - after[5:]).abs().max() > 1e-3


@pytest.mark.parametrize("options", [v for v in VARIANTS if v.get("causal")], ids=["plain", "modern"])
@pytest.mark.parametrize("cross", [False, True])
def test_cached_decoding_equals_uncached(options: dict, cross: bool) -> None:
    torch.manual_seed(0)
    core = Transformer(DIM, DEPTH, HEADS, cross_attention=cross, context_dim=10 if cross else None, **options)
    randomise(core)
    x = torch.randn(2, 9, DIM)
    source = {"context": torch.randn(7, 10), "context_layout": Layout.from_lengths([5, 2])} if cross else {}
    want, cache, got = core(x, **source), core.new_cache(), []
    for step, part in enumerate(x.split([4, 1, 1, 3], 1)):
        got.append(core(part, cache=cache, **(source if step == 0 else {})))
    assert (torch.cat(got, 1) - want).abs().max() <= 1e-5


def test_no_layer_computes_on_a_pad_token() -> None:
    core = Transformer(DIM, DEPTH, HEADS, cross_attention=True, context_dim=10, **MODERN)
    lengths, context_lengths = [5, 1, 2], [2, 9, 1]
    rows: dict[str, set[int]] = {}

    def watch(name: str):
        return lambda _, args, __: rows.setdefault(name, set()).add(args[0].shape[0])

    for name, module in core.named_modules():
        if isinstance(module, nn.Linear | FusedLinear | nn.RMSNorm | nn.LayerNorm | nn.Dropout):
            module.register_forward_hook(watch(name))
    core(
        torch.randn(8, DIM), Layout.from_lengths(lengths),
        context=torch.randn(12, 10), context_layout=Layout.from_lengths(context_lengths),
    )  # fmt: skip
    of_context = {name for name in rows if name.endswith(("cross_attention.kv", "cross_attention.k_norm"))}
    assert len(of_context) == 2 * DEPTH
    assert all(rows[name] == ({12} if name in of_context else {8}) for name in rows)
    assert len(rows) == DEPTH * 16 + 1


@pytest.mark.parametrize("packed", [False, True])
def test_intermediates_tell_everything(packed: bool) -> None:
    torch.manual_seed(0)
    core = Transformer(DIM, DEPTH, HEADS, cross_attention=True).eval()
    x, context = torch.randn(2, 5, DIM), torch.randn(2, 3, DIM)
    layout = Layout.from_lengths([5, 5]) if packed else Layout()
    x = x.flatten(0, 1) if packed else x
    want = core(x, layout, context=context)
    out, inside = core(x, layout, context=context, return_intermediates=True)
    assert (out - want).abs().max() <= 1e-5
    assert torch.equal(inside.output, out)
    assert torch.equal(inside.hidden[0], x)
    assert len(inside.hidden) == DEPTH + 1
    assert torch.equal(core.norm(inside.hidden[-1]), out)
    assert [w.shape for w in inside.weights] == [(2, HEADS, 5, 5)] * DEPTH
    assert [w.shape for w in inside.cross_weights] == [(2, HEADS, 5, 3)] * DEPTH
    for weights in inside.weights + inside.cross_weights:
        assert (weights.sum(-1) - 1).abs().max() < 1e-5
    assert core(x, layout, context=context, return_intermediates=True)[1].cross_weights
    assert Transformer(DIM, 1, HEADS)(x, layout, return_intermediates=True)[1].cross_weights == ()


def test_packed_and_padded_gradients_agree() -> None:
    torch.manual_seed(0)
    core = Transformer(DIM, DEPTH, HEADS, **MODERN).double()
    randomise(core)
    valid = torch.arange(6) < torch.tensor([6, 1, 4])[:, None]
    x = torch.randn(3, 6, DIM, dtype=torch.float64, requires_grad=True)
    target = torch.randn(11, DIM, dtype=torch.float64)
    wanted = [x, *core.parameters()]
    padded = torch.autograd.grad((core(x, Layout(valid=valid))[valid] * target).sum(), wanted)
    packed = torch.autograd.grad((core(*pack(x, valid)) * target).sum(), wanted)
    for one, other in zip(padded, packed, strict=True):
        assert (one - other).abs().max() <= 1e-9 * max(1.0, one.abs().max().item())


def test_drop_path_grows_with_depth_and_all_dropped_is_the_identity() -> None:
    core = Transformer(DIM, 5, HEADS, drop_path=0.4)
    assert [round(block.drop_path.rate, 6) for block in core.blocks] == [0.0, 0.1, 0.2, 0.3, 0.4]
    for block in core.blocks:
        block.drop_path.rate = 1 - 1e-9
    core.norm = nn.Identity()
    x = torch.randn(6, DIM)
    assert torch.equal(core(x, Layout.from_lengths([4, 2])), x)


def test_windows_repeat_over_the_blocks() -> None:
    core = Transformer(DIM, 4, HEADS, windows=(0, 4, None))
    assert [block.attention.window for block in core.blocks] == [0, 4, None, 0]


def test_state_has_short_names_and_default_init() -> None:
    core = Transformer(384, 1, 6)
    assert sorted(core.state_dict()) == sorted(
        f"{name}.{kind}"
        for name in [
            "blocks.0.norm1", "blocks.0.attention.qkv", "blocks.0.attention.out", "blocks.0.norm2",
            "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "norm",
        ]
        for kind in ["weight", "bias"]
    )  # fmt: skip
    for name, value in core.state_dict().items():
        if name.endswith("bias"):
            assert value.abs().max() == 0
        elif "norm" not in name:
            assert 0.019 < value.std() < 0.021
    assert sum(p.numel() for p in core.parameters()) == 12 * 384**2 + 13 * 384 + 2 * 384


def test_biases_are_where_they_are_wanted() -> None:
    def biased(**options: object) -> set[str]:
        core = Transformer(DIM, 1, HEADS, cross_attention=True, **options)
        return {name.removesuffix(".bias") for name, _ in core.named_parameters() if name.endswith("bias")}

    assert biased(bias=()) == set()
    assert biased(bias=("mlp",)) == {"blocks.0.mlp.fc1", "blocks.0.mlp.fc2"}
    assert biased(bias=("norm",)) == {"blocks.0.norm1", "blocks.0.cross_norm", "blocks.0.norm2", "norm"}
    assert biased(bias=("v", "out")) == {
        f"blocks.0.{name}"
        for name in ["attention.qkv", "attention.out", "cross_attention.kv", "cross_attention.out"]
    }  # fmt: skip
    with pytest.raises(ValueError, match="no bias is called qkv; choose among q, k, v"):
        Transformer(DIM, 1, HEADS, bias=("qkv",))
    with pytest.raises(ValueError, match="choose pre or post"):
        Transformer(DIM, 1, HEADS, norm_position="middle")


def test_copies_are_independent() -> None:
    core = Transformer(DIM, 1, HEADS, **MODERN)
    twin = copy.deepcopy(core)
    nn.init.zeros_(twin.blocks[0].attention.qkv.weight)
    assert core.blocks[0].attention.qkv.weight.abs().max() > 0
