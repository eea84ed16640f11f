"""From layers of settings to one spec, and where each of its values came from.

default < registry < recipe < weights < data < command
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zoo import plugins
from zoo.catalogue import Document, Keys, Problem, dotted, error_keys, parse, raise_problems, said, worded
from zoo.errors import UserError, did_you_mean
from zoo.specs import CoreSpec, DataSpec, NetworkSpec, RunSpec, TrainSpec

if TYPE_CHECKING:
    from zoo.plugins.lookup import Part

ROOMS = ("core", "embed", "head", "augment", "decode", "data", "train")
REVISABLE = ("data", "decode")
"""What may be set otherwise when a trained model is used."""
_OF_SOME_TASKS = ("holdout_group", "text_column", "label_column", "label_separator")
"""Settings of `data` that a task must say it reads."""
_OURS: Mapping[str, type[BaseModel]] = {"core": CoreSpec, "data": DataSpec, "train": TrainSpec}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec and, by dotted key, where each value came from: default, registry, recipe, weights, data or command."""

    spec: RunSpec
    sources: Mapping[str, str]
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """Values of one source, nested by key.

    Args:
        prefix: The keys in `document` under which the values stand.
        settings: Values by dotted key instead, as a user or a dataset gives them.
    """

    source: str
    values: Mapping[str, Any]
    document: Document = field(default_factory=lambda: Document(""))
    prefix: Keys = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def problem(self, keys: Keys, message: str, *, at_key: bool) -> Problem:
        if not self.settings:
            return self.document.problem((*self.prefix, *keys), message, at_key=at_key)
        near = [key for key in self.settings if _within(key, dotted(keys)) or _within(dotted(keys), key)]
        if not near:  # it is missing, beside what is said
            near = [key for key in self.settings if _within(key, dotted(keys[:-1]))]
            message = f"{message}; say it too, as {dotted(keys)}"
        if self.source in ("data", "weights"):
            if self.source == "weights" and dotted(keys) in self.settings:
                message += ", as the configuration published with them says: mend it, or copy it anew"
            found = self.document.problem((*self.prefix, *near[:1]), message)
            return found if self.document.file else Problem(f"the {self.source}", 0, 0, found.message)
        return Problem(" ".join(f"--set {key}={_shown(self.settings[key])}" for key in near), 0, 0, message)


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` over `lower`; mappings are merged, anything else is replaced."""
    merged = dict(lower)
    for key, value in upper.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if _is_mapping(old) and _is_mapping(value) else value
    return merged


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``{"train.lr": 1}`` → ``{"train": {"lr": 1}}``."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        values = merge(values, value)
    return values


def leaves(values: Mapping[str, Any], keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every value that is no mapping, or an empty one, with its keys."""
    for key, value in values.items():
        if _is_mapping(value) and value:
            yield from leaves(value, (*keys, key))
        else:
            yield (*keys, key), value


def part(task: str, room: str) -> type[BaseModel] | None:
    """The spec class of a room: ours, or the task's; None where the task has none and takes what it is given."""
    if room == "core" and plugins.task_entry(task).network:
        return NetworkSpec
    return _OURS.get(room) or plugins.task_part(task, cast("Part", room))


def has_place(task: str, key: str) -> bool:
    """Whether a task's spec classes have a field for a dotted key."""
    room, _, inner = key.partition(".")
    if room not in ROOMS:
        return False
    spec_class = part(task, room)
    return spec_class is None or inner.partition(".")[0] in spec_class.model_fields


def assemble(task: str, layers: Sequence[Layer], rooms: Iterable[str] = ROOMS) -> tuple[dict[str, Any], list[Problem]]:
    """The rooms of a spec, each checked by its class, and every problem at the layer that brought it.

    Raises:
        UserError: The task is unknown or cannot be loaded.
    """
    merged = reduce(merge, (layer.values for layer in layers), {room: {} for room in ROOMS})
    built: dict[str, Any] = {}
    problems: list[Problem] = []
    problems += _unread(task, layers)
    for room in rooms:
        spec_class = part(task, room)
        if spec_class is None:
            built[room] = merged[room]
            problems += _strangers(task, room, layers)
            continue
        with nullcontext() if room in _OURS else plugins.blaming(task):
            value, errors = _validated(spec_class, merged[room])
            built[room] = value if room in _OURS or value is None else value.model_dump(mode="json")
        for details in errors:
            keys, at_key = error_keys(details)
            layer = _culprit((room, *keys), layers, missing=details["type"] == "missing")
            problems.append(layer.problem((room, *keys), worded(details, spec_class), at_key=at_key))
    return built, problems


def _strangers(task: str, room: str, layers: Sequence[Layer]) -> Iterator[Problem]:
    """Where a task has no class for a room, a command may change what the catalogue sets there, and nothing else."""
    known = {key for layer in layers if layer.source != "command" for key in layer.values.get(room, {})}
    for layer in layers:
        for key in layer.values.get(room, {}) if layer.source == "command" else ():
            if key not in known:
                message = f"task '{task}' has no setting '{room}.{key}'{did_you_mean(key, known)}"
                yield layer.problem((room, key), message, at_key=True)


def _unread(task: str, layers: Sequence[Layer]) -> Iterator[Problem]:
    """Settings of the data that the task would pass over in silence."""
    read = plugins.task_entry(task).data
    for layer in layers:
        for key, value in layer.values.get("data", {}).items():
            if key in _OF_SOME_TASKS and key not in read and value is not None:
                options = f"; it reads data.{', data.'.join(read)}" if read else ""
                yield layer.problem(("data", key), f"task '{task}' does not read data.{key}{options}", at_key=True)


def _validated(spec_class: type[BaseModel], values: Any) -> tuple[BaseModel | None, list[ErrorDetails]]:
    try:
        return spec_class.model_validate(values), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Of a list whose values are wrong it is said too that it is empty.
        return None, [each for each in found if each["type"] != "too_short" or not each["input"]]


def resolve(model: str, task: str, layers: Sequence[Layer]) -> Resolved:
    """The spec that the layers, lowest first, make.

    Raises:
        UserError: All that is wrong with them.
    """
    rooms, problems = assemble(task, layers)
    raise_problems(problems)
    spec = RunSpec(model=model, task=task, **rooms)
    sources = {
        dotted(keys): next((layer.source for layer in reversed(layers) if _decides(layer.values, keys)), "default")
        for keys, _ in leaves(spec.model_dump(mode="json", include=set(ROOMS)))
    }
    return Resolved(spec, sources)


def settle(resolved: Resolved, settings: Mapping[str, Any], by: Literal["data", "weights"] = "data") -> Resolved:
    """Apply what the data, or the weights, decide, by dotted key, such as ``head.num_classes``.

    Raises:
        UserError: The command said otherwise.
    """
    now = resolved.spec.model_dump(mode="json")
    asked = {dotted(keys): value for keys, value in leaves(now) if resolved.sources.get(dotted(keys)) == "command"}
    refuse_contradictions(asked, settings, by)
    layers = [Layer("", {room: now[room] for room in ROOMS}), Layer(by, nested(settings), settings=settings)]
    settled = resolve(resolved.spec.model, resolved.spec.task, layers)
    decided = {key: by for key, source in settled.sources.items() if source == by and key not in asked}
    spec = settled.spec.model_copy(update={"plugins": resolved.spec.plugins, "weights": resolved.spec.weights})
    return Resolved(spec, {**resolved.sources, **decided}, resolved.recipe)


def revise(
    spec: RunSpec,
    data: Mapping[str, Any],
    settings: Sequence[str] | Mapping[str, Any],
    rooms: Collection[str] = REVISABLE,
) -> RunSpec:
    """A run's spec with other data, or other decoding.

    Args:
        data: Values of `spec.data`, such as its name.
        settings: As `Registry.resolve` takes them, of `rooms` only; they win.

    Raises:
        UserError: A setting is wrong, or of something else.
    """
    asked = read_settings(settings, spec.task)
    if others := [key for key in asked if key.partition(".")[0] not in rooms]:
        raise UserError(f"--set {others[0]}: the run has it already\nset what begins with {' or '.join(rooms)}")
    now = spec.model_dump(mode="json")
    layers = [Layer("run", {room: now[room] for room in ROOMS}), Layer("command", {"data": dict(data)})]
    layers.append(Layer("command", nested(asked), settings=asked))
    kept = {"plugins": spec.plugins, "weights": spec.weights, "core_from": spec.core_from}
    return resolve(spec.model, spec.task, layers).spec.model_copy(update=kept)


def refuse_contradictions(asked: Mapping[str, Any], settings: Mapping[str, Any], by: str = "data") -> None:
    for key, value in settings.items():
        if key in asked and asked[key] != value:
            have = "has" if by == "data" else "have"
            raise UserError(
                f"--set {key}={_shown(asked[key])} contradicts the {by}, which {have} {_shown(value)}; leave it out"
            )


def read_settings(settings: Sequence[str] | Mapping[str, Any], task: str) -> dict[str, Any]:
    """``["train.lr=1e-3"]`` → ``{"train.lr": 0.001}``; of equal keys the last counts.

    Raises:
        UserError: One is not KEY=VALUE, its value is not YAML or its key leads nowhere.
    """
    given = settings if isinstance(settings, Mapping) else dict(_setting(each, task) for each in settings)
    for key in given:
        room, _, inner = key.partition(".")
        if room not in ROOMS:
            places = [f"{each}.{name}" for each in ROOMS for name in getattr(part(task, each), "model_fields", ())]
            meant = [place for place in places if place.partition(".")[2] == key]
            near = f"; did you mean '{meant[0]}'?" if meant else did_you_mean(key, [*ROOMS, *places])
            raise UserError(f"--set {key}: unknown key '{room}'{near}\nkeys begin with {', '.join(ROOMS)}")
        if key == "data.name":
            raise UserError(f"--set {key}: use --data {_shown(given[key])}")
        if not inner:
            raise UserError(f"--set {key}: name a value in it, such as --set {key}.NAME=VALUE")
    return dict(given)


def _setting(text: str, task: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"--set {text}: write KEY=VALUE, such as --set train.lr=3e-4")
    document = parse(value, f"--set {text}")
    if _holds_text(key, task) and value.strip() not in ("", "null", "~"):
        # A separator such as | or a name such as 7 means something else in YAML.
        quoted = value.strip()[:1] in ("'", '"') and not document.problems
        return key, document.value if quoted else value
    if document.problems:
        raise UserError(f"--set {text}: {document.problems[0].message}")
    return key, document.value


def _holds_text(key: str, task: str) -> bool:
    """Whether what stands at a dotted key can be nothing but text."""
    room, _, inner = key.partition(".")
    spec_class = part(task, room) if room in ROOMS else None
    field = spec_class.model_fields.get(inner) if spec_class else None
    kinds: set[Any] = {field.annotation, *get_args(field.annotation)} if field else set()
    return str in kinds and kinds <= {str, type(None), str | None}


def _culprit(keys: Keys, layers: Sequence[Layer], *, missing: bool) -> Layer:
    """The layer to blame: the last that holds the value; for what is missing or default, the nearest around it."""
    while len(keys) > 1 and not any(_decides(layer.values, keys) for layer in layers):
        keys = keys[:-1]
    holding = [layer for layer in layers if _decides(layer.values, keys)] or list(layers)
    return holding[0] if missing else holding[-1]


def _decides(values: Any, keys: Keys) -> bool:
    """Whether the values say what stands at `keys`, perhaps by saying what stands around it."""
    for key in keys:
        if not _is_mapping(values):
            return True
        if key not in values:
            return False
        values = values[key]
    return True


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _shown(value: Any) -> str:
    return str(value) if type(value) in {str, list, dict} else said(value)
