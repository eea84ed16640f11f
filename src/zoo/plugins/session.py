"""What a notebook or a script brings by `zoo.register`: a plugin that lives as long as the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.catalogue import Document, Loaded, raise_problems, validate
from zoo.contract import Source, Task, TaskEntry
from zoo.errors import UserError
from zoo.plugins.loading import PARTS, loaded
from zoo.specs import SCHEMA_VERSION, Catalogue, DatasetSpec, DataSpec, ModelSpec, RecipeSpec, Spec

if TYPE_CHECKING:
    from zoo.cost import Cost
    from zoo.specs import RunSpec

SESSION = "session"
_FILE = "zoo.register"


@dataclass(frozen=True, slots=True)
class Session:
    """What was registered so far.

    Args:
        loaders: A dataset's reference by name.
        objects: What references that begin with ``session:`` stand for.
    """

    tasks: Mapping[str, TaskEntry] = field(default_factory=dict[str, TaskEntry])
    loaders: Mapping[str, str] = field(default_factory=dict[str, str])
    objects: Mapping[str, Any] = field(default_factory=dict[str, Any])
    catalogue: Catalogue = field(default_factory=lambda: Catalogue(schema_version=SCHEMA_VERSION))


_current = Session()
_revision = 0


def current() -> Session:
    return _current


def registered() -> Loaded:
    """The session's catalogue, as if it had been read from a file."""
    return Loaded(_current.catalogue, Document(_FILE), ())


def revision() -> int:
    """Counts the changes."""
    return _revision


def register(
    *,
    task: TaskEntry | type[Task] | None = None,
    name: str | None = None,
    embed: type[Spec] | None = None,
    head: type[Spec] | None = None,
    augment: type[Spec] | None = None,
    cost: Callable[[RunSpec], Cost] | None = None,
    models: Mapping[str, ModelSpec | Mapping[str, Any]] | None = None,
    recipes: Mapping[str, RecipeSpec | Mapping[str, Any]] | None = None,
    datasets: Mapping[str, Callable[[DataSpec], Source]] | None = None,
    cards: Mapping[str, DatasetSpec | Mapping[str, Any]] | None = None,
    replace: bool = False,
) -> None:
    """Bring a task, models and datasets without a package. When something is wrong, nothing is brought.

    Args:
        task: A class that implements `zoo.Task`, then with its `name` and the classes of its parts; or a `TaskEntry`.
        models: As in a `registry.yaml`; likewise `recipes`, by ``MODEL/RECIPE``.
        datasets: Loaders by name.
        cards: What the registry says of the datasets; of one without a card, that it comes from this session.
        replace: Allow names that this session registered before, as when a notebook's cell runs again.

    Raises:
        UserError: A name is taken, or a value is not what it should be.
    """
    entry, objects = _entry(task, name, {"embed": embed, "head": head, "augment": augment, "cost": cost})
    tasks = {entry.name: entry} if entry else {}
    loaders = {each: f"{SESSION}:{each}.loader" for each in datasets or {}}
    objects |= {loaders[each]: loader for each, loader in (datasets or {}).items()}
    own = {"task": entry.name if entry else "", "description": "registered in this session"}
    own |= {"source": "this session", "license": "unknown"}
    brought = {
        "models": models or {},
        "recipes": recipes or {},
        "datasets": dict.fromkeys(loaders, own) | dict(cards or {}),
    }
    _refuse_taken({"tasks": tasks, **brought}, replace)
    sections = {kind: {**getattr(_current.catalogue, kind), **brought[kind]} for kind in brought}
    catalogue, problems = validate(Catalogue, Document(_FILE, {"schema_version": SCHEMA_VERSION, **sections}))
    raise_problems(problems)
    assert catalogue is not None
    _change(
        Session(
            {**_current.tasks, **tasks}, {**_current.loaders, **loaders}, {**_current.objects, **objects}, catalogue
        )
    )


def forget() -> None:
    _change(Session())


def _change(session: Session) -> None:
    global _current, _revision
    _current, _revision = session, _revision + 1


def _entry(task: Any, name: str | None, parts: Mapping[str, Any]) -> tuple[TaskEntry | None, dict[str, Any]]:
    """The entry of a task, and what its references stand for."""
    if task is None or isinstance(task, TaskEntry):
        if name or any(parts.values()):
            raise UserError(f"name, {', '.join(PARTS)} go with a task class; a TaskEntry holds them itself")
        return task, {}
    if not isinstance(task, type) or name is None:
        raise UserError(f"a task is a class with a name: zoo.register(task=MyTask, name='my-task'), not {task!r}")
    named = {part: value for part, value in {"task": task, **parts}.items() if value is not None}
    references = {part: f"{SESSION}:{name}.{part}" for part in named}
    entry = TaskEntry(name=name, description=(task.__doc__ or "").partition("\n")[0], **references)
    return entry, {references[part]: value for part, value in named.items()}


def _refuse_taken(brought: Mapping[str, Mapping[str, Any]], replace: bool) -> None:
    for found, manifest in loaded():
        theirs = {"tasks": {each.name for each in manifest.tasks}, "datasets": set(manifest.datasets)}
        for kind, names in theirs.items():
            for taken in sorted(names.intersection(brought[kind])):
                raise UserError(f"the {kind[:-1]} '{taken}' comes from plugin {found}\nchoose another name")
    mine = {"tasks": _current.tasks, **{kind: getattr(_current.catalogue, kind) for kind in brought if kind != "tasks"}}
    for kind, names in brought.items():
        for taken in [] if replace else sorted(mine[kind].keys() & names.keys()):
            raise UserError(
                f"the {kind[:-1]} '{taken}' is registered already\npass replace=True to put this in its place"
            )
