"""Symbols to tokens, tokens to tags; both packed."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from zoo.core import Layout, Stream


class SymbolEmbed(nn.Module):
    """A learned vector for each symbol; the tags ask for no positions."""

    def __init__(self, dim: int, num_symbols: int) -> None:
        super().__init__()
        self.dim = dim
        self.table = nn.Embedding(num_symbols, dim)

    def forward(self, symbols: Int[Tensor, " n"], layout: Layout) -> Stream:
        return Stream(self.table(symbols), layout)


class TagHead(nn.Module):
    """A score for each tag, of each token."""

    def __init__(self, dim: int, num_tags: int) -> None:
        super().__init__()
        self.dim = dim
        self.classifier = nn.Linear(dim, num_tags)

    def forward(self, x: Float[Tensor, "n d"], layout: Layout) -> Float[Tensor, "n tags"]:
        return self.classifier(x)
