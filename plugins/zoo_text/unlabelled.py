"""Texts without labels, to pretrain on: the lines of text files, or the column of a table."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.contract import Dataset, Item, Source
from zoo.data.folder import files_by_split, split_named
from zoo.data.table import SUFFIXES, Sheet, find_column, pick_column, read_sheet, read_text
from zoo.errors import UserError
from zoo.files import user_path
from zoo.specs import DataSpec
from zoo_text.data import HUB, TEXT_COLUMNS, TEXT_SUFFIXES, Texts, open_hub, split_tables, text_of

PLACES = "the path of a text file, a table, or a folder of either"


def load_texts(data: DataSpec) -> Source:
    """A text file, each line a text; a table's column of texts; a folder of either, by their splits.

    Raises:
        UserError: It is none of them, or holds nothing.
    """
    found = _Found()
    if data.name.startswith(HUB):
        loaded, found.notes = open_hub(data.name)
        for split, part in loaded.items():
            column = _column(Sheet(Path(data.name), part.column_names, ()), data)
            found.add(split, ((f"{split}-{i}", row[column]) for i, row in enumerate(part)))
        return found.source(data.name)
    path = user_path(data.name)
    tables = split_tables(path) if path.is_dir() else {"train": path} if path.suffix.lower() in SUFFIXES else {}
    if tables:
        for split, table in tables.items():
            _add_table(found, split, table, data, alone=len(tables) == 1)
    elif path.is_dir():
        for split, files in files_by_split(path, TEXT_SUFFIXES).items():
            for name, file in files.items():
                found.add_lines(split, name, file)
    else:
        found.add_lines("train", path.name, path)
    return found.source(data.name)


class _Found:
    """Texts by split as they come, and why some cannot be used."""

    def __init__(self) -> None:
        self.parts: dict[str, list[tuple[str, str]]] = {}
        self.problems: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, split: str, pairs: Iterable[tuple[str, Any]]) -> None:
        for name, value in pairs:
            try:
                text = text_of(value)
            except UserError as error:
                self.problems[name] = str(error)
            else:
                self.parts.setdefault(split, []).append((name, text))

    def add_lines(self, split: str, name: str, file: Path) -> None:
        """Those that are not blank."""
        try:
            lines = read_text(file).split("\n")
        except UserError as error:
            self.problems[name] = str(error)
        else:
            self.add(split, [(f"{name}:{i}", line) for i, line in enumerate(lines, start=1) if line.strip()])

    def source(self, name: str) -> Source:
        if not self.parts:
            why = next(iter(self.problems.values()), f"no {', '.join((*TEXT_SUFFIXES, *SUFFIXES))} is there")
            raise UserError(f"'{name}' holds no text: {why}\ngive {PLACES}")
        splits: dict[str, Dataset] = {
            split: Texts([each for each, _ in pairs], [text for _, text in pairs], [None] * len(pairs))
            for split, pairs in self.parts.items()
        }
        return Source(splits, notes=self.notes, problems=self.problems)


def _column(sheet: Sheet, data: DataSpec) -> str:
    single = sheet.columns[0] if len(sheet.columns) == 1 else None
    return pick_column(sheet, TEXT_COLUMNS, asked=data.text_column or single, key="data.text_column")


def _add_table(found: _Found, split: str, path: Path, data: DataSpec, *, alone: bool) -> None:
    sheet = read_sheet(path)
    column = _column(sheet, data)
    named = find_column(sheet, ("split",)) if alone else None
    for row in sheet.rows:
        place = f"{path.name}:{row.line}"
        part = split if named is None else split_named(row.values.get(named), place)
        found.add(part, [(place, row.values.get(column))])


class Itself:
    """Texts whose target is the text itself."""

    lengths: Sequence[float] | None = None

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.ids = dataset, dataset.ids

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        item = self.dataset[index]
        return replace(item, target=item.inputs)

    def fingerprint(self, index: int) -> str:
        return self.dataset.fingerprint(index)
