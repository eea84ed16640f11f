"""Data of any kind: where it lies, how it is split, how it becomes batches. Knows no modality."""
