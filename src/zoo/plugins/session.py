"""What this session brings: a plugin that lives as long as the process. `zoo.register` fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.catalogue import Document, Loaded
from zoo.contract import TaskEntry, Tracker
from zoo.specs import SCHEMA_VERSION, Catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.specs import RunSpec

SESSION = "session"
TrackerMaker = Callable[["RunSpec", "Path"], Tracker]


@dataclass(frozen=True, slots=True)
class Session:
    """What was registered so far.

    Args:
        loaders: A dataset's reference by name.
        trackers: Their makers by name.
        objects: What references that begin with ``session:`` stand for.
    """

    tasks: Mapping[str, TaskEntry] = field(default_factory=dict[str, TaskEntry])
    loaders: Mapping[str, str] = field(default_factory=dict[str, str])
    trackers: Mapping[str, TrackerMaker] = field(default_factory=dict[str, TrackerMaker])
    objects: Mapping[str, Any] = field(default_factory=dict[str, Any])
    catalogue: Catalogue = field(default_factory=lambda: Catalogue(schema_version=SCHEMA_VERSION))


_current = Session()
_revision = 0


def current() -> Session:
    return _current


def registered() -> Loaded:
    """The session's catalogue, as if it had been read from a file."""
    return Loaded(_current.catalogue, Document("zoo.register"), ())


def revision() -> int:
    """Counts the changes."""
    return _revision


def change(session: Session) -> None:
    global _current, _revision
    _current, _revision = session, _revision + 1


def forget() -> None:
    change(Session())
