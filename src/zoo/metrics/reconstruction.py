"""Of what was hidden and drawn from the rest: how far the drawing is from what was there."""

from collections.abc import Sequence

import numpy as np

from zoo.contract import Measures, Record
from zoo.metrics.intervals import mean


def reconstruction(records: Sequence[Record]) -> Measures:
    """The mean error over items.

    Args:
        records: `prediction` is an item's error, in the task's unit.
    """
    errors = np.array([record.prediction for record in sorted(records, key=lambda record: record.id)])
    return Measures("reconstruction_error", {"reconstruction_error": mean(errors)}, higher_is_better=False)
