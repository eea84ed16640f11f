import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.core import MLP, DropPath, FusedLinear, Layout, make_norm, standardise


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", F.gelu),
        ("gelu_tanh", nn.GELU("tanh")),
        ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
        ("relu", F.relu),
        ("silu", F.silu),
    ],
)
def test_mlp(activation: str, function) -> None:
    mlp, x = MLP(6, 10, activation=activation), torch.randn(3, 6)
    assert torch.allclose(mlp(x), mlp.fc2(function(mlp.fc1(x))), atol=1e-6)


@pytest.mark.parametrize(("activation", "function"), [("swiglu", F.silu), ("geglu", F.gelu)])
def test_gated_mlp(activation: str, function) -> None:
    mlp, x = MLP(6, 10, activation=activation, bias=False), torch.randn(3, 6)
    gate, value = mlp.fc1.weight.split(10)
    assert torch.allclose(mlp(x), (function(x @ gate.T) * (x @ value.T)) @ mlp.fc2.weight.T, atol=1e-6)
    assert sum(p.numel() for p in mlp.parameters()) == 3 * 60


def test_unknown_names_are_told() -> None:
    with pytest.raises(ValueError, match=r"unknown activation 'gelo'.*swiglu"):
        MLP(4, 4, activation="gelo")
    with pytest.raises(ValueError, match="unknown norm 'batchnorm'"):
        make_norm("batchnorm", 4, 1e-6)


def test_fused_projections_equal_separate_ones() -> None:
    fused, x = FusedLinear(5, [3, 4, 2], [True, False, True]), torch.randn(2, 5)
    nn.init.normal_(fused.bias)
    weights, biases = fused.weight.split([3, 4, 2]), (fused.bias[:3], None, fused.bias[3:])
    for part, weight, bias in zip(fused(x), weights, biases, strict=True):
        assert torch.allclose(part, F.linear(x, weight, bias), atol=1e-6)
    assert FusedLinear(5, [3, 4], [False, False]).bias is None


def test_a_row_is_standardised_as_if_it_were_alone() -> None:
    rows = [3 + 2 * torch.randn(count, dtype=torch.float64) for count in (5, 9, 2)]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=7.0)
    found = standardise(padded, torch.tensor([5, 9, 2]), 1e-7)
    alone = [F.layer_norm(row, row.shape, eps=1e-7) for row in rows]
    torch.testing.assert_close(found, nn.utils.rnn.pad_sequence(alone, batch_first=True), rtol=0, atol=1e-12)


def test_drop_path_drops_whole_sequences_in_every_layout() -> None:
    drop, lengths = DropPath(0.4), [3, 1, 2] * 30
    layout = Layout.from_lengths(lengths)
    torch.manual_seed(0)
    packed = drop(torch.ones(sum(lengths), 2), layout)
    torch.manual_seed(0)
    dense = drop(torch.ones(len(lengths), 4, 2))
    fates = [part.unique().item() for part in packed.split(lengths)]  # .item() fails when a sequence is torn
    assert fates == [part.unique().item() for part in dense]
    assert {round(f, 5) for f in fates} == {0.0, round(1 / 0.6, 5)}
    assert torch.equal(drop.eval()(dense), dense)
