"""The rooms that know symbols: symbols to tokens, and tokens to scores.

Sequences are packed end to end, so that nothing is computed on padding.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from zoo.core import Layout, Stream, unpack


class SymbolEmbed(nn.Module):
    """A learned vector for each symbol. Positions are the core's, by `rotary_theta`, or none, as here."""

    def __init__(self, dim: int, num_symbols: int) -> None:
        super().__init__()
        self.dim = dim  # rooms say their width, so that those of one model are held together
        self.table = nn.Embedding(num_symbols, dim)

    def forward(self, symbols: Int[Tensor, " n"], layout: Layout) -> Stream:
        return Stream(self.table(symbols), layout)


class MeanHead(nn.Module):
    """The mean of each sequence's tokens, and a score for each class."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.dim = dim
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, x: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, "b classes"]:
        padded, valid = unpack(x, layout)
        return self.classifier(padded.sum(1) / valid.sum(1, keepdim=True))
