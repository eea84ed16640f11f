"""Folders of files: `root/class/file`, perhaps below train, validation and test, and what a user names to predict.

Files are known by their content, hashed once and remembered in the cache folder by path, size and time of change.
"""

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from zoo.contract import Item, Source
from zoo.data.places import make_cache_folder
from zoo.errors import UserError
from zoo.files import user_path

SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


class Files:
    """A dataset of files; an item's input is its path.

    Args:
        ids: Of each file, such as its path within the folder.
        targets: A class index each, or None where unknown.
    """

    lengths: Sequence[float] | None = None

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

    Classes are the folders' names, sorted; those of train where there are splits. Folders beside those of splits are
    left out, which is noted. A class without files is a problem of the source.

    Raises:
        UserError: The folder is missing or empty, two folders are one split, or splits disagree on their classes.
    """
    if not root.is_dir():
        what = f"'{root}' is a file" if root.exists() else f"there is no folder '{root}'"
        raise UserError(f"{what}; give the path of a folder of class folders, root/class/*")
    folders = split_folders(root)
    found = {name: class_files(folder, suffixes) for name, folder in folders.items()}
    listing = {name: {label: files for label, files in each.items() if files} for name, each in found.items()}
    empty = [folders[name] / label for name, each in found.items() for label in each.keys() - listing[name].keys()]
    unused = [] if root in folders.values() else [each for each in subfolders(root) if each not in folders.values()]
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
    left_out = ", ".join(folder.name for folder in unused)
    notes = [f"folders beside the splits are left out: {left_out}"] * bool(unused)
    problems = {f"{path.relative_to(root).as_posix()}/": f"no files of {' '.join(suffixes)}" for path in sorted(empty)}
    return Source(splits, {"classes": classes}, notes, problems)


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split, named in any case; all of `root` as train where it has none.

    Folders are splits where all are named so. Beside others, `train` is one where it holds folders itself: else it
    is a class, such as that of car, plane and train.

    Raises:
        UserError: Two folders are one split.
    """
    folders = subfolders(root)
    named = [folder for folder in folders if folder.name.lower() in SPLIT_FOLDERS]
    if len(named) < len(folders):
        named = [folder for folder in named if subfolders(folder)]
        if "train" not in [folder.name.lower() for folder in named]:
            return {"train": root}
    return by_split(root, named) or {"train": root}


def by_split(root: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Those of these folders or files that are named for a split, in any case, by that split.

    Raises:
        UserError: Two are for one split.
    """
    splits: dict[str, Path] = {}
    for path in paths:
        split = SPLIT_FOLDERS.get((path.name if path.is_dir() else path.stem).lower())
        if split is not None and splits.setdefault(split, path) != path:
            raise UserError(f"'{root}' has both '{splits[split].name}' and '{path.name}' for one split; make them one")
    return splits


def split_named(name: Any, place: str) -> str:
    """The split that a cell names, in any case.

    Raises:
        UserError: It names none.
    """
    split = SPLIT_FOLDERS.get(str(name).strip().lower())
    if split is None:
        raise UserError(f"{place}: the split '{name}' is none of {', '.join(SPLIT_FOLDERS)}\nrename it")
    return split


def subfolders(folder: Path) -> list[Path]:
    """Sorted; hidden ones are passed over."""
    try:
        return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    except OSError as error:
        raise _closed(error) from error


def _closed(error: OSError) -> UserError:
    return UserError(f"the folder '{error.filename}' cannot be listed: {error.strerror}\nmake it readable, or move it")


def class_files(folder: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """Each class's files, sorted.

    Raises:
        UserError: There is no class folder with files.
    """
    classes = {child.name: sorted(walk(child, suffixes)) for child in subfolders(folder)}
    kinds = " ".join(suffixes)
    if not any(classes.values()):
        loose = sum(1 for _ in walk(folder, suffixes))
        found = f"{loose} files, but no class folder, in" if loose else "nothing in"
        raise UserError(f"{found} '{folder}'; it should hold a folder for each class, with files of {kinds}")
    return classes


def walk(folder: Path, suffixes: Collection[str] | None = None) -> Iterator[Path]:
    """Files below a folder, with one of these suffixes in any case, or all; hidden ones are passed over.

    Links are followed, but to no folder a second time, and not to one around this.

    Raises:
        UserError: A folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise _closed(error) from error

    around = Path(os.path.realpath(folder)).parents
    seen: set[str] = set()
    for where, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(where)
        if real in seen or Path(real) in around:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            wanted = suffixes is None or os.path.splitext(name)[1].lower() in suffixes
            if wanted and not name.startswith("."):
                yield Path(where, name)


def count_files(place: Path, suffixes: Collection[str]) -> int:
    """How many files with these suffixes lie at or below a place."""
    if place.is_dir():
        return sum(1 for _ in walk(place, suffixes))
    return int(place.suffix.lower() in suffixes)


def files_by_split(root: Path, suffixes: Collection[str]) -> dict[str, dict[str, Path]]:
    """Every file below a folder, or below its `train`, `val` and `test`, whatever other folders they lie in: by split
    and by their path within `root`.

    Raises:
        UserError: There is none, or two folders are one split.
    """
    if not root.is_dir():
        raise UserError(f"'{root}' is no folder\ngive the path of one")
    found = {
        split: {path.relative_to(root).as_posix(): path for path in sorted(walk(folder, suffixes))}
        for split, folder in split_folders(root).items()
    }
    if not any(found.values()):
        raise UserError(f"'{root}' holds no file of a known kind\nknown are {', '.join(suffixes)}")
    return {split: files for split, files in found.items() if files}


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
        try:
            path = user_path(source)
            paths += (path.is_dir() and sorted(walk(path, suffixes))) or [path]
        except UserError:
            paths.append(Path(source))
    return Files(paths, [path.as_posix() for path in paths], [None] * len(paths))


def require_file(path: Path, suffixes: Collection[str]) -> None:
    """
    Raises:
        UserError: There is no such file, it is a folder, it is empty, or it cannot be looked at.
    """
    user_path(path)
    if path.is_dir():
        next(walk(path), None)
        raise UserError(f"the folder '{path}' holds no file of {' '.join(suffixes)}")
    if not path.exists():
        raise UserError(f"there is no file or folder '{path}'")
    if path.stat().st_size == 0:
        raise UserError(f"the file '{path}' is empty (0 bytes)")


# ---------------------------------------------------------------- fingerprints


def hash_files(paths: Sequence[Path]) -> list[str]:
    """The content hash of each file, from the cache folder where size and time of change are still the same.

    A file that cannot be read has a fingerprint of its own: that it is broken is told when it is loaded.

    Raises:
        UserError: The cache folder cannot be written, or what it holds is damaged.
    """
    database = make_cache_folder("fingerprints") / "files.sqlite"
    try:
        return _hash_files(paths, database)
    except sqlite3.Error as error:
        raise UserError(
            f"the cache '{database}' cannot be used: {error}\ndelete the file, which loses nothing"
        ) from error


def _hash_files(paths: Sequence[Path], database: Path) -> list[str]:
    connection = sqlite3.connect(database, timeout=60)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, state TEXT, hash TEXT)")
    states = [_state(path) for path in paths]
    # Names of files need not be text; the database's keys are.
    keys = [os.fsencode(os.path.abspath(path)).decode("utf-8", "backslashreplace") for path in paths]
    where = dict(zip(keys, paths, strict=True))
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
        hashes |= dict(zip([key for key, _ in new], pool.map(hash_file, [where[key] for key, _ in new]), strict=True))
    with connection:
        rows = [(key, state, hashes[key]) for key, state in new if state]
        connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
    connection.close()
    return [hashes[key] for key in keys]


def hash_file(path: Path) -> str:
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
