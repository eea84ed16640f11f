"""Published weights: read safely, put where they belong by a table of names, and written back the same way."""

from zoo.weights.files import Published, read_published
from zoo.weights.table import LEADING, SAME, Form, Placed, Row, Table, from_published, to_published

__all__ = [
    "LEADING",
    "SAME",
    "Form",
    "Placed",
    "Published",
    "Row",
    "Table",
    "from_published",
    "read_published",
    "to_published",
]
