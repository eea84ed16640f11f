"""A text as a picture: its pieces in lines, each shaded by how much it weighs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, MOST_LINES = 26, 11
"""Characters in a line, and lines, of a picture."""


def draw_text(axes: "Axes", text: str, spans: Sequence[tuple[int, int]], relevance: np.ndarray) -> None:
    """Draw the pieces of a text; what has no room is left out.

    Args:
        spans: Where each piece begins and ends in the text.
        relevance: Of each piece, (num_pieces,).
    """
    axes.set(xlim=(0, WIDTH), ylim=(MOST_LINES, 0))
    axes.set_axis_off()
    heat = relevance / max(float(relevance.max(initial=0.0)), 1e-12)
    line = column = 0
    before = 0
    weights: dict[tuple[int, int], float] = {}
    for span, weight in zip(spans, heat.tolist(), strict=True):
        weights[span] = max(weight, weights.get(span, 0.0))  # a character may be several pieces, of a byte each
    for (begin, end), weight in weights.items():
        piece = " ".join(text[begin:end].split())
        column += bool(column) and text[before:begin].isspace()
        if column and column + len(piece) > WIDTH:
            line, column = line + 1, 0
        if line >= MOST_LINES:
            return
        axes.barh(line + 0.5, len(piece), height=0.9, left=column, color=(1.0, 0.5, 0.0, 0.65 * weight))
        axes.text(column, line + 0.5, piece.replace("$", r"\$"), family="monospace", size=6, va="center")
        column, before = column + len(piece), end
