"""Every model, recipe and dataset by name, ours and the plugins', and the spec that a command means.

A broken catalogue never breaks another: its problems are kept and raised only for who asks for what they spoil.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from zoo import plugins
from zoo.catalogue import Document, Loaded, Problem, load, raise_problems
from zoo.contract import Offered
from zoo.errors import UserError
from zoo.files import user_path
from zoo.registry.resolution import (
    ROOMS,
    Layer,
    Resolved,
    has_place,
    nested,
    part,
    read_settings,
    refuse_contradictions,
    resolve,
)
from zoo.specs import DatasetSpec, Measured, ModelSpec, RecipeSpec, Spec

Kind = Literal["models", "recipes", "datasets"]
KINDS: tuple[Kind, ...] = ("models", "recipes", "datasets")
BUILT_IN = "zoo"
"""The name that our own catalogue goes by among those of plugins."""


def is_address(data: str) -> bool:
    """Whether data is named by something else than a name or a path, such as ``hf:OWNER/NAME``."""
    return re.match(r"[a-z]{2,}:", data) is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry stands."""

    plugin: str
    document: Document


class Models(Mapping[str, ModelSpec]):
    """Those of the catalogues; and those that a bridge makes, which are found by name and never listed.

    Args:
        entries: Of the catalogues.
    """

    def __init__(self, entries: Mapping[str, ModelSpec]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> ModelSpec:
        if name in self.entries:
            return self.entries[name]
        bridging = plugins.bridge_of(name)
        if bridging is None:
            raise KeyError(name)
        return bridging.model(name)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True, slots=True)
class Registry:
    """What there is, by name. Of two entries with one name the first counts; the other is a problem.

    Args:
        models: Of the catalogues; models of bridges are found in it by name.
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
        return self._origin(kind, name).plugin

    def owner(self, model: str) -> str:
        """The plugin that a model belongs to: its catalogue's; of our own catalogue, the one that brings its task."""
        plugin = self.origin("models", model)
        if plugin != BUILT_IN:
            return plugin
        task = self.models[model].task
        return next((row.name for row in plugins.rows() if task in row.tasks and row.status == "loaded"), plugin)

    def find(self, kind: Kind, name: str) -> Any:
        """An entry.

        Raises:
            UserError: There is none of the name, or it could not be read.
        """
        entries: Mapping[str, Spec] = getattr(self, kind)
        if name in entries or (kind == "models" and plugins.bridge_of(name)):
            return entries[name]
        raise_problems(self.spoilt(kind, name))
        unread = "".join(f"\nnot read: {problem}" for problem in self.problems if len(problem.keys) < 2)
        remedy = "run 'zoo data list'" if kind == "datasets" else "run 'zoo list'"
        if kind == "models" and (bridged := _bridged_alike(name)):
            raise UserError(f"unknown model '{name}'; did you mean '{bridged}'?\n{remedy}{unread}")
        raise plugins.missing(kind[:-1], name, entries, remedy + unread)

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
        chosen = self._recipe(name, recipe, data, task)
        wanted = task or (chosen and self.recipes[chosen].task) or model.task
        if plugins.task_entry(wanted).network != plugins.task_entry(model.task).network:
            raise UserError(f"model '{name}' is for {model.task}, and cannot be for {wanted}\nleave --task out")
        usual = data or (self.recipes[chosen].data.name if chosen else self.default_data(name))
        if usual is None:
            raise UserError(
                f"model '{name}' has no default recipe\nname the data, such as --data digits or --data FOLDER"
            )
        place = self.place(usual)
        own = plugins.data_task(model.task)
        its = self.datasets[place].task if place in self.datasets and not (chosen or task) else own
        if its not in (own, *plugins.task_entry(model.task).reads):
            raise UserError(
                f"dataset '{place}' is for {its}, but model '{name}' is for {model.task}\n"
                "choose another (run 'zoo data list'), or say with --task what to train"
            )
        asked = read_settings(settings, wanted)
        layers = self.layers(name, chosen, place, wanted)
        refuse_contradictions(asked, layers[-1].settings)
        if data or not chosen:
            layers.append(Layer("command" if data else "registry", {"data": {"name": place}}))
        layers.append(Layer("command", nested(asked), settings=asked))
        resolved = resolve(name, wanted, layers)
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
        """A model's best measured result and its data; of equal ones that of the default recipe."""
        own = [each for each in self.recipes_of(name).values() if each.task in (None, self.models[name].task)]
        results = [(each.data.name, each.measured) for each in own if each.measured]
        return max(results, key=lambda result: result[1].goodness, default=None)

    def layers(self, model: str, recipe: str | None, data: str | None, task: str) -> list[Layer]:
        """What the catalogues say, lowest first: the model, the recipe, what a known dataset decides."""
        own_task = self.models[model].task
        layers = [_shared(self._layer("registry", "models", model, self.models[model]), own_task, task)]
        if recipe:
            own = self._layer("recipe", "recipes", recipe, self.recipes[recipe])
            own = _shared(own, self.recipes[recipe].task or own_task, task)
            if data not in (None, self.recipes[recipe].data.name):  # how its data is read says nothing of other data
                own = replace(own, values={room: values for room, values in own.values.items() if room != "data"})
            layers.append(own)
        if data is not None and data in self.datasets:
            layers.append(self._decided(data, task))
        return layers

    def _recipe(self, name: str, recipe: str | None, data: str | None, task: str | None) -> str | None:
        own, usual = self.recipes_of(name), self.models[name].task
        if recipe is None and (data is not None or task not in (None, usual)):
            fitting = (key for key, each in own.items() if (each.task or usual) == (task or usual))
            return next((key for key in fitting if data in (None, own[key].data.name)), None)
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
        raise plugins.missing("recipe", wanted, short, f"run 'zoo show {name}', which lists its recipes", entry=full)

    def place(self, data: str | Path, task: str | None = None) -> str:
        """Data as a user names it: a dataset's name, the absolute path of a folder or file, or an address for the task,
        such as ``hf:OWNER/NAME``.

        Args:
            task: A dataset of another is refused, unless it reads that one's too, or models of both have a first room
                of the same class.

        Raises:
            UserError: There is none of them, or it is for another task.
        """
        data = str(data)
        if data in self.datasets:
            if task is not None and not _reads(task, self.datasets[data].task):
                raise UserError(
                    f"dataset '{data}' is for {self.datasets[data].task}, not for {task}\n"
                    "choose another (run 'zoo data list')"
                )
            return data
        if not data:
            raise UserError("the data's name is empty\nname a dataset, a folder or a file, or leave it out")
        path = user_path(data)
        if path.exists():
            return str(path.resolve())
        if is_address(data):
            return data
        if os.sep in data or path.suffix:
            raise UserError(f"--data {data}: there is no such folder or file, and no dataset of that name")
        return self.find("datasets", data)

    def _layer(self, source: str, kind: Kind, name: str, entry: ModelSpec | RecipeSpec) -> Layer:
        values = entry.model_dump(mode="json", exclude_unset=True, include=set(ROOMS))
        return Layer(source, values, self._origin(kind, name).document, (kind, name))

    def _origin(self, kind: Kind, name: str) -> Origin:
        """Where an entry stands; what a bridge makes stands in no file."""
        bridging = plugins.bridge_of(name) if kind == "models" and (kind, name) not in self.origins else None
        return Origin(bridging.plugin, Document(name)) if bridging else self.origins[kind, name]

    def _decided(self, name: str, task: str) -> Layer:
        """What a dataset decides; for another task than its own, only what that has a place for."""
        dataset, document = self.datasets[name], self.origins["datasets", name].document
        given = dataset.settings.items()
        settings = {key: value for key, value in given if dataset.task == task or has_place(task, key)}
        return Layer("data", nested(settings), document, ("datasets", name, "settings"), settings)


def read_alike(one: str, other: str) -> bool:
    """Whether the models of two tasks read the same: their first rooms are of one class."""
    return one == other or (part(one, "embed") is not None and part(one, "embed") is part(other, "embed"))


def _reads(task: str, other: str) -> bool:
    """Whether a task reads the datasets of another."""
    return read_alike(other, plugins.data_task(task)) or other in plugins.task_entry(task).reads


def _shared(layer: Layer, own: str, task: str) -> Layer:
    """What was said for one task, as far as it says something for another: rooms that both make of the same class."""
    if own == task:
        return layer
    apart = {room for room in layer.values if part(own, room) is not part(task, room)}
    return replace(layer, values={room: values for room, values in layer.values.items() if room not in apart})


# ---------------------------------------------------------------- opening


def list_models(pattern: str = "*", *, task: str | None = None, plugin: str | None = None) -> list[str]:
    """Names of models.

    Args:
        pattern: A part of the name, or a pattern such as ``vit-*``. Models of bridges, of which there are thousands,
            are listed where it has a slash, ``timm/resnet*``, or where the task or the plugin is a bridge's.
        plugin: Whose models; one of our own catalogue is the plugin's that brings its task.

    Raises:
        UserError: There is no such task or plugin.
    """
    registry, wanted = open_registry(), _as_pattern(pattern)
    if task is not None:
        plugins.task_entry(task)
    whose = plugins.row(plugin).name if plugin else None
    own = [
        name
        for name, model in registry.models.items()
        if fnmatchcase(name, wanted) and task in {None, model.task} and whose in {None, registry.owner(name)}
    ]
    return [*own, *offered(pattern, task=task, plugin=whose)]


def offered(pattern: str, *, task: str | None = None, plugin: str | None = None) -> dict[str, Offered]:
    """What bridges offer, where `list_models` lists it; a name with a tag where the pattern has a dot."""
    wanted = _as_pattern(pattern)
    asked = "/" in pattern or plugin is not None or (task is not None and plugins.task_entry(task).network)
    return {
        name: each
        for bridging in (plugins.bridges() if asked else ())
        if plugin in {None, bridging.plugin}
        for name, each in bridging.offered().items()
        if fnmatchcase(name, wanted) and task in {None, each.task} and ("." in pattern or not each.is_variant)
    }


def _as_pattern(pattern: str) -> str:
    return pattern if set(pattern) & set("*?[") else f"*{pattern}*"


def _bridged_alike(name: str) -> str | None:
    """The model of a bridge that goes by this name there."""
    known = (
        f"{bridging.bridge.prefix}/{name}"
        for bridging in plugins.bridges()
        if f"{bridging.bridge.prefix}/{name}" in bridging.offered()
    )
    return next(known, None)


def open_registry() -> Registry:
    """Our catalogue, then the plugins', then what this session registered; read again only when they change."""
    return _open(tuple((plugin, path, path.stat().st_mtime_ns) for plugin, path in files()), plugins.revision())


def files() -> list[tuple[str, Path]]:
    """Every catalogue that is a file, with its plugin; of equal names in them the first counts."""
    return [(BUILT_IN, built_in_catalogue()), *plugins.catalogues()]


def built_in_catalogue() -> Path:
    """Beside `pyproject.toml` in a checkout, whose installed copy may be stale; else in the package."""
    package = Path(__file__).parents[1]
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
    return Registry(Models(models), recipes, datasets, tuple(problems), origins)
