"""`zoo plugins`: who is there, a new one, and whether one keeps its promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.output import note, print_json, print_table
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.catalogue import Problem

app = typer.Typer(help="Plugins: list them, write one, check one.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list", epilog="Example: zoo -p my_module plugins list")
def list_plugins(json: Json = False) -> None:
    """List the plugins: loaded, blocked, failed or incompatible, and why."""
    from zoo import plugins
    from zoo.registry import open_registry

    rows = plugins.rows()
    for name in plugins.unknown_blocks():
        note(f"ZOO_DISABLE_PLUGINS names '{name}', which fits no plugin")
    found = open_registry().problems
    rows = [
        replace(row, reason=row.reason or _told([each for each in found if each.plugin == row.name])) for row in rows
    ]
    if json:
        print_json([asdict(row) for row in rows])
        return
    print_table(
        ("plugin", "status", "distribution", "version", "brings, or what is wrong"),
        [
            (
                row.name,
                row.status,
                row.distribution,
                row.version,
                row.reason or ", ".join((*row.tasks, *row.datasets, *row.trackers, *row.bridges)),
            )
            for row in rows
        ],
    )


def _told(problems: Sequence[Problem]) -> str:
    """What is wrong with a plugin's catalogue, in a cell."""
    if not problems:
        return ""
    more = f" (1 of {len(problems)}; run 'zoo registry check {problems[0].file}')" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


@app.command("new", epilog="Example: zoo plugins new beats && pip install -e ./beats && zoo train beats-micro")
def new(
    name: Annotated[str, typer.Argument(help="Its name, such as beats; the package is then zoo_beats.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; NAME when not given.")] = None,
) -> None:
    """Write a small plugin that can be installed, tested and trained at once."""
    from zoo.plugins.scaffold import write_plugin

    folder = write_plugin(name, out)
    print(folder)
    note(f'now: pip install -e "{folder}[test]" && zoo train {name}-micro && pytest {folder}')


@app.command("refresh", epilog="Example: zoo plugins refresh timm")
def refresh(
    name: Annotated[
        str | None, typer.Argument(help="A plugin with an index of models; all of them when left out.")
    ] = None,
) -> None:
    """Make the lists anew of the models that other libraries make, of the libraries that are installed."""
    from zoo import plugins

    for line in plugins.refresh(name):
        print(line)


@app.command("check", epilog="Example: zoo plugins check vit")
def check(
    name: Annotated[str, typer.Argument(help="A plugin's name, from 'zoo plugins list'.")], json: Json = False
) -> None:
    """Hold a plugin against the contract: its values, its gradients, its invariances, its resume."""
    from zoo.testing import run_checks

    results = []
    for result in run_checks(name):
        results.append(result)
        note(f"{result.status:7} {result.check}" + (f": {result.reason}" if result.reason else ""))
    if json:
        print_json([asdict(result) for result in results])
    failed = [result.check for result in results if result.status == "failed"]
    if failed:
        raise UserError(f"plugin '{name}' fails {len(failed)} of {len(results)} checks: {', '.join(failed)}")
    if not json:
        print(f"plugin '{name}' passes {len(results)} checks")
