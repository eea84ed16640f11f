"""How datasets come to this machine: from the mirror folder, or from the network when asked; and their hash.

The hash of a dataset is over its files as extracted. Take each file's path below the dataset's folder, with slashes;
leave out the leading folders that all share, and then, if any file lies in a folder, those that lie in none (such as a
README). Sort by path. The hash is SHA-256 over, for each file, its path in UTF-8, a zero byte and the 32 bytes of its
own SHA-256. A folder that holds one archive and nothing else counts as what is in the archive.
"""

import gzip
import hashlib
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib.parse import urlsplit

from zoo.data.places import locate, make_cache_folder, wrong_mirror
from zoo.errors import UserError
from zoo.specs import DatasetSpec

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_BYTES = 400 * 2**30
"""Of an archive's files, where the dataset's card gives no size."""

Progress = Callable[[str, int, int | None], None]
"""Called with what is being fetched, bytes so far and in all, None when unknown."""


def fetch(name: str, dataset: DatasetSpec, progress: Progress = lambda *_: None) -> Path:
    """Bring a dataset to this machine unless it is here already, and hold it against its hash.

    Raises:
        UserError: It has no address, it cannot be downloaded or unpacked, or its files are not what they should be.
    """
    folder = locate(name)
    if folder is not None:
        verify(name, folder, dataset)
        return folder
    if dataset.url is None:
        raise UserError(
            f"'{name}' has no address to download from; its source is: {dataset.source}\n"
            f"put its files into a folder '{name}' and set ZOO_MIRROR to the folder that holds it"
        )
    home = make_cache_folder("datasets")
    # Beside its final place, so that it appears whole or not at all.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=home) as folder:
        files = Path(folder) / "files"
        files.mkdir()
        for url in dataset.url.split():
            archive = Path(folder) / PurePosixPath(urlsplit(url).path).name
            download(url, archive, progress)
            extract(archive, files, 2 * dataset.size_bytes if dataset.size_bytes else MAX_BYTES)
            archive.unlink()
        verify(name, files, dataset)
        files.rename(home / name)
    return home / name


def verify(name: str, folder: Path, dataset: DatasetSpec) -> str:
    """The hash of a dataset's files.

    Raises:
        UserError: It isn't the one on the dataset's card.
    """
    found = tree_hash(folder)
    if dataset.sha256 is not None and found != dataset.sha256:
        raise UserError(
            f"the files of '{name}' in '{folder}' have SHA-256 {found}, not {dataset.sha256}\n"
            "they are incomplete or another version; remove the folder and fetch it again"
        )
    return found


def download(url: str, target: Path, progress: Progress) -> None:
    """Download a file.

    Raises:
        UserError: The address is not http(s), or cannot be read to its end.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"'{url}' is not an http(s) address")
    from http.client import HTTPException  # with urllib.request: too slow to import for a command that only lists
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": "attention-zoo"})
    try:
        with urlopen(request, timeout=60) as answer, target.open("wb") as file:
            size = answer.headers.get("Content-Length")
            total = int(size) if size else None
            while piece := answer.read(1 << 20):
                file.write(piece)
                progress(target.name, file.tell(), total)
            if total is not None and file.tell() != total:
                raise UserError(f"'{url}' ended after {file.tell()} of {total} bytes; try again")
    except (OSError, HTTPException) as error:
        why = error.reason if type(error) is URLError else error  # an HTTPError's reason leaves out its number
        raise UserError(
            f"cannot download '{url}': {why}\ncheck the network, or set ZOO_MIRROR to a folder that holds the dataset"
            f"{wrong_mirror()}"
        ) from error


# ---------------------------------------------------------------- archives


def extract(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack an archive, or a single compressed file, into a folder. Plain files and folders only.

    Raises:
        UserError: It is no archive, is damaged or too large, or holds a link or a path that leads out of the folder.
    """
    left = max_bytes
    try:
        if archive.suffix == ".gz" and not archive.name.endswith(".tar.gz"):
            with gzip.open(archive) as packed:
                _write(cast("IO[bytes]", packed), folder / archive.stem, max_bytes, archive)
            return
        with _members(archive) as members:
            for name, opened in members.items():
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                    raise UserError(
                        f"'{archive.name}' holds '{name}', which leads out of its folder; nothing is unpacked"
                    )
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened() as packed:
                    left -= _write(packed, target, left, archive)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"'{archive.name}' is damaged: {error}; fetch it again") from error


@contextmanager
def _members(archive: Path) -> Iterator[dict[str, Callable[[], IO[bytes]]]]:
    """How to open each file of an archive, by path."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            infos = [info for info in packed.infolist() if not info.is_dir()]
            for info in infos:
                kind = info.external_attr >> 28  # the file type of a Unix mode; 0 where none was written
                if kind not in (0, 0o10):
                    raise UserError(
                        f"'{archive.name}' holds '{info.filename}', which is no plain file; nothing is unpacked"
                    )
            yield {info.filename: partial(packed.open, info) for info in infos}
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed:
            infos = [info for info in packed.getmembers() if not info.isdir()]
            for info in infos:
                if not info.isfile():
                    raise UserError(
                        f"'{archive.name}' holds '{info.name}', which is no plain file; nothing is unpacked"
                    )
            yield {info.name: partial(_open_member, packed, info) for info in infos}
    else:
        raise UserError(f"'{archive.name}' is no archive of a known kind ({' '.join(ARCHIVES)} .gz)")


def _open_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(info)
    assert opened is not None, "only plain files are asked for"
    return opened


def _write(packed: IO[bytes], target: Path, max_bytes: int, archive: Path) -> int:
    """Bytes written. What an archive says of its size is not believed: they are counted."""
    written = 0
    with target.open("wb") as file:
        while piece := packed.read(1 << 20):
            written += len(piece)
            if written > max_bytes:
                raise UserError(f"'{archive.name}' holds more than the {max_bytes} bytes it may; nothing is kept")
            file.write(piece)
    return written


# ---------------------------------------------------------------- hashes


@contextmanager
def contents(folder: Path) -> Iterator[Mapping[str, Callable[[], IO[bytes]]]]:
    """How to open each file of a dataset, by path, whether it lies extracted or as one archive."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if len(files) == 1 and files[0].name.endswith(ARCHIVES):
        with _members(files[0]) as members:
            yield members
    else:
        yield {path.relative_to(folder).as_posix(): partial(path.open, "rb") for path in files}


def tree_hash(folder: Path) -> str:
    """The hash of a dataset's files, by the rule above."""
    with contents(folder) as members:
        names = {PurePosixPath(name).parts: name for name in members}
        while names and len({parts[0] for parts in names}) == 1 and all(len(parts) > 1 for parts in names):
            names = {parts[1:]: name for parts, name in names.items()}
        if any(len(parts) > 1 for parts in names):
            names = {parts: name for parts, name in names.items() if len(parts) > 1}
        digest = hashlib.sha256()
        for parts, name in sorted(names.items(), key=lambda pair: "/".join(pair[0])):
            with members[name]() as file:
                own = hashlib.file_digest(file, "sha256").digest()  # pyright: ignore[reportArgumentType]
            digest.update("/".join(parts).encode() + b"\0" + own)
    return digest.hexdigest()
