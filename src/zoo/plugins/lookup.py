"""What plugins bring, by name. What one of them breaks stays with it: a row for all, an error for who uses it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel

from zoo.catalogue import load
from zoo.contract import Source, Task, TaskEntry, Tracker, Variant
from zoo.cost import Cost
from zoo.errors import UserError, unknown
from zoo.plugins import loading, session
from zoo.plugins.discovery import Found, PluginError, catalogue_path, environment, find, isolated, source_hash
from zoo.plugins.loading import Plugin, Status, import_reference, loaded, plugins
from zoo.plugins.session import SESSION
from zoo.plugins.variant import Alike
from zoo.specs import DataSpec, PluginStamp

if TYPE_CHECKING:
    from zoo.specs import RunSpec
    from zoo.weights import Family

Part = Literal["embed", "head", "augment", "decode"]
_SESSION = Found(SESSION, "zoo.register")


@dataclass(frozen=True, slots=True)
class PluginRow:
    """A plugin as `zoo plugins list` shows it.

    Args:
        distribution: None for a module named by ``ZOO_PLUGINS`` and for this session; likewise `version`.
        reason: Why it is not loaded, on one line.
    """

    name: str
    status: Status
    distribution: str | None
    version: str | None
    module: str
    reason: str = ""
    tasks: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    trackers: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()


def rows() -> Sequence[PluginRow]:
    """Every plugin that was found, whatever became of it, and what this session registered."""
    listed = [
        PluginRow(
            name=plugin.found.name,
            status=plugin.status,
            distribution=plugin.found.distribution,
            version=plugin.found.version,
            module=plugin.found.reference,
            reason=plugin.reason,
            tasks=tuple(entry.name for entry in plugin.manifest.tasks) if plugin.manifest else (),
            datasets=tuple(plugin.manifest.datasets) if plugin.manifest else (),
            trackers=(plugin.found.name,) if plugin.hooks and plugin.hooks.zoo_tracker.get_hookimpls() else (),
            bridges=tuple(f"{each.prefix}/*" for each in plugin.manifest.bridges) if plugin.manifest else (),
        )
        for plugin in plugins()
    ]
    here = session.current()
    if here != session.Session():
        brought = tuple(here.tasks), tuple(here.loaders), tuple(here.trackers)
        listed.append(PluginRow(SESSION, "loaded", None, None, _SESSION.module, "", *brought))
    return listed


def row(name: str) -> PluginRow:
    """The row of a plugin, by plugin or module name.

    Raises:
        UserError: There is no such plugin.
    """
    listed = rows()
    for each in listed:
        if name in (each.name, each.module):
            return each
    raise unknown("plugin", name, {each.name for each in listed}, "run 'zoo plugins list' to see them")


def tasks() -> Mapping[str, TaskEntry]:
    """Every task by name."""
    return {entry.name: entry for _, manifest in loaded() for entry in manifest.tasks} | dict(session.current().tasks)


def task_class(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        UserError: There is no such task, or its plugin cannot be loaded; the message says which and why.
    """
    entry = task_entry(name)
    found = object_of(entry.task, _owner_of_task(name))
    if entry.like is not None and isinstance(found, Variant):
        found = Alike(task_class(entry.like), found)
    return cast("type[Task]", found)


def task_part(name: str, part: Part) -> type[BaseModel] | None:
    """A task's spec class; None where it has none.

    Raises:
        UserError: As in `task_class`, or the reference leads to something else.
    """
    reference, owner = getattr(task_entry(name), part), _owner_of_task(name)
    if reference is None:
        return None
    found = object_of(reference, owner)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        said = f"plugin {owner} failed: task '{name}': {part} is {reference}, which is no pydantic model"
        raise UserError(f"{said}\n{_remedy(owner)}")
    return found


def cost(spec: RunSpec) -> Cost | None:
    """What a model costs, by its task's formula; None where it has none.

    Raises:
        UserError: As in `task_class`, or the formula fails.
    """
    reference, owner = task_entry(spec.task).cost, _owner_of_task(spec.task)
    if reference is None:
        return None
    formula = object_of(reference, owner)
    with running(owner):
        found = formula(spec)
        if not isinstance(found, Cost):
            raise TypeError(f"the cost formula of task '{spec.task}' gave {found!r}, not a zoo.cost.Cost")
    return found


def blaming(task: str) -> AbstractContextManager[None]:
    """Run code of a task's plugin: what it prints goes to stderr, what it raises is an error that names the plugin."""
    return running(_owner_of_task(task))


def task_entry(name: str) -> TaskEntry:
    """The entry of a task, whose plugin may be asked for more; with what it takes over of the task that it is like.

    Raises:
        UserError: There is no such task.
    """
    known = tasks()
    if name not in known:
        raise missing("task", name, known, "run 'zoo plugins list' to see what each plugin brings")
    entry = known[name]
    if entry.like is None:
        return entry
    other = task_entry(entry.like)
    taken = {part: getattr(entry, part) or getattr(other, part) for part in ("augment", "decode", "data", "targets")}
    return replace(entry, **taken, inputs=tuple(dict.fromkeys((*entry.inputs, *other.inputs))))


def data_task(name: str) -> str:
    """The task whose data a task reads: itself, but for what is like another.

    Raises:
        UserError: There is no such task.
    """
    return task_entry(name).like or name


def dataset_loader(name: str) -> Callable[[DataSpec], Source]:
    """The loader of a dataset.

    Raises:
        UserError: There is no such dataset, or its plugin cannot be loaded.
    """
    here = session.current().loaders
    owners = dict.fromkeys(here, _SESSION) | {each: found for found, manifest in loaded() for each in manifest.datasets}
    references = {**here, **{each: ref for _, manifest in loaded() for each, ref in manifest.datasets.items()}}
    if name not in references:
        raise missing("dataset", name, references, "run 'zoo data list' to see them")
    return object_of(references[name], owners[name])


def families() -> tuple[Sequence[Family], Sequence[str]]:
    """Every family of published weights, and why some cannot be loaded."""
    found: list[Family] = []
    broken: list[str] = []
    for plugin, manifest in loaded():
        for reference in manifest.families:
            try:
                found.append(object_of(reference, plugin))
            except UserError as error:
                broken.append(str(error))
    return found, broken


def catalogues() -> Sequence[tuple[str, Path]]:
    """Each plugin's `registry.yaml`, with the plugin's name. No plugin's code is imported."""
    good = [each for each in find(*environment()) if not each.blocked and not each.trouble]
    paths = [(each.name, catalogue_path(each.module)) for each in good]
    return [(name, path) for name, path in paths if path is not None]


def require(modules: Iterable[str]) -> None:
    """Hold what a command asks for by `-p` against what there is; nothing is imported.

    Raises:
        UserError: A module is not there.
    """
    for found in find(*environment()):
        if found.trouble and found.reference in modules:
            raise UserError(f"plugin {found}: {found.trouble}\nrun 'zoo plugins list' to see what is installed")


def trackers(spec: RunSpec, folder: Path) -> list[Tracker]:
    """The trackers that `spec.train.trackers` names, this session's own first.

    Raises:
        UserError: No plugin answers to a name, or one that does cannot start.
    """
    own = session.current().trackers
    hooks = {each.found: each.hooks.zoo_tracker for each in plugins() if each.hooks is not None}
    hooks = {found: hook for found, hook in hooks.items() if hook.get_hookimpls()}
    with ExitStack() as on_failure:
        made: list[Tracker] = []
        for name in spec.train.trackers:
            if name in own:
                new = [own[name](spec, folder)]
            else:
                alone = spec.model_copy(update={"train": spec.train.model_copy(update={"trackers": (name,)})})
                new = []
                for found, hook in hooks.items():
                    with running(found):
                        new += hook(spec=alone, folder=folder)
            if not new:
                known = [*own, *(each.name for each in hooks)]
                raise missing("tracker", name, known, "run 'zoo plugins list' to see every plugin")
            for each in new:
                on_failure.callback(each.close)
            made += new
        on_failure.pop_all()
    return made


def stamps(task: str) -> dict[str, PluginStamp]:
    """Which code a run of this task is made with, by plugin name."""
    found = _owner_of_task(task)
    if found == _SESSION:
        return {SESSION: PluginStamp(distribution=SESSION, version="unversioned", sha256=None)}
    like = task_entry(task).like
    return {
        **(stamps(like) if like else {}),
        found.name: PluginStamp(
            distribution=found.distribution or found.module,
            version=found.version or "unversioned",
            sha256=source_hash(found.module),
        ),
    }


def revision() -> tuple[str, str, int]:
    """Changes whenever what plugins bring may have: a key for what is cached elsewhere."""
    return (*environment(), session.revision())


def reset() -> None:
    """Forget what was loaded and registered, as a test must that installs plugins."""
    loading.forget()
    session.forget()


def _owner_of_task(name: str) -> Found:
    task_entry(name)
    owners = {entry.name: found for found, manifest in loaded() for entry in manifest.tasks}
    return owners.get(name, _SESSION)


def object_of(reference: str, owner: Found) -> Any:
    """What a plugin names, imported.

    Raises:
        UserError: It cannot be.
    """
    if owner == _SESSION and reference in session.current().objects:
        return session.current().objects[reference]
    with running(owner):
        return import_reference(reference)


@contextmanager
def running(found: Found) -> Generator[None]:
    """Code of a plugin runs; what it raises is an error that names the plugin and the remedy."""
    try:
        with isolated(found.package):
            yield
    except PluginError as error:
        raise UserError(f"plugin {found} failed: {error}\n{_remedy(found, error.__cause__)}") from error


def _remedy(found: Found, cause: BaseException | None = None) -> str:
    if isinstance(cause, ModuleNotFoundError) and cause.name and cause.name.partition(".")[0] != found.package:
        return f"install what it needs: pip install {cause.name.partition('.')[0]}"
    return f"mend or reinstall {found.distribution or found.module}; 'zoo plugins check {found.name}' says more"


def missing(kind: str, name: str, known: Iterable[str], remedy: str, *, entry: str | None = None) -> UserError:
    """The name is unknown, or it is of a plugin that is not loaded; then that is what to mend.

    Args:
        kind: `tracker`, `task`, or that of an entry of catalogues.
        entry: What a catalogue calls it, where that is longer.
    """
    absent = [each for each in plugins() if each.status != "loaded"]
    for plugin in absent:
        if (entry or name) not in _brings(plugin, kind) and not (kind == "model" and _bridges_to(plugin, name)):
            continue
        if plugin.status == "blocked":
            advice = "take it out of ZOO_DISABLE_PLUGINS to use it"
        else:
            advice = f"mend or reinstall {plugin.found.distribution or plugin.found.module}"
        said = f"the {kind} '{name}' comes from plugin {plugin.found}, which is not loaded"
        return UserError(f"{said} ({plugin.status}): {plugin.reason}\n{advice}; 'zoo plugins list' shows every plugin")
    others = [f"not loaded: plugin {each.found} ({each.status}): {each.reason}" for each in absent]
    return UserError("\n".join([str(unknown(kind, name, known, remedy)), *others]))


def _bridges_to(plugin: Plugin, name: str) -> bool:
    """Whether a model's name begins as those of a plugin's bridge do, or with the plugin's own."""
    prefixes = [bridge.prefix for bridge in plugin.manifest.bridges] if plugin.manifest else [plugin.found.name]
    prefix, slash, _ = name.partition("/")
    return bool(slash) and prefix in prefixes


def _brings(plugin: Plugin, kind: str) -> set[str]:
    """What a plugin that is not loaded would bring: by its manifest where it has one, else by its catalogue."""
    if kind == "tracker":
        return {plugin.found.name}
    names: set[str] = set()
    if plugin.manifest is not None and kind in ("task", "dataset"):
        names |= {each.name for each in plugin.manifest.tasks} if kind == "task" else set(plugin.manifest.datasets)
    path = catalogue_path(plugin.found.module) if plugin.found.reference else None
    if path is None:
        return names
    catalogue = load(path).catalogue
    if kind == "task":
        return names | {each.task for each in (*catalogue.models.values(), *catalogue.datasets.values())}
    return names | set(getattr(catalogue, f"{kind}s"))
