"""Recordings of a user: folders with a list of transcriptions, such lists alone, and known datasets unpacked."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from zoo.contract import Source
from zoo.data.folder import by_split, split_named, subfolders
from zoo.data.table import SUFFIXES as TABLES
from zoo.data.table import find_column, pick_column, read_sheet
from zoo.errors import UserError, listing
from zoo.files import user_path
from zoo.specs import DataSpec
from zoo_speech import audio, morse
from zoo_speech.data import Entry, make_source
from zoo_speech.layouts import lj_speech, recognise

PLACES = "the path of a folder with a metadata.csv (file_name,transcription), or of such a table"
FILE_COLUMNS = ("file_name", "file", "path", "audio", "audio_filepath", "wav", "filename")
TEXT_COLUMNS = ("transcription", "transcript", "text", "sentence", "normalized_text")
GROUP_COLUMNS = ("speaker", "speaker_id", "client_id", "group")


def load_place(data: DataSpec) -> Source:
    """A folder with a list of transcriptions, perhaps one for each split, the list itself, or a known dataset unpacked.

    Raises:
        UserError: It is none, or names files that are not there.
    """
    if data.name.startswith("morse:"):
        return morse.load_morse(data)
    path = user_path(data.name)
    if path.is_file():
        if path.suffix.lower() in audio.SUFFIXES:
            raise UserError(f"'{path}' is a recording: what is said in it is not known\ngive {PLACES}")
        return _read_lists({"train": path}, path.parent, data)
    if not path.is_dir():
        raise UserError(f"there is no folder or file '{path}'\ngive {PLACES}")
    if (found := lj_speech(path)) is not None:
        return make_source(found.parts, data, [found.note])
    if (own := _list_in(path)) is not None:
        return _read_lists({"train": own}, path, data)
    tables = [each for each in sorted(path.iterdir()) if each.is_file() and each.suffix.lower() in TABLES]
    lists = by_split(path, tables)
    if not lists:
        folders = [folder for folder in subfolders(path) if _list_in(folder) is not None]
        lists = {split: own for split, folder in by_split(path, folders).items() if (own := _list_in(folder))}
    if not lists and (found := recognise(path)) is not None:
        return make_source(found.parts, data, [found.note])
    if not lists:
        named = listing([f"'{each}'" for each in tables], 3, " or ")
        hint = f", or give the path of {named}" if tables else ""
        raise UserError(
            f"'{path}' has no list of transcriptions\nadd a metadata.csv with file_name,transcription{hint}"
        )
    return _read_lists(lists, path, data)


def is_bare(path: Path) -> bool:
    """Whether a place is a folder of recordings alone: no list of transcriptions, no dataset's layout."""
    if not path.is_dir() or lj_speech(path) is not None or recognise(path) is not None:
        return False
    return not any(each.suffix.lower() in TABLES for folder in (path, *subfolders(path)) for each in folder.iterdir())


def _list_in(folder: Path) -> Path | None:
    names = [f"{stem}{suffix}" for stem in ("metadata", "manifest") for suffix in TABLES]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def num_listed(table: Path) -> int:
    """How many recordings a table lists; 0 where it is no such list."""
    try:
        sheet = read_sheet(table)
    except UserError:
        return 0
    return 0 if find_column(sheet, FILE_COLUMNS) is None else len(sheet.rows)


def _read_lists(lists: Mapping[str, Path], root: Path, data: DataSpec) -> Source:
    """The recordings of lists of transcriptions; a column `split` of a list alone names each row's split."""
    parts: dict[str, list[Entry]] = defaultdict(list)
    notes: list[str] = []
    ids: Counter[str] = Counter()
    for split, path in lists.items():
        sheet = read_sheet(path)
        file = pick_column(sheet, FILE_COLUMNS)
        group, named = find_column(sheet, GROUP_COLUMNS), find_column(sheet, ("split",))
        text = pick_column(
            sheet, TEXT_COLUMNS, asked=data.text_column, key="data.text_column", taken=[file, group, named]
        )
        name = path.relative_to(root).as_posix()
        notes.append(f"'{name}': files are of column '{file}', transcriptions of column '{text}'")
        if any(str(row.values.get("offset") or 0).strip("0. ") for row in sheet.rows):
            raise UserError(f"'{name}' has a column 'offset', but recordings are read whole\ncut them, a file for each")
        column = named if len(lists) == 1 else None
        for row in sheet.rows:
            place = f"{name}:{row.line}"
            where = path.parent / str(row.values.get(file) or place)
            own = os.path.relpath(where, root)
            ids[own] += 1
            entry = Entry(
                own if ids[own] == 1 else f"{own} ({place})",
                where,
                str(row.values.get(text) or ""),
                None if group is None else str(row.values.get(group) or "").strip() or None,
            )
            parts[split if column is None else split_named(row.values.get(column), place)].append(entry)
    return make_source(parts, data, notes)
