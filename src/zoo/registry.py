"""The registry: every model, recipe and dataset by name, ours and the plugins', and the spec that a command means.

A broken catalogue never breaks another: its problems are kept and raised only for who asks for what they spoil.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from zoo import plugins
from zoo.catalogue import BOOL, FLOAT, INT, NULL, Document, Loaded, Problem, load, raise_problems, read, validate
from zoo.errors import UserError, did_you_mean, unknown
from zoo.resolution import (
    ROOMS,
    Layer,
    Resolved,
    assemble,
    has_place,
    nested,
    part,
    read_settings,
    refuse_contradictions,
    resolve,
    settle,
)
from zoo.specs import DatasetSpec, Measured, ModelSpec, RecipeSpec, RunSpec, Spec
from zoo.wording import Keys

__all__ = ["Registry", "Resolved", "check", "list_models", "open_registry", "read_run_spec", "settle", "write_run_spec"]

Kind = Literal["models", "recipes", "datasets"]
KINDS: tuple[Kind, ...] = ("models", "recipes", "datasets")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry stands."""

    plugin: str
    document: Document


@dataclass(frozen=True, slots=True)
class Registry:
    """What there is, by name. Of two entries with one name the first counts; the other is a problem.

    Args:
        problems: What could not be read, each with its file, line, column and plugin.
    """

    models: Mapping[str, ModelSpec]
    recipes: Mapping[str, RecipeSpec]
    datasets: Mapping[str, DatasetSpec]
    problems: tuple[Problem, ...]
    origins: Mapping[tuple[Kind, str], Origin] = field(repr=False)

    def origin(self, kind: Kind, name: str) -> str:
        """The plugin whose catalogue has the entry; ``zoo`` for the built-in one."""
        self.find(kind, name)
        return self.origins[kind, name].plugin

    def find(self, kind: Kind, name: str) -> Any:
        """An entry.

        Raises:
            UserError: There is none of the name, or it could not be read.
        """
        entries: Mapping[str, Spec] = getattr(self, kind)
        if name in entries:
            return entries[name]
        raise_problems(self.spoilt(kind, name))
        unread = "".join(f"\nnot read: {problem}" for problem in self.problems if len(problem.keys) < 2)
        remedy = "run 'zoo data list'" if kind == "datasets" else "run 'zoo list'"
        raise unknown(kind[:-1], name, entries, remedy + unread)

    def spoilt(self, kind: Kind, name: str) -> list[Problem]:
        """Why an entry could not be read."""
        return [problem for problem in self.problems if problem.keys[:2] == (kind, name)]

    def recipes_of(self, model: str) -> dict[str, RecipeSpec]:
        """A model's recipes by their full names, the default first."""
        own = {key: recipe for key, recipe in self.recipes.items() if key.partition("/")[0] == model}
        default = f"{model}/{self.models[model].recipe}"
        return {key: own[key] for key in sorted(own, key=lambda key: key != default)}

    def resolve(
        self,
        name: str,
        *,
        recipe: str | None = None,
        data: str | None = None,
        task: str | None = None,
        settings: Sequence[str] | Mapping[str, Any] = (),
    ) -> Resolved:
        """The spec that a command means, and where each value came from.

        Args:
            recipe: Its name, with or without the model's before it. None is the one for `data`, or the default one.
            data: A dataset's name, a folder or a file. None is the recipe's.
            task: Another task than the model's.
            settings: ``["train.lr=1e-3"]`` or ``{"train.lr": 1e-3}``; they win over all else.

        Raises:
            UserError: A name is unknown, or a value is wrong: all of them, each with its place.
        """
        model: ModelSpec = self.find("models", name)
        chosen = self._recipe(name, recipe, data)
        place = self._place(name, data or (self.recipes[chosen].data.name if chosen else None))
        if place in self.datasets and self.datasets[place].task != model.task and not (chosen or task):
            raise UserError(
                f"dataset '{place}' is for {self.datasets[place].task}, but model '{name}' is for {model.task}\n"
                "choose another (run 'zoo data list'), or say with --task what to train"
            )
        asked = read_settings(settings, task or model.task)
        layers = self.layers(name, chosen, place, task or model.task)
        refuse_contradictions(asked, layers[-1].settings)
        if data:
            layers.append(Layer("command", {"data": {"name": place}}))
        layers.append(Layer("command", nested(asked), settings=asked))
        resolved = resolve(name, task or model.task, layers)
        sources = {"task": "command" if task else "registry", **resolved.sources}
        return Resolved(resolved.spec, sources, chosen)

    def own(self, name: str) -> Resolved:
        """A model as the catalogue has it, without a recipe and for no data."""
        task = self.find("models", name).task
        return resolve(name, task, [Layer("default", {"data": {"name": "none"}}), *self.layers(name, None, None, task)])

    def default_data(self, name: str) -> str | None:
        default = self.recipes.get(f"{name}/{self.models[name].recipe}")
        return default.data.name if default else None

    def measured(self, name: str) -> tuple[str, Measured] | None:
        """A model's measured result and its data: on the default data, if there is one."""
        results = [(each.data.name, each.measured) for each in self.recipes_of(name).values() if each.measured]
        return results[0] if results else None

    def layers(self, model: str, recipe: str | None, data: str | None, task: str) -> list[Layer]:
        """What the catalogues say, lowest first: the model, the recipe, what a known dataset decides."""
        layers = [self._layer("registry", "models", model, self.models[model])]
        if recipe:
            layers.append(self._layer("recipe", "recipes", recipe, self.recipes[recipe]))
        if data is not None and data in self.datasets:
            layers.append(self._decided(data, task))
        return layers

    def _recipe(self, name: str, recipe: str | None, data: str | None) -> str | None:
        own = self.recipes_of(name)
        if recipe is None and data is not None:
            return next((key for key, each in own.items() if each.data.name == data), None)
        wanted = recipe or self.models[name].recipe
        if wanted is None:
            return None
        full = wanted if "/" in wanted else f"{name}/{wanted}"
        if full in own:
            return full
        raise_problems(self.spoilt("recipes", full))
        if full in self.recipes:
            raise UserError(f"recipe '{full}' is for another model; those of '{name}': {', '.join(own) or 'none'}")
        short = [key.partition("/")[2] for key in own]
        raise unknown("recipe", wanted, short, f"run 'zoo show {name}', which lists its recipes")

    def _place(self, name: str, data: str | None) -> str:
        """A dataset's name, or the absolute path of a folder or file."""
        if data is None:
            raise UserError(
                f"model '{name}' has no default recipe\nname the data, such as --data digits or --data FOLDER"
            )
        if data in self.datasets:
            return data
        path = Path(data).expanduser()
        if path.exists():
            return str(path.resolve())
        if os.sep in data or path.suffix:
            raise UserError(f"--data {data}: there is no such folder or file, and no dataset of that name")
        return self.find("datasets", data)

    def _layer(self, source: str, kind: Kind, name: str, entry: ModelSpec | RecipeSpec) -> Layer:
        values = entry.model_dump(mode="json", exclude_unset=True, include=set(ROOMS))
        return Layer(source, values, self.origins[kind, name].document, (kind, name))

    def _decided(self, name: str, task: str) -> Layer:
        """What a dataset decides; for another task than its own, only what that has a place for."""
        dataset, document = self.datasets[name], self.origins["datasets", name].document
        given = dataset.settings.items()
        settings = {key: value for key, value in given if dataset.task == task or has_place(task, key)}
        return Layer("data", nested(settings), document, ("datasets", name, "settings"), settings)


# ---------------------------------------------------------------- opening


def list_models(pattern: str = "*", *, task: str | None = None, plugin: str | None = None) -> list[str]:
    """Names of models.

    Args:
        pattern: A part of the name, or a pattern such as ``vit-*``.
        plugin: Whose models; a built-in model is the plugin's that brings its task.

    Raises:
        UserError: There is no such task or plugin.
    """
    registry, wanted = open_registry(), pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    if task is not None:
        plugins.task_entry(task)
    brought = plugins.row(plugin).tasks if plugin else ()
    return [
        name
        for name, model in registry.models.items()
        if fnmatchcase(name, wanted)
        and task in {None, model.task}
        and (plugin is None or registry.origin("models", name) == plugin or model.task in brought)
    ]


def open_registry() -> Registry:
    """Our catalogue, then the plugins', then what this session registered; read again only when they change."""
    return _open(tuple((plugin, path, path.stat().st_mtime_ns) for plugin, path in _files()), plugins.revision())


def _files() -> list[tuple[str, Path]]:
    return [("zoo", built_in_catalogue()), *plugins.catalogues()]


def built_in_catalogue() -> Path:
    """Beside `pyproject.toml` in a checkout, whose installed copy may be stale; else in the package."""
    package = Path(__file__).parent
    checkout = package.parents[1]
    return (checkout if (checkout / "pyproject.toml").is_file() else package) / "registry.yaml"


@lru_cache(maxsize=8)
def _open(files: tuple[tuple[str, Path, int], ...], revision: object) -> Registry:
    return gather([*((plugin, load(path)) for plugin, path, _ in files), (plugins.SESSION, plugins.registered())])


def gather(catalogues: Iterable[tuple[str, Loaded]]) -> Registry:
    """One registry of several catalogues: of equal names the first counts."""
    entries: dict[Kind, dict[str, Any]] = {kind: {} for kind in KINDS}
    origins: dict[tuple[Kind, str], Origin] = {}
    problems: list[Problem] = []
    for plugin, loaded in catalogues:
        problems += [replace(problem, plugin=plugin) for problem in loaded.problems]
        for kind in KINDS:
            for name, entry in getattr(loaded.catalogue, kind).items():
                if name in entries[kind]:
                    message = (
                        f"{kind[:-1]} '{name}' is already in the catalogue of '{origins[kind, name].plugin}'; rename it"
                    )
                    problems.append(replace(loaded.document.problem((kind, name), message, at_key=True), plugin=plugin))
                else:
                    entries[kind][name] = entry
                    origins[kind, name] = Origin(plugin, loaded.document)
    models, recipes, datasets = (MappingProxyType(entries[kind]) for kind in KINDS)
    return Registry(models, recipes, datasets, tuple(problems), origins)


# ---------------------------------------------------------------- checking


def check(path: Path) -> list[Problem]:
    """All that is wrong with a catalogue: its form, its values, its names and what its tasks say of its options."""
    own = load(path)
    if any(len(problem.keys) < 2 for problem in own.problems):
        return list(own.problems)
    others = [(plugin, load(other)) for plugin, other in _files() if other.resolve() != path.resolve()]
    together = gather([*others, (plugins.SESSION, plugins.registered()), ("", own)])
    problems = {problem for problem in together.problems if problem.file == str(path)}
    for (kind, name), origin in together.origins.items():
        if origin.document is own.document:
            problems |= set(_check_entry(together, kind, name))
    return sorted(problems)


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


# ---------------------------------------------------------------- a run's spec


def read_run_spec(path: Path) -> RunSpec:
    """The spec that a run was made from.

    Raises:
        UserError: The file is missing or is no such spec: every error with its line and column.
    """
    document = read(path)
    spec, found = validate(RunSpec, document)
    raise_problems([*document.problems, *found])
    assert spec is not None
    return spec


def write_run_spec(spec: RunSpec, path: Path) -> None:
    """Write it whole or not at all, in the order of `RunSpec`'s fields."""
    text = yaml.dump(spec.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1, which yaml writes, takes for text and YAML 1.2, which we read, for a number."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Escaped where a character does not print: outside of double quotes YAML folds line ends of any kind."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _text)
for _tag, _pattern in {"null": NULL, "bool": BOOL, "int": INT, "float": FLOAT}.items():
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)
