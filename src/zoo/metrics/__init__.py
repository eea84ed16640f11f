"""The scales: from records to figures with intervals, for any task."""

from zoo.metrics.classes import classification
from zoo.metrics.intervals import RESAMPLES, Value, intervals
from zoo.metrics.labels import multi_label
from zoo.metrics.transcripts import transcripts

__all__ = ["RESAMPLES", "Value", "classification", "intervals", "multi_label", "transcripts"]
