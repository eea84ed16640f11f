"""Writing so that a reader, or whoever comes after a power cut, finds a whole file or the one before; paths as typed.

Torch-free.
"""

import os
from pathlib import Path

from zoo.errors import UserError


def user_path(typed: str | Path) -> Path:
    """A path as a user typed it, with ``~`` expanded. Nothing need be there.

    Raises:
        UserError: It cannot be looked at: no such user, too long, a closed folder on the way.
    """
    try:
        path = Path(typed).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        shown = str(typed) if len(str(typed)) <= 100 else f"{str(typed)[:100]}..."
        raise UserError(f"cannot look at '{shown}': {getattr(error, 'strerror', None) or error}") from error
    return path


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
