"""What a plugin promises and what it is handed: the task protocol, the values that walk through it, the manifest.

Torch-free: tensors appear in annotations only. The walk is

    registry → manifest → Task.datasets → transform → collate → Model → loss | decode → measure → report

Read on in `data`, `task`, `results`, then `manifest` and `bridge`.
"""

from zoo.contract.bridge import Bridge, Offered
from zoo.contract.data import Batch, Dataset, Item, Source, Splits
from zoo.contract.manifest import API_VERSION, Hooks, Manifest, TaskEntry, Tracker, hookimpl, hookspec
from zoo.contract.results import Drawing, Measures, Record, Statistic, Table
from zoo.contract.task import Checkable, Drawable, Elaborate, Finding, Generating, Parts, Splitting, Task, Variant

__all__ = [
    "API_VERSION",
    "Batch",
    "Bridge",
    "Checkable",
    "Dataset",
    "Drawable",
    "Drawing",
    "Elaborate",
    "Finding",
    "Generating",
    "Hooks",
    "Item",
    "Manifest",
    "Measures",
    "Offered",
    "Parts",
    "Record",
    "Source",
    "Splits",
    "Splitting",
    "Statistic",
    "Table",
    "Task",
    "TaskEntry",
    "Tracker",
    "Variant",
    "hookimpl",
    "hookspec",
]
