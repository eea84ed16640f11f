"""Folders of files: `root/class/file`, perhaps below train, validation and test, and what a user names to predict.

Files are known by their content, hashed once and remembered in the cache folder by path, size and time of change.
"""

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from zoo.contract import Item, Source
from zoo.data.places import make_cache_folder
from zoo.errors import UserError

SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class Files:
    """A dataset of files; an item's input is its path.

    Args:
        ids: Of each file, such as its path within the folder.
        targets: A class index each, or None where unknown.
    """

    lengths: Sequence[int] | None = None

    def __init__(self, paths: Sequence[Path], ids: Sequence[str], targets: Sequence[int | None]) -> None:
        self.paths, self.ids, self.targets = paths, ids, targets

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        return Item(self.ids[index], self.paths[index], self.targets[index])

    @cached_property
    def _fingerprints(self) -> list[str]:
        return hash_files(self.paths)

    def fingerprint(self, index: int) -> str:
        return self._fingerprints[index]


def read_class_folders(root: Path, suffixes: Collection[str]) -> Source:
    """A folder of classes: `root/class/*`, or that below `train`, `val|valid|validation` and `test`.

    Classes are the folders' names, sorted; those of train where there are splits.

    Raises:
        UserError: The folder is missing or empty, a class in it has no files, two folders are one split, or splits
            disagree on their classes.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder '{root}'; give the path of a folder of class folders, root/class/*")
    listing = {name: class_files(folder, suffixes) for name, folder in split_folders(root).items()}
    classes = sorted(listing.get("train") or set().union(*listing.values()))
    splits = {}
    for name, files in listing.items():
        if strangers := sorted(set(files) - set(classes)):
            raise UserError(
                f"'{root}': {name} has classes that train has not: {', '.join(strangers)}\n"
                f"train has: {', '.join(classes)}; move or rename the folders"
            )
        pairs = [(path, classes.index(label)) for label in classes for path in files.get(label, [])]
        paths = [path for path, _ in pairs]
        splits[name] = Files(
            paths, [path.relative_to(root).as_posix() for path in paths], [index for _, index in pairs]
        )
    return Source(splits, {"classes": classes})


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; all of `root` as train where it has none.

    Folders are splits where all are named so. Beside others, `train` is one where it holds folders itself: else it
    is a class, such as that of car, plane and train.

    Raises:
        UserError: Two folders are one split.
    """
    folders = _subfolders(root)
    named = [folder for folder in folders if folder.name in SPLIT_FOLDERS]
    if len(named) < len(folders):
        named = [folder for folder in named if _subfolders(folder)]
        if "train" not in [folder.name for folder in named]:
            return {"train": root}
    splits: dict[str, Path] = {}
    for folder in named:
        other = splits.setdefault(SPLIT_FOLDERS[folder.name], folder)
        if other != folder:
            raise UserError(f"'{root}' has both '{other.name}' and '{folder.name}' for one split; make them one folder")
    return splits or {"train": root}


def _subfolders(folder: Path) -> list[Path]:
    """Sorted; hidden ones are passed over."""
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]


def class_files(folder: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """Each class's files, sorted.

    Raises:
        UserError: There is no class folder, or one without files.
    """
    classes = {child.name: sorted(walk(child, suffixes)) for child in _subfolders(folder)}
    kinds = " ".join(suffixes)
    if not classes:
        loose = sum(1 for _ in walk(folder, suffixes))
        found = f"{loose} files, but no class folder, in" if loose else "nothing in"
        raise UserError(f"{found} '{folder}'; it should hold a folder for each class, with files of {kinds}")
    if empty := [name for name, files in classes.items() if not files]:
        some = ", ".join(f"'{name}'" for name in empty[:10]) + (" ..." if len(empty) > 10 else "")
        raise UserError(f"'{folder}': no files of {kinds} in {some}; add some or remove the folder")
    return classes


def walk(folder: Path, suffixes: Collection[str] | None = None) -> Iterator[Path]:
    """Files below a folder, with one of these suffixes in any case, or all; hidden ones are passed over."""
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            wanted = suffixes is None or os.path.splitext(name)[1].lower() in suffixes
            if wanted and not name.startswith("."):
                yield Path(where, name)


def find_files(sources: Sequence[str], suffixes: Collection[str]) -> Files:
    """The files a user names, and those below the folders that a user names; ids are the paths.

    What is not there, or is a folder without such a file, is an item too: `require_file` says so when it is read, and
    the others are answered.

    Raises:
        UserError: Nothing is named.
    """
    if not sources or "" in sources:
        raise UserError("nothing to read; give paths of files or folders")
    paths: list[Path] = []
    for source in sources:
        path = Path(source).expanduser()
        paths += (path.is_dir() and sorted(walk(path, suffixes))) or [path]
    return Files(paths, [path.as_posix() for path in paths], [None] * len(paths))


def require_file(path: Path, suffixes: Collection[str]) -> None:
    """
    Raises:
        UserError: There is no such file, it is a folder, or it is empty.
    """
    if path.is_dir():
        raise UserError(f"the folder '{path}' holds no file of {' '.join(suffixes)}")
    if not path.exists():
        raise UserError(f"there is no file or folder '{path}'")
    if path.stat().st_size == 0:
        raise UserError(f"the file '{path}' is empty (0 bytes)")


# ---------------------------------------------------------------- fingerprints


def hash_files(paths: Sequence[Path]) -> list[str]:
    """The content hash of each file, from the cache folder where size and time of change are still the same.

    A file that cannot be read has a fingerprint of its own: that it is broken is told when it is loaded.
    """
    database = make_cache_folder("fingerprints") / "files.sqlite"
    connection = sqlite3.connect(database, timeout=60)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, state TEXT, hash TEXT)")
    states = [_state(path) for path in paths]
    keys = [os.path.abspath(path) for path in paths]
    known: dict[str, tuple[str, str]] = {}
    for some in _batches(keys, 500):
        marks = ",".join("?" * len(some))
        rows = connection.execute(f"SELECT path, state, hash FROM files WHERE path IN ({marks})", some)
        known |= {path: (state, value) for path, state, value in rows}
    hashes = {
        key: known[key][1] for key, state in zip(keys, states, strict=True) if key in known and known[key][0] == state
    }
    new = [(key, state) for key, state in dict(zip(keys, states, strict=True)).items() if key not in hashes]
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter lock
        hashes |= dict(zip([key for key, _ in new], pool.map(hash_file, [key for key, _ in new]), strict=True))
    with connection:
        rows = [(key, state, hashes[key]) for key, state in new if state]
        connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
    connection.close()
    return [hashes[key] for key in keys]


def hash_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return f"unreadable: {path}"


def _state(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _batches(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
