"""Writing so that a reader, or whoever comes after a power cut, finds a whole file or the one before. Torch-free."""

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """The whole content at `path`, on disk; text is UTF-8."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    flush(part)
    part.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Make the system put a file, or a folder's list of files, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
