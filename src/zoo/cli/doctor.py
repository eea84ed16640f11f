"""``zoo doctor``: what is installed here, what is missing or does not work together, and how to mend it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zoo.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "attention-zoo"
COMPILED = ("torch", "torchvision", "torchaudio", "timm")
"""What may be installed and yet not work, because its build fits another one's."""
OPTIONAL = ("torchaudio",)
"""What image classification does without."""

Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `note` is something that some work needs; `broken` is something that training needs."""

    status: Status
    what: str
    found: str
    remedy: str = ""


def doctor(json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Say what is installed, what is missing or does not work together, and how to mend it.

    Example: zoo doctor --json
    """
    findings = examine()
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            ("", "what", "found", "remedy"), [(each.status, each.what, each.found, each.remedy) for each in findings]
        )
    if any(finding.status == "broken" for finding in findings):
        note("training does not work here until what is marked 'broken' is mended")
        raise typer.Exit(1)


def examine() -> list[Finding]:
    """Everything, in the order in which one would look. Imports torch."""
    return [
        Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_packages(),
        *_devices(),
        *_plugins(),
        *_catalogues(),
        *_folders(),
    ]


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires(DISTRIBUTION) or ()):
        extra = _extra(requirement)
        if extra in {"test", "dev"}:
            continue
        wrong: Status = "note" if extra or requirement.name in OPTIONAL else "broken"
        wanted = f"attention-zoo[{extra}]" if extra else f"{requirement.name}{requirement.specifier}"
        remedy = f"pip install '{wanted}'"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(wrong, requirement.name, "not installed", remedy)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield Finding(wrong, requirement.name, f"{found}, wanted {requirement.specifier}", remedy)
        elif requirement.name in COMPILED and (reason := _import_error(requirement.name)):
            yield Finding(wrong, requirement.name, f"{found}, cannot be imported: {reason}", remedy)
        else:
            yield Finding("ok", requirement.name, found)


def _extra(requirement: Requirement) -> str:
    """The extra that asks for it, or an empty string."""
    _, marked, extra = str(requirement.marker or "").partition("extra == ")
    return extra.strip("\"'") if marked else ""


def _import_error(module: str) -> str:
    try:
        import_module(module)
    except Exception as error:  # a build for another torch fails in any way: ImportError, OSError, RuntimeError
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return ""


def _devices() -> Iterator[Finding]:
    if _import_error("torch"):
        return
    import torch

    yield Finding("ok", "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding("ok", f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    elif torch.version.cuda:
        yield Finding(
            "note", "cuda", f"torch is built for CUDA {torch.version.cuda}, but finds no device", "nvidia-smi"
        )
    if torch.backends.mps.is_available():
        yield Finding("ok", "mps", platform.processor() or "available")


def _plugins() -> Iterator[Finding]:
    from zoo import plugins

    for row in plugins.rows():
        origin = " ".join(filter(None, [row.distribution, row.version])) or row.module
        if row.status == "loaded":
            yield Finding("ok", f"plugin {row.name}", origin)
        else:
            ours = row.distribution == DISTRIBUTION and row.status != "blocked"
            reason = f"{origin}: {row.status}: {row.reason}"
            yield Finding("broken" if ours else "note", f"plugin {row.name}", reason, f"zoo plugins check {row.name}")


def _catalogues() -> Iterator[Finding]:
    from zoo.registry import open_registry

    for problem in open_registry().problems:
        status: Status = "broken" if problem.plugin == "zoo" else "note"
        yield Finding(status, "catalogue", str(problem), f"zoo registry check {problem.file}")


def _folders() -> Iterator[Finding]:
    from zoo.data.places import cache_folder

    mirror = os.environ.get("ZOO_MIRROR")
    if not mirror:
        yield Finding("ok", "ZOO_MIRROR", "not set; data comes from the network, by 'zoo data fetch'")
    elif Path(mirror).is_dir():
        yield Finding("ok", "ZOO_MIRROR", mirror)
    else:
        yield Finding("note", "ZOO_MIRROR", f"{mirror}: no such folder", "set it to a folder, or unset it")
    cache = cache_folder().absolute()
    there = next(each for each in (cache, *cache.parents) if each.exists())
    if there.is_dir() and os.access(there, os.W_OK):
        yield Finding("ok", "ZOO_CACHE", str(cache))
    else:
        remedy = "set ZOO_CACHE to a folder that can be written"
        yield Finding("note", "ZOO_CACHE", f"{cache}: '{there}' is no folder that can be written", remedy)
