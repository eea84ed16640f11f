"""Published weights: read safely, put where they belong by a table of names, and written back the same way.

`processors` needs no torch; names that do are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.files import read_json

if TYPE_CHECKING:
    from zoo.weights.family import Family
    from zoo.weights.files import Published, read_published
    from zoo.weights.table import (
        LEADING,
        SAME,
        TRANSPOSED,
        Form,
        Placed,
        Resizable,
        Row,
        Table,
        from_published,
        to_published,
    )

_LAZY = {
    "Family": "family",
    "Published": "files",
    "read_published": "files",
    **dict.fromkeys(
        (
            "LEADING",
            "SAME",
            "TRANSPOSED",
            "Form",
            "Placed",
            "Resizable",
            "Row",
            "Table",
            "from_published",
            "to_published",
        ),
        "table",
    ),
}

__all__ = [
    "LEADING",
    "SAME",
    "TRANSPOSED",
    "Family",
    "Form",
    "Placed",
    "Published",
    "Resizable",
    "Row",
    "Table",
    "from_published",
    "read_json",
    "read_published",
    "to_published",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'zoo.weights' has no attribute '{name}'")
    return getattr(import_module(f"zoo.weights.{_LAZY[name]}"), name)
