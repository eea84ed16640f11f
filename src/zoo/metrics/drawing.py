"""Figures drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG = "Blues", "Oranges"  # told apart by every kind of colour vision


def draw_confusion(figure: Figure, matrix: Int[np.ndarray, "target predicted"], classes: Sequence[str]) -> None:
    """Counts, shaded by their share of the row: right ones blue, wrong ones orange by its root, so that few show."""
    num_classes = len(classes)
    side = min(max(0.42 * num_classes + 2.4, 4.2), 16)
    figure.set_size_inches(side, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    right = np.eye(num_classes, dtype=bool)
    axes.imshow(np.where(right & (matrix > 0), share, np.nan), cmap=RIGHT, vmin=0, vmax=1.25)
    axes.imshow(np.where(right | (matrix == 0), np.nan, np.sqrt(share)), cmap=WRONG, vmin=-0.15, vmax=1)
    if num_classes <= 30:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            dark = share[row, column] > (0.6 if row == column else 0.35)
            count = f"{matrix[row, column]}"
            axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black", size=9)

    every = -(-num_classes // 100)
    ticks = range(0, num_classes, every)
    names = [classes[i] if len(classes[i]) <= 20 else classes[i][:19] + "…" for i in ticks]
    size = float(np.clip(9 - (num_classes - 10) / 20, 5, 9))
    crowded = max(map(len, names)) * num_classes > 12 * side
    axes.set_xticks(ticks, names, rotation=90 if crowded else 0, size=size)
    axes.set_yticks(ticks, names, size=size)
    edges = np.arange(1, num_classes) - 0.5
    axes.hlines(edges, -0.5, num_classes - 0.5, color="0.93", linewidth=0.6)
    axes.vlines(edges, -0.5, num_classes - 0.5, color="0.93", linewidth=0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_color("0.8")
    axes.set(xlabel="predicted", ylabel="target")
    axes.set_title(f"Confusion · {int(np.trace(matrix))} of {int(matrix.sum())} right", size=11)


def draw_reliability(
    figure: Figure, count: Float[np.ndarray, " bins"], accuracy: Float[np.ndarray, " bins"], error: float
) -> None:
    """Accuracy against confidence, and how many predictions each bin holds.

    Args:
        error: The expected calibration error.
    """
    figure.set_size_inches(4.6, 5)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    centres, width = (np.arange(len(count)) + 0.5) / len(count), 0.9 / len(count)
    upper.bar(centres, accuracy, width, color="#4c8bbf", label="accuracy of the bin")
    upper.plot([0, 1], [0, 1], "--", color="#d95f02", linewidth=1.2, label="perfectly calibrated")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8, frameon=False)
    lower.bar(centres, count, width, color="0.6")
    lower.set(xlabel="confidence", ylabel="items")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Reliability · ECE {error:.3f} · n = {int(count.sum())}", size=11)
