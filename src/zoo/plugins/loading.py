"""From found to loaded: a plugin's module is imported, its hooks and its manifest are checked.

Hooks are pluggy's, one manager a plugin, so that no plugin's mistake reaches another's call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, Literal, cast

import pluggy

from zoo.contract import API_VERSION, Bridge, Hooks, Manifest, TaskEntry
from zoo.errors import UserError
from zoo.plugins.discovery import Found, environment, find, is_reference, isolated

Status = Literal["loaded", "blocked", "failed", "incompatible"]
PARTS = ("embed", "head", "augment", "decode", "cost")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin and what became of it.

    Args:
        reason: Why it is not loaded, on one line.
        manifest: None where it brings none, or none that can be read.
        hooks: None unless loaded.
    """

    found: Found
    status: Status
    reason: str = ""
    manifest: Manifest | None = None
    hooks: pluggy.HookRelay | None = None


def plugins() -> tuple[Plugin, ...]:
    """Every plugin, loaded at the first call and again when the environment variables change."""
    return _load_all(*environment())


def loaded() -> list[tuple[Found, Manifest]]:
    """The manifests that count."""
    return [(each.found, each.manifest) for each in plugins() if each.status == "loaded" and each.manifest]


def forget() -> None:
    find.cache_clear()
    _load_all.cache_clear()


def import_reference(reference: str) -> Any:
    """The object that ``module:attribute`` names, or the module itself."""
    module, _, attribute = reference.partition(":")
    imported = import_module(module)
    return attrgetter(attribute)(imported) if attribute else imported


@cache
def _load_all(requested: str, disabled: str) -> tuple[Plugin, ...]:
    done: list[Plugin] = []
    for found in find(requested, disabled):
        plugin = _load(found)
        if reason := _collision(plugin, done):
            plugin = replace(plugin, status="failed", reason=reason, hooks=None)
        done.append(plugin)
    while alone := _without_their_like(done):  # what fails so may take others with it
        done = [alone.get(plugin.found, plugin) for plugin in done]
    return tuple(done)


def _without_their_like(plugins: Sequence[Plugin]) -> Mapping[Found, Plugin]:
    """Those that bring a task which is like one that is not there, as they fail. Where a plugin is blocked or broken it
    may be that one's, which is told when the task is used."""
    if any(each.status != "loaded" and each.manifest is None for each in plugins):
        return {}
    good = [(each, each.manifest) for each in plugins if each.status == "loaded" and each.manifest]
    known = {entry.name: entry for _, manifest in good for entry in manifest.tasks}
    failed: dict[Found, Plugin] = {}
    for plugin, manifest in good:
        for entry in manifest.tasks:
            if entry.like is None or (entry.like in known and known[entry.like].like is None):
                continue
            why = "is like another itself" if entry.like in known else "no plugin that is loaded brings"
            reason = f"task '{entry.name}' is like '{entry.like}', which {why}; 'zoo plugins list' shows every task"
            failed[plugin.found] = replace(plugin, status="failed", reason=reason, hooks=None)
    return failed


def _load(found: Found) -> Plugin:
    if found.blocked or found.trouble:
        return Plugin(found, "blocked" if found.blocked else "failed", found.blocked or found.trouble)
    manager = pluggy.PluginManager("zoo")
    manager.add_hookspecs(Hooks)
    try:
        with isolated(found.package):
            manager.register(import_reference(found.reference), found.name)
            manager.check_pending()
            manifests = manager.hook.zoo_manifest()
    except UserError as error:
        return Plugin(found, "failed", " ".join(str(error).split()))
    if not manifests:
        if manager.hook.zoo_tracker.get_hookimpls():
            return Plugin(found, "loaded", hooks=manager.hook)
        return Plugin(
            found, "failed", "it gives no manifest; mark its zoo_manifest() with @zoo.hookimpl and return one"
        )
    manifest = manifests[0]
    if not isinstance(manifest, Manifest):
        return Plugin(found, "failed", f"zoo_manifest() returned {type(manifest).__name__}, not zoo.Manifest")
    if manifest.api_version != API_VERSION:
        made_for = f"made for plugin API {manifest.api_version!r}, this zoo has {API_VERSION}"
        return Plugin(found, "incompatible", f"{made_for}; install a matching {found.distribution or found.module}")
    if reason := _malformed(manifest):
        return Plugin(found, "failed", reason)
    return Plugin(found, "loaded", manifest=manifest, hooks=manager.hook)


def _malformed(manifest: Manifest) -> str:
    """What is wrong with a manifest's values; nothing has checked their types so far."""
    shapes = (
        isinstance(cast("object", manifest.tasks), Sequence),
        isinstance(cast("object", manifest.datasets), Mapping),
    )
    if not all(shapes):
        return "Manifest.tasks must be a sequence of zoo.TaskEntry, and Manifest.datasets a mapping"
    tasks: Sequence[Any] = manifest.tasks
    datasets: Mapping[Any, Any] = manifest.datasets
    for entry in tasks:
        if not isinstance(entry, TaskEntry):
            return f"Manifest.tasks holds {entry!r}, not a zoo.TaskEntry"
        for part in ("task", *PARTS):
            reference = getattr(entry, part)
            if not is_reference(reference) and (part == "task" or reference is not None):
                return f"task '{entry.name}': {part} is {reference!r}, not 'package.module:Name'"
    for name, reference in datasets.items():
        if not is_reference(reference):
            return f"dataset '{name}': its loader is {reference!r}, not 'package.module:function'"
    for reference in manifest.families if isinstance(cast("object", manifest.families), list | tuple) else [None]:
        if not is_reference(reference):
            return f"Manifest.families must list 'package.module:NAME', and has {reference!r}"
    for entry in tasks:
        for listed in ("data", "targets", "inputs", "resizable", "reads"):
            if isinstance(getattr(entry, listed), str):
                return f"task '{entry.name}': {listed} is a string, not a list of them"
        if entry.like is not None and not isinstance(cast("object", entry.like), str):
            return f"task '{entry.name}': like is {entry.like!r}, not the name of another task"
    if reason := _malformed_bridge(manifest.bridges):
        return reason
    names = [entry.name for entry in tasks]
    for name in (*names, *datasets):
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
            return f"the name {name!r} is not lower-case letters, digits and - . _"
    return f"Manifest.tasks names one task twice: {', '.join(names)}" if len(set(names)) < len(names) else ""


def _malformed_bridge(bridges: Any) -> str:
    """What is wrong with a manifest's bridges."""
    listed: list[Any] = list(cast("Sequence[Any]", bridges)) if isinstance(bridges, list | tuple) else [None]
    for bridge in listed:
        if not isinstance(bridge, Bridge):
            return f"Manifest.bridges must list zoo.contract.Bridge, and has {bridge!r}"
        if not re.fullmatch(r"[a-z][a-z0-9]*", bridge.prefix):
            return f"the prefix {bridge.prefix!r} of a bridge is not small letters and digits"
        for part in ("offered", "model", "refresh", "fetch"):
            reference = getattr(bridge, part)
            if not is_reference(reference) and (part != "fetch" or reference is not None):
                return f"bridge '{bridge.prefix}': {part} is {reference!r}, not 'package.module:function'"
    return ""


def _collision(plugin: Plugin, before: Sequence[Plugin]) -> str:
    if plugin.status != "loaded" or plugin.manifest is None:
        return ""
    for other in before:
        if other.status != "loaded" or other.manifest is None:
            continue
        theirs = {entry.name for entry in other.manifest.tasks}
        taken = [f"task '{entry.name}'" for entry in plugin.manifest.tasks if entry.name in theirs]
        taken += [f"dataset '{name}'" for name in plugin.manifest.datasets if name in other.manifest.datasets]
        prefixes = {bridge.prefix for bridge in other.manifest.bridges}
        taken += [f"bridge '{each.prefix}'" for each in plugin.manifest.bridges if each.prefix in prefixes]
        if taken:
            return f"plugin {other.found} brings {' and '.join(taken)} already; rename or block one"
    return ""
