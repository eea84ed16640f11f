"""A catalogue held against the schema, the names of the others and what its tasks say of its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoo import plugins
from zoo.catalogue import Keys, Problem, load
from zoo.errors import UserError, did_you_mean
from zoo.registry.names import Kind, Registry, files, gather
from zoo.registry.resolution import ROOMS, assemble, has_place, part
from zoo.specs import Spec


def check(path: Path) -> list[Problem]:
    """All that is wrong with a catalogue: its form, its values, its names and what its tasks say of its options."""
    own = load(path)
    if any(len(problem.keys) < 2 for problem in own.problems):
        return list(own.problems)
    others = [(plugin, load(other)) for plugin, other in files() if not _is_copy(path, other)]
    together = gather([*others, (plugins.SESSION, plugins.registered()), ("", own)])
    problems = {problem for problem in together.problems if problem.file == str(path)}
    for (kind, name), origin in together.origins.items():
        if origin.document is own.document:
            problems |= set(_check_entry(together, kind, name))
    return sorted(problems)


def _is_copy(path: Path, other: Path) -> bool:
    """The same catalogue, perhaps changed since it was installed: the same file, content or package."""
    if path.resolve() == other.resolve() or path.read_bytes() == other.read_bytes():
        return True
    return (path.resolve().parent / "__init__.py").is_file() and path.resolve().parent.name == other.parent.name


def _check_entry(registry: Registry, kind: Kind, name: str) -> list[Problem]:
    entry, document = registry.find(kind, name), registry.origins[kind, name].document
    problems = _check_names(registry, kind, name)
    owner = registry.models.get(name.partition("/")[0]) if kind == "recipes" else entry
    if owner is None:
        return problems
    try:
        part(owner.task, "embed")
    except UserError as error:
        said = str(error).partition("\n")[0]
        return problems if kind == "recipes" else [*problems, document.problem((kind, name, "task"), said)]
    if kind == "datasets":
        lost = [key for key in entry.settings if not has_place(owner.task, key)]
        told = {key: f"task '{owner.task}' has no setting '{key}'" for key in lost}
        return [document.problem((kind, name, "settings", key), message, at_key=True) for key, message in told.items()]
    recipe, data = (name, entry.data.name) if kind == "recipes" else (None, None)
    rooms = [room for room in ROOMS if recipe or room != "data"]
    _, found = assemble(owner.task, registry.layers(name.partition("/")[0], recipe, data, owner.task), rooms)
    return problems + [problem for problem in found if problem.file == document.file]


def _check_names(registry: Registry, kind: Kind, name: str) -> list[Problem]:
    """The names in an entry that lead nowhere."""
    entry, document = registry.find(kind, name), registry.origins[kind, name].document
    references: list[tuple[Keys, Kind, str]] = []
    if kind == "recipes":
        references = [((), "models", name.partition("/")[0]), (("data",), "datasets", entry.data.name)]
    elif kind == "models" and entry.recipe:
        references = [(("recipe",), "recipes", f"{name}/{entry.recipe}")]
    problems: list[Problem] = []
    for keys, other, wanted in references:
        known: Mapping[str, Spec] = getattr(registry, other)
        if wanted not in known and not registry.spoilt(other, wanted):
            message = f"unknown {other[:-1]} '{wanted}'{did_you_mean(wanted, known)}"
            problems.append(document.problem((kind, name, *keys), message, at_key=not keys))
    return problems
