"""The rooms that know text: token ids to tokens, tokens to scores of classes or tokens; packed: no pad is computed.

BERT: Devlin et al. 2018, arXiv:1810.04805; sequence pooling: Hassani et al. 2021, arXiv:2104.05704.
"""

import math
from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.core import DENSE, Layout, LearnedPosition, SinusoidalPosition, Stream, init_linear, unpack
from zoo.core.pack import to_padded

POOLERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
    "linear": torch.positive,
}


class TextEmbed(nn.Module):
    """A learned vector for each token id and for its place.

    Args:
        dim: Width of a token.
        vocab_size: Token ids.
        max_tokens: Of the longest text, where positions are learned.
        position: `learned`, `sinusoidal` or `none`.
        first_position: Row of the first token's position; those before it are never read.
        num_types: Rows of a table of which each token gets the first: BERT's segments, for its weights.
        token_dim: Width of these tables, where it is not `dim`; a linear layer leads from the one to the other.
        norm: Applied to the sum, of the tables' width.
        hands_on: What the head is told besides: the ids, `tokens`; the vectors of all, `table`; `masked`.
    """

    def __init__(
        self,
        dim: int,
        vocab_size: int,
        *,
        max_tokens: int,
        position: str = "learned",
        first_position: int = 0,
        num_types: int = 0,
        token_dim: int | None = None,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        hands_on: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.dim, self.first_position, self.hands_on = dim, first_position, hands_on
        width = token_dim or dim
        self.table = nn.Embedding(vocab_size, width)
        nn.init.trunc_normal_(self.table.weight, std=0.02)
        self.types = nn.Parameter(torch.empty(num_types, width)) if num_types else None
        if self.types is not None:
            nn.init.trunc_normal_(self.types, std=0.02)
        self.position = {
            "learned": lambda: LearnedPosition(first_position + max_tokens, width),
            "sinusoidal": SinusoidalPosition,
            "none": lambda: None,
        }[position]()
        self.norm = norm or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(token_dim, dim) if token_dim else nn.Identity()
        init_linear(self.project)

    def forward(
        self, tokens: Int[Tensor, "*tokens"], layout: Layout, masked: Int[Tensor, " m"] | None = None, offset: int = 0
    ) -> Stream:
        """
        Args:
            masked: places of tokens that a `MaskedHead` is to name, by this room's table.
            offset: how many tokens came before these, in decoding.
        """
        x = self.table(tokens)
        if self.types is not None:
            x = x + self.types[0]
        if self.position is not None:
            x = self.position(x, layout, self.first_position + offset)
        x = self.project(self.dropout(self.norm(x)))
        known = {"tokens": tokens, "masked": masked, "table": self.table.weight}
        return Stream(x, layout, {name: known[name] for name in self.hands_on})


class TextHead(nn.Module):
    """Pool each text's tokens and score the classes. The classifier starts from zero: no class is preferred.

    Args:
        pool: `cls` is the first token, `last` the last; `mean` and `max` of all; `seq` is their mean weighted by a
            learned score; `eos` is the first `eos_token`, or the last token of a text without.
        eos_token: Its id; None is the highest of a text.
        pooler: Put what was pooled through a linear layer and `tanh`, `relu` or `gelu`, or a `linear` one alone.
        pooler_dim: Width that it gives; None is `dim`.
        norm: Applied to what the pooler gives.
        classifier_bias: The classifier has one; decoders' published ones have not.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        pool: str = "cls",
        eos_token: int | None = None,
        pooler: str | None = None,
        pooler_dim: int | None = None,
        pooler_bias: bool = True,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        classifier_bias: bool = True,
    ) -> None:
        super().__init__()
        self.dim, self.pool, self.eos_token = dim, pool, eos_token
        width = pooler_dim or dim if pooler else dim
        self.score = nn.Linear(dim, 1) if pool == "seq" else None
        self.pooler = nn.Linear(dim, width, bias=pooler_bias) if pooler else None
        self.activation = POOLERS[pooler or "tanh"]
        self.norm = norm or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes, bias=classifier_bias)
        for layer in (self.score, self.pooler):
            if layer is not None:
                init_linear(layer)
        nn.init.zeros_(self.classifier.weight)
        if self.classifier.bias is not None:
            nn.init.zeros_(self.classifier.bias)

    def forward(
        self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE, tokens: Int[Tensor, "*tokens"] | None = None
    ) -> Float[Tensor, "b classes"]:
        """
        Args:
            tokens: their ids, where `eos` is looked for.
        """
        chosen = self.pool in ("cls", "last", "eos")
        pooled = self._chosen(x, layout, tokens) if chosen else self._pooled(x, layout)
        if self.pooler is not None:
            pooled = self.norm(self.activation(self.pooler(pooled)))
        return self.classifier(self.dropout(pooled))

    def readout_weights(self, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "b t"]:
        """How much each token of a text alone counts in what is pooled; they sum to 1."""
        x = x if x.ndim == 3 else x[None]
        weights = x.new_zeros(x.shape[:2])
        if self.pool == "cls":
            weights[:, 0] = 1
        elif self.pool in ("last", "eos"):  # a text alone ends with what says so
            weights[:, -1] = 1
        elif self.pool == "max":
            counts = F.one_hot(x.argmax(1), x.shape[1])
            weights += counts.sum(1) / x.shape[2]
        elif self.score is None:
            weights += 1 / x.shape[1]
        else:
            weights += self.score(x).squeeze(-1).softmax(1)
        return weights

    def _chosen(
        self, x: Float[Tensor, "*tokens d"], layout: Layout, tokens: Int[Tensor, "*tokens"] | None
    ) -> Float[Tensor, "b d"]:
        """One token of each text."""
        if self.pool == "cls":
            return x[:, 0] if layout.cu_seqlens is None else x[layout.cu_seqlens[:-1]]
        lengths = layout.lengths
        if lengths is None:
            lengths = torch.full(x.shape[:1], x.shape[1], device=x.device)
        place = lengths - 1
        if self.pool == "eos":
            if tokens is None:
                raise ValueError("the pool eos looks for a token, but the embed hands none on; build it with hands_on")
            place = self._ends(to_padded(tokens, layout) if layout.packed else tokens, lengths)
        if layout.cu_seqlens is not None:
            return x[layout.cu_seqlens[:-1] + place]
        return x[torch.arange(len(place), device=x.device), place]

    def _ends(self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        if self.eos_token is None:
            return tokens.masked_fill(~real, -1).argmax(1)
        found = (tokens == self.eos_token) & real
        return torch.where(found.any(1), found.int().argmax(1), lengths - 1)

    def _pooled(self, x: Float[Tensor, "*tokens d"], layout: Layout) -> Float[Tensor, "b d"]:
        scores = None if self.score is None else self.score(x)  # before pads come in
        valid = layout.valid
        if layout.packed:
            x, valid = unpack(x, layout)
            scores = None if scores is None else unpack(scores, layout)[0]
        if valid is None:
            valid = x.new_ones(x.shape[:2], dtype=torch.bool)
        return self._pooled_rows(x, valid, scores)

    def _pooled_rows(
        self, x: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], scores: Float[Tensor, "b t 1"] | None
    ) -> Float[Tensor, "b d"]:
        pads = ~valid[:, :, None]
        if self.pool == "max":
            return x.masked_fill(pads, -math.inf).amax(1)
        if scores is None:
            return x.masked_fill(pads, 0).sum(1) / valid.sum(1, keepdim=True)
        weights = scores.masked_fill(pads, -math.inf).softmax(1)
        return (weights.transpose(1, 2) @ x).squeeze(1)


class MaskedHead(nn.Module):
    """Which token a masked one was: a layer, its activation and a norm, then scores by the table that embeds tokens.

    The table is the first room's, handed on: what a token means and what it takes to be named are one vector.

    Args:
        dim: Width of the core's tokens.
        vocab_size: Rows of the table.
        token_dim: Their width.
        norm: Of that width.
        activation: `gelu` or `relu`.
    """

    def __init__(
        self,
        dim: int,
        vocab_size: int,
        *,
        token_dim: int,
        norm: nn.Module,
        activation: str = "gelu",
        layer_bias: bool = True,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.dense = nn.Linear(dim, token_dim, bias=layer_bias)
        self.activation = POOLERS[activation]
        self.norm = norm
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        init_linear(self.dense)

    def forward(
        self, x: Float[Tensor, "*tokens d"], layout: Layout, masked: Int[Tensor, " m"], table: Float[Tensor, "rows w"]
    ) -> Float[Tensor, "m rows"]:
        chosen = x.flatten(0, -2)[masked]
        return F.linear(self.norm(self.activation(self.dense(chosen))), table, self.bias)


class CausalHead(nn.Module):
    """Which token follows each: one score a token of the vocabulary.

    Tied, the scores are by the table that embeds tokens (Press and Wolf 2017, arXiv:1608.05859), handed on by the first
    room; else by a matrix of its own, which starts as the table does.

    Args:
        dim: Width of the core's tokens, and of the table's rows.
        vocab_size: Rows of the table.
        bias: Add a learned number to each token's score.
    """

    def __init__(self, dim: int, vocab_size: int, *, tied: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.table = None if tied else nn.Linear(dim, vocab_size, bias=False)
        if self.table is not None:
            init_linear(self.table)
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def forward(
        self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE, table: Float[Tensor, "rows d"] | None = None
    ) -> Float[Tensor, "*tokens rows"]:
        rows = table if self.table is None else self.table.weight
        assert rows is not None, "a tied head needs the first room's table"
        return F.linear(x, rows, self.bias)
