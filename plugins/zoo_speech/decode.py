"""From scores to text: the best path."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from zoo_speech.writing import BLANK


def best_path(scores: Float[Tensor, "n symbols"], lengths: Sequence[int]) -> list[list[int]]:
    """The likeliest symbol of every token; repeats become one, blanks none (Graves et al. 2006, section 3.2)."""
    found: list[list[int]] = []
    for path in scores.argmax(-1).cpu().split(list(lengths)):
        symbols = path.tolist()
        found.append([s for s, before in zip(symbols, [BLANK, *symbols], strict=False) if s not in (BLANK, before)])
    return found
