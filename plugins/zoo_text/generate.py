"""How a causal model writes: token after token, each after all before it, whose keys and values are kept.

Drawing from the likeliest k: Fan et al. 2018, arXiv:1805.04833; from those of a probability p: Holtzman et al. 2019,
arXiv:1904.09751.
"""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.core import DENSE, Model, Stream

Choose = Callable[[Float[Tensor, " rows"]], int]
"""The next token, by the scores of all."""


def continue_text(
    model: Model,
    prompt: Int[Tensor, " t"],
    choose: Choose,
    *,
    max_new_tokens: int,
    ends: Collection[int],
    max_tokens: int | None = None,
) -> list[int]:
    """The tokens that follow a prompt, up to one of `ends`, which is left out.

    Args:
        max_tokens: Places that the first room knows; None where it knows any. What would stand beyond is not written.
    """
    core: Any = model.core
    cache, tokens, offset = core.new_cache(), prompt[None], 0
    made: list[int] = []
    while len(made) < max_new_tokens and (max_tokens is None or offset + tokens.shape[1] <= max_tokens):
        x, layout, aside = Stream(*model.embed(tokens, DENSE, offset=offset))
        x = core(x, layout, cache=cache)
        token = choose(model.head(x[:, -1:], layout, **aside)[0, 0])
        if token in ends:
            break
        made.append(token)
        offset += tokens.shape[1]
        tokens = prompt.new_tensor([[token]])
    return made


def likeliest(scores: Float[Tensor, " rows"]) -> int:
    return int(scores.argmax())


def drawing(temperature: float, top_k: int | None, top_p: float, rng: np.random.Generator) -> Choose:
    """Draw the next token by its probability, among the likeliest; at temperature 0 take the likeliest."""
    if temperature == 0:
        return likeliest

    def choose(scores: Tensor) -> int:
        scores = scores.double().cpu() / temperature
        values, order = scores.sort(descending=True, stable=True)
        share = values[:top_k].softmax(0)
        before = share.cumsum(0) - share  # of those that are likelier
        share = share.where(before < top_p, 0.0).cumsum(0)
        place = int(torch.searchsorted(share, float(rng.random() * share[-1]), right=True))
        return int(order[min(place, len(share) - 1)])

    return choose
