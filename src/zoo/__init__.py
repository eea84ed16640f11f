"""A model zoo in which one attention core serves every modality.

Everything public is here; names that need torch are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.contract import (
    API_VERSION,
    Batch,
    Dataset,
    Finding,
    Item,
    Manifest,
    Measures,
    Record,
    Source,
    Splits,
    Table,
    Task,
    TaskEntry,
    Tracker,
    hookimpl,
)
from zoo.errors import RunWarning, UserError

if TYPE_CHECKING:
    from zoo.evaluator import evaluate
    from zoo.predictor import predict
    from zoo.registry import list_models, register
    from zoo.report import Report
    from zoo.run import Run, open_run
    from zoo.training import train
    from zoo.weights.export import export
    from zoo.weights.start import load

_LAZY = {
    "evaluate": "zoo.evaluator",
    "export": "zoo.weights.export",
    "list_models": "zoo.registry",
    "load": "zoo.weights.start",
    "open_run": "zoo.run",
    "predict": "zoo.predictor",
    "register": "zoo.registry",
    "Report": "zoo.report",
    "Run": "zoo.run",
    "train": "zoo.training",
}

__all__ = [
    "API_VERSION",
    "Batch",
    "Dataset",
    "Finding",
    "Item",
    "Manifest",
    "Measures",
    "Record",
    "Report",
    "Run",
    "RunWarning",
    "Source",
    "Splits",
    "Table",
    "Task",
    "TaskEntry",
    "Tracker",
    "UserError",
    "evaluate",
    "export",
    "hookimpl",
    "list_models",
    "load",
    "open_run",
    "predict",
    "register",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'zoo' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
