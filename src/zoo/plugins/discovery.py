"""Which plugins there are: found by their metadata, with none of their code imported.

Installed plugins stand in the entry-point group ``zoo``. Two variables change the set:

* ``ZOO_PLUGINS``: modules to load besides, comma-separated; `-p MODULE` adds to it. They may lie in the working folder.
* ``ZOO_DISABLE_PLUGINS``: plugins not to load, by plugin, module or distribution name, comma-separated. The word
  ``third-party`` blocks every plugin that another distribution than zoo's brings, but not those in ``ZOO_PLUGINS``.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import UserError

GROUP = "zoo"
OURS = "attention-zoo"
THIRD_PARTY = "third-party"
UNKNOWN = "unknown"

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
_LONGEST_REASON = 300


class PluginError(UserError):
    """What a plugin's own code raised, on one line."""


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin before it is imported.

    Args:
        reference: ``module`` or ``module:attribute``.
        distribution: None when it was named by ``ZOO_PLUGINS`` and no entry point has it; likewise `version`.
        blocked: Why it is not loaded, else empty.
        trouble: Why it cannot be loaded, else empty.
    """

    name: str
    reference: str
    distribution: str | None = None
    version: str | None = None
    blocked: str = ""
    trouble: str = ""

    @property
    def module(self) -> str:
        return self.reference.partition(":")[0]

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        origin = " ".join(filter(None, [self.distribution, self.version])) or "named by ZOO_PLUGINS or -p"
        return f"'{self.name}' ({origin})"


def environment() -> tuple[str, str]:
    """The two variables: what is found depends on nothing else but what is installed."""
    return os.environ.get("ZOO_PLUGINS", ""), os.environ.get("ZOO_DISABLE_PLUGINS", "")


@cache
def find(requested: str, disabled: str) -> tuple[Found, ...]:
    """Every plugin, ours first, then others by name, then those requested; of equal names the first is good."""
    wanted, unwanted = _names(requested), {_canonical(name) for name in _names(disabled)}
    if wanted and not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # at the end, where it hides nothing
    installed = sorted(_installed(), key=lambda each: (each.distribution != OURS, each.name, each.distribution or ""))
    known = {name for each in installed for name in (each.name, each.module)}
    found: list[Found] = []
    for each in [*installed, *(Found(name, name) for name in wanted if name not in known)]:
        asked_for = each.name in wanted or each.module in wanted
        if unwanted & {_canonical(name) for name in (each.name, each.module, each.distribution or each.name)}:
            found.append(replace(each, blocked="blocked by ZOO_DISABLE_PLUGINS"))
        elif _canonical(THIRD_PARTY) in unwanted and each.distribution != OURS and not asked_for:
            found.append(replace(each, blocked=f"blocked by ZOO_DISABLE_PLUGINS={THIRD_PARTY}"))
        else:
            found.append(replace(each, trouble=_trouble(each, found)))
    return tuple(found)


def unknown_blocks() -> list[str]:
    """Names in ZOO_DISABLE_PLUGINS that fit no plugin, and so block nothing."""
    requested, disabled = environment()
    known = {THIRD_PARTY}
    for each in find(requested, disabled):
        known |= {_canonical(name) for name in (each.name, each.module, each.distribution or each.name)}
    return [name for name in _names(disabled) if _canonical(name) not in known]


def package_files(module: str) -> list[Path]:
    """Where a module's top-level package lies: its folders, or the file of a module that is no package."""
    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def catalogue_path(module: str) -> Path | None:
    """The `registry.yaml` beside a plugin's module, or in a package around it; found without importing any."""
    inner = module.split(".")[1:]
    for folder in package_files(module):
        for depth in range(len(inner), -1, -1):
            path = folder.joinpath(*inner[:depth], "registry.yaml")
            if folder.is_dir() and path.is_file():
                return path
    return None


def source_hash(module: str) -> str | None:
    """SHA-256 over the names and contents of a package's Python files; None when it has none on disk."""
    digest, empty = sha256(), True
    for root in package_files(module):
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            empty = False
            for part in (path.relative_to(root.parent).as_posix().encode(), path.read_bytes()):
                digest.update(len(part).to_bytes(8, "big") + part)
    return None if empty else digest.hexdigest()


@contextmanager
def isolated(package: str) -> Generator[None]:
    """Run a plugin's code: what it prints goes to stderr, whatever it raises becomes a `PluginError`."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:  # SystemExit and the like: a plugin may not end the program
        raise PluginError(_one_line(error, package)) from error


def _one_line(error: BaseException, package: str) -> str:
    """``ValueError: the message (zoo_toy/data.py:12)``, the place being the last in the plugin's own files."""
    message = re.sub(r"<module '([\w.]+)' from [^>]*>", r"\1", " ".join(str(error).split()))[:_LONGEST_REASON]
    places = [
        f" ({'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if package in (*Path(frame.filename).parts, Path(frame.filename).stem)
    ]
    return type(error).__name__ + (f": {message}" if message else "") + (places[-1] if places else "")


def is_reference(value: object) -> bool:
    """Is this ``module`` or ``module:attribute``?"""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def _names(listed: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> Iterator[Found]:
    """The entry points of every distribution that has some for us; what one of them breaks is a row of its own."""
    seen: set[str] = set()
    for distribution in distributions():
        try:
            if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
                continue
            entries = list(distribution.entry_points.select(group=GROUP))
            trouble = ""
        except Exception as error:
            entries, trouble = [], f"its entry_points.txt cannot be read: {_one_line(error, '')}"
        name, version = _identity(distribution)
        if name != UNKNOWN and _canonical(name) in seen:
            continue  # found again through another folder of sys.path
        seen.add(_canonical(name))
        if trouble:
            yield Found(name, "", name, version, trouble=trouble)
        for entry in entries:
            reference = re.sub(r"\s*(:)\s*|\s*\[.*\]$", r"\1", entry.value.strip())
            yield Found(entry.name, reference, name, version)


def _identity(distribution: Distribution) -> tuple[str, str | None]:
    try:
        return str(distribution.metadata["Name"] or UNKNOWN), distribution.version
    except Exception:  # no METADATA, or none that can be read; its plugin may work all the same
        return UNKNOWN, None


def _trouble(found: Found, before: list[Found]) -> str:
    if found.trouble:
        return found.trouble
    for other in before:
        if other.name == found.name and not other.blocked:
            return (
                f"the plugin name '{found.name}' is already taken by {other.distribution or other.module}; rename one"
            )
    if not is_reference(found.reference):
        return f"'{found.reference}' is not MODULE or MODULE:ATTRIBUTE"
    if not package_files(found.module) and found.package not in sys.builtin_module_names:
        return f"no module named '{found.package}' can be found; reinstall {found.distribution or 'what provides it'}"
    return ""
