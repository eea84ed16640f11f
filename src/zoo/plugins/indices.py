"""What another library has, by name: a JSON file that comes with a bridge's plugin, and a newer one of this machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.data.places import cache_folder, make_cache_folder
from zoo.errors import UserError
from zoo.files import write_atomically

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Index:
    """The file of a bridge.

    Args:
        library: Whose names they are; what ``zoo plugins refresh`` calls it.
        packaged: What comes with the plugin.
        key: What the entries stand under.
    """

    library: str
    packaged: Path
    key: str

    @property
    def cached(self) -> Path:
        """Where a newer one lies, if any."""
        return cache_folder() / "indices" / f"{self.library}.json"

    def entries(self) -> Mapping[str, Any]:
        """Of the newer file, or of the plugin's.

        Raises:
            UserError: It cannot be read.
        """
        return self.read(self.cached if self.cached.is_file() else self.packaged)[self.key]

    def read(self, path: Path) -> Mapping[str, Any]:
        """The whole of a file, with the version of the library.

        Raises:
            UserError: It cannot be read.
        """
        try:
            return _read(path, path.stat().st_mtime_ns)
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = f"delete it, or run 'zoo plugins refresh {self.library}'"
            raise UserError(f"the index '{path}' cannot be read: {error}\n{remedy}") from error

    def document(self, version: str, entries: Mapping[str, Any]) -> dict[str, Any]:
        return {"format": FORMAT, self.library: version, self.key: entries}

    def write(self, document: Mapping[str, Any], path: Path | None = None) -> None:
        """An entry a line; into the cache folder unless said otherwise."""
        if path is None:
            make_cache_folder(self.cached.parent.name)
        lines = [f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in document[self.key].items()]
        head = json.dumps({key: value for key, value in document.items() if key != self.key})
        text = head[:-1] + f', "{self.key}": {{\n' + ",\n".join(lines) + "\n}}\n"
        write_atomically(path or self.cached, text)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Mapping[str, Any]:
    index = json.loads(path.read_text(encoding="utf-8"))
    if index["format"] != FORMAT:
        raise ValueError(f"its format is {index['format']}, not {FORMAT}")
    return index
