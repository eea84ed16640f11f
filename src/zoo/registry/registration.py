"""What a notebook or a script brings by `zoo.register`, held against what there is already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.catalogue import Document, raise_problems, validate
from zoo.contract import Source, Task, TaskEntry, Tracker
from zoo.errors import UserError
from zoo.plugins import SESSION, session
from zoo.plugins.loading import PARTS
from zoo.registry.names import KINDS, open_registry
from zoo.specs import SCHEMA_VERSION, Catalogue, DatasetSpec, DataSpec, ModelSpec, RecipeSpec, RunSpec, Spec

if TYPE_CHECKING:
    from zoo.cost import Cost


def register(
    *,
    task: TaskEntry | type[Task] | None = None,
    name: str | None = None,
    embed: type[Spec] | None = None,
    head: type[Spec] | None = None,
    augment: type[Spec] | None = None,
    decode: type[Spec] | None = None,
    cost: Callable[[RunSpec], Cost] | None = None,
    models: Mapping[str, ModelSpec | Mapping[str, Any]] | None = None,
    recipes: Mapping[str, RecipeSpec | Mapping[str, Any]] | None = None,
    datasets: Mapping[str, Callable[[DataSpec], Source]] | None = None,
    cards: Mapping[str, DatasetSpec | Mapping[str, Any]] | None = None,
    trackers: Mapping[str, Callable[[RunSpec, Path], Tracker]] | None = None,
    replace: bool = False,
) -> None:
    """Bring a task, models, datasets and trackers without a package. When something is wrong, nothing is brought.

    Args:
        task: A class that implements `zoo.Task`, then with its `name` and the classes of its parts; or a `TaskEntry`.
        models: As in a `registry.yaml`; likewise `recipes`, by ``MODEL/RECIPE``.
        datasets: Loaders by name.
        cards: What the registry says of the datasets; of one without a card, that it comes from this session.
        trackers: Makers by the name that `train.trackers` holds, from a run's spec and folder.
        replace: Allow names that this session registered before, as when a notebook's cell runs again.

    Raises:
        UserError: A name is taken, or a value is not what it should be.
    """
    parts = {"embed": embed, "head": head, "augment": augment, "decode": decode, "cost": cost}
    entry, objects = _entry(task, name, parts)
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
    _refuse_taken({"tasks": tasks, "trackers": trackers or {}, **brought}, replace)
    before = session.current()
    sections = {kind: {**getattr(before.catalogue, kind), **entries} for kind, entries in brought.items()}
    document = Document("zoo.register", {"schema_version": SCHEMA_VERSION, **sections})
    catalogue, problems = validate(Catalogue, document)
    raise_problems(problems)
    assert catalogue is not None
    session.change(
        session.Session(
            {**before.tasks, **tasks},
            {**before.loaders, **loaders},
            {**before.trackers, **(trackers or {})},
            {**before.objects, **objects},
            catalogue,
        )
    )


def _entry(task: Any, name: str | None, parts: Mapping[str, Any]) -> tuple[TaskEntry | None, dict[str, Any]]:
    """The entry of a task, and what its references stand for."""
    if task is None or isinstance(task, TaskEntry):
        if name or any(parts.values()):
            raise UserError(f"name, {', '.join(PARTS)} go with a task class; a TaskEntry holds them itself")
        return task, {}
    if not isinstance(task, type) or name is None:
        raise UserError(f"a task is a class with a name: zoo.register(task=MyTask, name='my-task'), not {task!r}")
    if absent := [member for member in vars(Task) if not member.startswith("_") and not hasattr(task, member)]:
        raise UserError(f"{task.__name__} is no task: it lacks {', '.join(absent)}\nimplement them, as zoo.Task says")
    named = {part: value for part, value in {"task": task, **parts}.items() if value is not None}
    references: dict[str, Any] = {part: f"{SESSION}:{name}.{part}" for part in named}
    entry = TaskEntry(name=name, description=(task.__doc__ or "").partition("\n")[0], **references)
    return entry, {references[part]: value for part, value in named.items()}


def _refuse_taken(brought: Mapping[str, Mapping[str, Any]], replace: bool) -> None:
    """No name of a plugin or a catalogue; of this session's own, only to replace it."""
    before = session.current()
    mine = {"tasks": before.tasks, "trackers": before.trackers}
    mine |= {kind: getattr(before.catalogue, kind) for kind in KINDS}
    owners: dict[tuple[str, str], str] = {key: origin.plugin for key, origin in open_registry().origins.items()}
    for row in plugins.rows():
        if row.status == "loaded":
            owners |= {("tasks", each): row.name for each in row.tasks}
            owners |= {("datasets", each): row.name for each in row.datasets}
    for kind, names in brought.items():
        for taken in sorted(names):
            owner = owners.get((kind, taken), SESSION)
            if owner != SESSION:
                raise UserError(f"the {kind[:-1]} '{taken}' comes from plugin '{owner}'\nchoose another name")
            if taken in mine[kind] and not replace:
                raise UserError(
                    f"the {kind[:-1]} '{taken}' is registered already\npass replace=True to put this in its place"
                )
