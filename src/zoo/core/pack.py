"""The core's ledger: where the tokens of each sequence lie, and how to move between the layouts.

Packing without padding: Krell et al. 2021, arXiv:2107.02027; offsets as in FlashAttention: Dao et al. 2022,
arXiv:2205.14135.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int32, Shaped
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each sequence's tokens lie.

    * dense: nothing given; tokens are `(b t d)` and all real.
    * padded: `valid`; tokens are `(b t d)`, each sequence's real ones first.
    * packed: `cu_seqlens` and `max_len`; tokens are `(n d)`, the sequences end to end.

    Args:
        valid: True is a real token.
        cu_seqlens: where each sequence starts, and at the end n.
        max_len: the longest sequence's number of tokens; a Python int, so that no kernel waits for the device.

    Raises:
        ValueError: when padded and packed are mixed, or packed lacks `max_len`.
    """

    valid: Bool[Tensor, "b t"] | None = None
    cu_seqlens: Int32[Tensor, " offsets"] | None = None
    max_len: int | None = None

    def __post_init__(self) -> None:
        if self.valid is not None and self.cu_seqlens is not None:
            raise ValueError("a layout is padded (valid) or packed (cu_seqlens, max_len), not both; drop one of them")
        if (self.cu_seqlens is None) != (self.max_len is None):
            raise ValueError("a packed layout needs both cu_seqlens and max_len; use Layout.from_lengths(lengths)")

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], device: torch.device | str | None = None) -> "Layout":
        """The packed layout of sequences of these lengths."""
        offsets = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return cls(cu_seqlens=offsets.to(device, non_blocking=True), max_len=max(lengths))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Layout":
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Layout":
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Layout":
        valid, offsets = (None if each is None else change(each) for each in (self.valid, self.cu_seqlens))
        return Layout(valid, offsets, self.max_len)

    @property
    def padded(self) -> bool:
        return self.valid is not None

    @property
    def packed(self) -> bool:
        return self.cu_seqlens is not None

    @property
    def lengths(self) -> Int[Tensor, " b"] | None:
        """Real tokens of each sequence; None when dense, where all are alike."""
        if self.cu_seqlens is not None:
            return self.cu_seqlens.diff()
        return None if self.valid is None else self.valid.sum(1)

    def sequence_index(self, num_tokens: int) -> Int[Tensor, " n"]:
        """The sequence that each of `num_tokens` packed tokens belongs to."""
        assert self.cu_seqlens is not None, "only packed tokens need to be told apart"
        order = torch.arange(self.cu_seqlens.numel() - 1, device=self.cu_seqlens.device)
        return order.repeat_interleave(self.cu_seqlens.diff(), output_size=num_tokens)

    def positions(self, x: Shaped[Tensor, "*tokens d"]) -> Int[Tensor, " positions"]:
        """Each token's place in its own sequence: `(t)`, or `(n)` when packed."""
        place = torch.arange(x.shape[-2], device=x.device)
        if self.cu_seqlens is None:
            return place
        return place - self.cu_seqlens[self.sequence_index(x.shape[0])]

    def padding_mask(self, num_tokens: int) -> Bool[Tensor, "b t"] | None:
        """`valid` of the padded equivalent of `num_tokens` tokens; None when there is nothing to mask."""
        if self.cu_seqlens is None or self.max_len is None:
            return self.valid
        if num_tokens == (self.cu_seqlens.numel() - 1) * self.max_len:
            return None
        return torch.arange(self.max_len, device=self.cu_seqlens.device) < self.cu_seqlens.diff()[:, None]


DENSE = Layout()


def pack(x: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"]) -> tuple[Float[Tensor, "n d"], Layout]:
    """Drop the pad tokens and lay the sequences end to end. Waits for the device, to learn the lengths."""
    return x[valid], Layout.from_lengths(valid.sum(1).tolist(), x.device)


def unpack(x: Float[Tensor, "n d"], layout: Layout) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
    """The padded equivalent of packed tokens (pads are zero) and which of them are real."""
    padded = to_padded(x, layout)
    valid = layout.padding_mask(x.shape[0])
    return padded, padded.new_ones(padded.shape[:2], dtype=torch.bool) if valid is None else valid


def to_padded(x: Shaped[Tensor, " n *rest"], layout: Layout) -> Shaped[Tensor, "b t *rest"]:
    """Packed tokens, with any axes behind, as `(b t ...)` with zeros for pads. Never waits for the device."""
    assert layout.cu_seqlens is not None
    assert layout.max_len is not None
    shape = (layout.cu_seqlens.numel() - 1, layout.max_len, *x.shape[1:])
    if x.shape[0] == shape[0] * shape[1]:
        return x.reshape(shape)
    return x.new_zeros(shape).flatten(0, 1).index_copy(0, _slots(layout, x.shape[0]), x).unflatten(0, shape[:2])


def to_packed(x: Shaped[Tensor, "b t *rest"], layout: Layout, num_tokens: int) -> Shaped[Tensor, " n *rest"]:
    """The inverse of `to_padded`."""
    flat = x.flatten(0, 1)
    return flat if flat.shape[0] == num_tokens else flat.index_select(0, _slots(layout, num_tokens))


def _slots(layout: Layout, num_tokens: int) -> Int[Tensor, " n"]:
    """The row of the flattened padded tensor that each packed token takes."""
    assert layout.cu_seqlens is not None
    assert layout.max_len is not None
    sequence = layout.sequence_index(num_tokens)
    place = torch.arange(num_tokens, device=sequence.device) - layout.cu_seqlens[sequence]
    return sequence * layout.max_len + place
