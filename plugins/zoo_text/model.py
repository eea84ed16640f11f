"""The rooms that know text: token ids to tokens, and tokens to one score a class; packed, so that no pad is computed.

BERT: Devlin et al. 2018, arXiv:1810.04805; sequence pooling: Hassani et al. 2021, arXiv:2104.05704.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.core import DENSE, Layout, LearnedPosition, SinusoidalPosition, Stream, init_linear, unpack

POOLERS: Mapping[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu}


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
    ) -> None:
        super().__init__()
        self.dim, self.first_position = dim, first_position
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

    def forward(self, tokens: Int[Tensor, " n"], layout: Layout) -> Stream:
        x = self.table(tokens)
        if self.types is not None:
            x = x + self.types[0]
        if self.position is not None:
            x = self.position(x, layout, self.first_position)
        return Stream(self.project(self.dropout(self.norm(x))), layout)


class TextHead(nn.Module):
    """Pool each text's tokens and score the classes. The classifier starts from zero: no class is preferred.

    Args:
        pool: `cls` is the first token; `mean` and `max` of all; `seq` is their mean weighted by a learned score.
        pooler: Put what was pooled through a linear layer and `tanh`, `relu` or `gelu`.
        norm: Applied to what the pooler gives.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        pool: str = "cls",
        pooler: str | None = None,
        pooler_bias: bool = True,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.pool = dim, pool
        self.score = nn.Linear(dim, 1) if pool == "seq" else None
        self.pooler = nn.Linear(dim, dim, bias=pooler_bias) if pooler else None
        self.activation = POOLERS[pooler or "tanh"]
        self.norm = norm or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, num_classes)
        for layer in (self.score, self.pooler):
            if layer is not None:
                init_linear(layer)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE) -> Float[Tensor, "b classes"]:
        pooled = self._pooled(x, layout)
        if self.pooler is not None:
            pooled = self.norm(self.activation(self.pooler(pooled)))
        return self.classifier(self.dropout(pooled))

    def readout_weights(self, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "b t"]:
        """How much each token of a text alone counts in what is pooled; they sum to 1."""
        x = x if x.ndim == 3 else x[None]
        weights = x.new_zeros(x.shape[:2])
        if self.pool == "cls":
            weights[:, 0] = 1
        elif self.pool == "max":
            counts = F.one_hot(x.argmax(1), x.shape[1])
            weights += counts.sum(1) / x.shape[2]
        elif self.score is None:
            weights += 1 / x.shape[1]
        else:
            weights += self.score(x).squeeze(-1).softmax(1)
        return weights

    def _pooled(self, x: Float[Tensor, "*tokens d"], layout: Layout) -> Float[Tensor, "b d"]:
        if self.pool == "cls" and layout.cu_seqlens is not None:
            return x[layout.cu_seqlens[:-1]]
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
        if self.pool == "cls":
            return x[:, 0]
        pads = ~valid[:, :, None]
        if self.pool == "max":
            return x.masked_fill(pads, -math.inf).amax(1)
        if scores is None:
            return x.masked_fill(pads, 0).sum(1) / valid.sum(1, keepdim=True)
        weights = scores.masked_fill(pads, -math.inf).softmax(1)
        return (weights.transpose(1, 2) @ x).squeeze(1)
