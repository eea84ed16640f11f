"""The scales: from records to figures with intervals, for any task."""

from zoo.metrics.classes import class_records, classification, likeliest
from zoo.metrics.intervals import RESAMPLES, Value, intervals
from zoo.metrics.labels import label_records, multi_label
from zoo.metrics.likelihood import likelihood
from zoo.metrics.reconstruction import reconstruction
from zoo.metrics.transcripts import transcripts

__all__ = [
    "RESAMPLES",
    "Value",
    "class_records",
    "classification",
    "intervals",
    "label_records",
    "likeliest",
    "likelihood",
    "multi_label",
    "reconstruction",
    "transcripts",
]
