import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.contract import Batch
from zoo.core.pack import DENSE, Layout, pack, to_packed, to_padded, unpack

ragged = st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any)


@settings(max_examples=50, deadline=None)
@given(ragged)
def test_pack_and_unpack_are_inverse(lengths: list[int]) -> None:
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x = torch.randn(*valid.shape, 3) * valid[..., None]
    packed, layout = pack(x, valid)
    assert packed.shape == (sum(lengths), 3)
    assert layout.max_len == max(lengths)
    again, valid_again = unpack(packed, layout)
    assert torch.equal(again, x)
    assert torch.equal(valid_again, valid)


@settings(max_examples=50, deadline=None)
@given(ragged)
def test_layout_knows_each_token(lengths: list[int]) -> None:
    layout, total = Layout.from_lengths(lengths), sum(lengths)
    assert layout.sequence_index(total).tolist() == [i for i, length in enumerate(lengths) for _ in range(length)]
    assert layout.positions(torch.zeros(total, 1)).tolist() == [p for length in lengths for p in range(length)]
    assert layout.lengths is not None
    assert layout.lengths.tolist() == lengths


def test_padding_and_back_keeps_further_axes_and_gradients() -> None:
    layout = Layout.from_lengths([2, 0, 3])
    x = torch.randn(5, 2, 4, requires_grad=True)
    padded = to_padded(x, layout)
    assert padded.shape == (3, 3, 2, 4)
    assert torch.equal(to_packed(padded, layout, 5), x)
    (padded * torch.arange(3.0)[:, None, None, None]).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0, 0].tolist() == [0, 0, 2, 2, 2]


def test_equal_lengths_have_nothing_to_mask() -> None:
    assert Layout.from_lengths([4, 4]).padding_mask(8) is None
    assert Layout.from_lengths([4, 3]).padding_mask(7) is not None
    assert DENSE.padding_mask(2) is None


def test_dense_and_padded_positions_count_from_zero() -> None:
    x = torch.zeros(2, 3, 1)
    assert DENSE.positions(x).tolist() == [0, 1, 2]
    assert Layout(valid=torch.ones(2, 3, dtype=torch.bool)).positions(x).tolist() == [0, 1, 2]
    assert DENSE.lengths is None
    assert not DENSE.packed
    assert not DENSE.padded


def test_a_layout_is_one_thing() -> None:
    offsets = torch.tensor([0, 2], dtype=torch.int32)
    with pytest.raises(ValueError, match="not both"):
        Layout(valid=torch.ones(1, 2, dtype=torch.bool), cu_seqlens=offsets, max_len=2)
    with pytest.raises(ValueError, match="max_len"):
        Layout(cu_seqlens=offsets)


def test_a_layout_moves_with_its_batch() -> None:
    batch = Batch({"layout": Layout.from_lengths([2, 3]), "x": torch.zeros(5)}, None, ("a", "b"))
    moved = batch.to(torch.device("meta")).inputs["layout"]
    assert moved.cu_seqlens.is_meta
    assert moved.max_len == 3
    assert moved.valid is None
