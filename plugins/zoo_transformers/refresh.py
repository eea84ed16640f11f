"""The index made anew, of the transformers that is installed: what is new in it is tried."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import counted
from zoo_transformers.index import INDEX, kinds
from zoo_transformers.network import library

PUBLISHED = re.compile(
    r"""@auto_docstring\(\s*(?:custom_intro=.*?)?checkpoint="([^"]+)".*?^    model_type = "([^"]+)\"""", re.S | re.M
)
"""In the source of a configuration: a publication of its kind."""


def refresh() -> str:
    """Write the index into the cache folder."""
    library()
    index, failed = make(kinds())
    INDEX.write(index)
    number = len(index["kinds"])
    return (
        f"{counted(number, 'architecture')} of transformers {index['transformers']}, in '{INDEX.cached}'; "
        f"{len(failed)} of its others do not fit the bridge's rooms"
    )


def make(known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The index of the transformers that is installed, and of what is not in it, why.

    Args:
        known: What an index has already, which is not tried again.
    """
    from zoo_transformers.trial import MAPPINGS, kinds_of, tried

    published, found, failed = _published(), dict[str, Any](), dict[str, str]()
    for task in MAPPINGS:
        for kind in kinds_of(task):
            why = None if task in known.get(kind, {}).get("tasks", ()) else tried(task, kind)
            if why is None:
                found.setdefault(kind, {"tasks": [], "published": published.get(kind)})["tasks"].append(task)
            else:
                failed[f"{task} {kind}"] = why
    named = Counter(facts["published"] for facts in found.values())
    for facts in found.values():
        if named[facts["published"]] > 1:  # of two kinds it is one's at most, and nothing tells whose
            facts["published"] = None
    ordered = dict(sorted(found.items()))
    return INDEX.document(library().__version__, ordered), failed


def _published() -> dict[str, str]:
    """Of each kind a publication, as its configuration's documentation names it."""
    found: dict[str, str] = {}
    for path in sorted(Path(library().__file__).parent.glob("models/*/configuration_*.py")):
        for name, kind in PUBLISHED.findall(path.read_text(encoding="utf-8")):
            if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
                found.setdefault(kind, name)
    return found


if __name__ == "__main__":  # the one that comes with the plugin
    made, lost = make({})
    INDEX.write(made, INDEX.packaged)
    for what, reason in lost.items():
        print(f"{what}: {reason}")
