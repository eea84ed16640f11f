"""What a user names to predict: texts as they are, files and folders of text, tables row by row."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from zoo.data.folder import walk
from zoo.data.table import SUFFIXES, pick_column, read_sheet
from zoo.errors import UserError
from zoo.files import user_path
from zoo.specs import DataSpec
from zoo_text.data import TEXT_COLUMNS, TEXT_SUFFIXES, Texts, read_file, text_of


def read_inputs(sources: Sequence[str], data: DataSpec) -> Texts:
    """Texts, in order. A word with a known suffix is a file even when there is none, so that a typing error is told.

    Args:
        data: Of the training: its column of texts is looked for in tables first.

    Raises:
        UserError: Nothing is named.
    """
    if not sources:
        raise UserError("nothing to read\ngive texts, files or folders")
    return _joined([_read(source, data) for source in sources])


def _read(source: str, data: DataSpec) -> Texts:
    path = _path(source)
    if path is None:
        return _texts([source], [source])
    if path.is_dir():
        inside = sorted(walk(path, (*TEXT_SUFFIXES, *SUFFIXES)))
        return _joined([_read_place(each, str(each), data) for each in inside or [path]])
    return _read_place(path, source, data)


def _read_place(path: Path, name: str, data: DataSpec) -> Texts:
    """A table row by row, or a file as one text. What cannot be read is told when it is asked for."""
    try:
        if path.suffix.lower() in SUFFIXES:
            return _read_rows(path, data)
        return _texts([name], [read_file(path)])
    except UserError as error:
        return Texts([name], [""], [None], {0: str(error)})


def _texts(ids: Sequence[str], values: Sequence[Any]) -> Texts:
    texts: list[str] = []
    problems: dict[int, str] = {}
    for index, value in enumerate(values):
        try:
            texts.append(text_of(value))
        except UserError as error:
            texts.append("")
            problems[index] = str(error)
    return Texts(ids, texts, [None] * len(texts), problems)


def _joined(parts: Sequence[Texts]) -> Texts:
    offsets = accumulate((len(part) for part in parts), initial=0)
    return Texts(
        [each for part in parts for each in part.ids],
        [each for part in parts for each in part.texts],
        [None for part in parts for _ in part.texts],
        {offset + i: why for offset, part in zip(offsets, parts, strict=False) for i, why in part.problems.items()},
    )


def _path(source: str) -> Path | None:
    """The path that a source is, or is meant to be."""
    try:
        path = user_path(source)
        there = bool(source) and path.exists()
    except UserError:  # too long for a path
        return None
    known = path.suffix.lower() in (*TEXT_SUFFIXES, *SUFFIXES) and len(source.split()) == 1
    return path if there or known else None


def _read_rows(path: Path, data: DataSpec) -> Texts:
    sheet = read_sheet(path)
    column = data.text_column
    if column is None or column not in sheet.columns:
        alone = len(sheet.columns) == 1
        column = sheet.columns[0] if alone else pick_column(sheet, TEXT_COLUMNS)
    return _texts([f"{path}:{row.line}" for row in sheet.rows], [row.values.get(column) for row in sheet.rows])
