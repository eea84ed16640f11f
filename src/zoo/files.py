"""Files: written so that whoever comes after a power cut finds a whole one or the one before; JSON; paths as typed.

Torch-free.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

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


def to_json(document: Any, *, indent: int | None = 2) -> str:
    """JSON as every parser reads it: a number that is not finite is null."""
    return json.dumps(_finite(document), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return {key: _finite(each) for key, each in mapping.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """Settings by name.

    Raises:
        UserError: The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read: {error}\ncopy or download it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no settings by name\ncopy or download it anew")
    return cast("dict[str, Any]", content)


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
