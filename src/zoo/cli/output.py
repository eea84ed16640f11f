"""What a command prints: a plain table or one JSON document on stdout; all else goes to stderr."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, TextIO

from zoo.files import to_json


def let_any_name_through(stream: TextIO) -> None:
    """Names of files need not be text; what is no UTF-8 in them is read and printed as it is."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="surrogateescape")


def print_json(document: Any) -> None:
    let_any_name_through(sys.stdout)
    print(to_json(document))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; numbers to the right. Rich would cost a light command half its time."""
    let_any_name_through(sys.stdout)
    cells = [["" if value is None else " ".join(str(value).splitlines()) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        print("  ".join(aligned).rstrip())


def note(message: str) -> None:
    print(message, file=sys.stderr)
