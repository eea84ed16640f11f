"""What a command prints: a plain table or one JSON document on stdout; all else goes to stderr."""

import json
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any


def _as_bytes() -> None:
    """Names of files need not be text; what is no UTF-8 in them is printed as it is."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def print_json(document: Any) -> None:
    _as_bytes()
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; numbers to the right. Rich would cost a light command half its time."""
    _as_bytes()
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        print("  ".join(aligned).rstrip())


def note(message: str) -> None:
    print(message, file=sys.stderr)
