"""`zoo data`: which datasets there are, where they lie, how they come here, and what is wrong with them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.output import note, print_json, print_table
from zoo.errors import UserError, counted

if TYPE_CHECKING:
    from zoo.specs import DatasetSpec, RunSpec

app = typer.Typer(
    help="Datasets: where they come from, licence, size, hash; what is wrong with a folder of yours.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
MAX_NAMED = 20


@app.command("list")
def list_datasets(json: Json = False) -> None:
    """The datasets that there are, and which of them are on this machine.

    Example: zoo data list
    """
    from zoo.registry import open_registry

    rows = [_card(name, dataset) for name, dataset in sorted(open_registry().datasets.items())]
    if json:
        print_json(rows)
        return
    columns = ("name", "task", "items", "size", "license", "here")
    shown = [
        {**row, "items": row["items"] or None, "size": _size(row["size_bytes"]), "here": _here(row)} for row in rows
    ]
    print_table(columns, [[row[column] for column in columns] for row in shown])


@app.command()
def show(name: Annotated[str, typer.Argument(help="A dataset of `zoo data list`.")], json: Json = False) -> None:
    """A dataset's card: what it is, its source, licence, splits, size and hash.

    Example: zoo data show mnist
    """
    from zoo.registry import open_registry

    registry = open_registry()
    dataset: DatasetSpec = registry.find("datasets", name)
    card: dict[str, Any] = (
        dataset.model_dump(mode="json") | _card(name, dataset) | {"plugin": registry.origin("datasets", name)}
    )
    if json:
        print_json(card)
        return
    order = ("name", "description", "task", "source", "license", "splits", "settings", "url", "sha256")
    said: dict[str, Any] = {key: card[key] for key in order} | {"size": _size(card["size_bytes"]), "here": _here(card)}
    said |= {key: ", ".join(f"{k} {v}" for k, v in said[key].items()) for key in ("splits", "settings")}
    for key, value in said.items():
        if value:
            print(f"{key:12}{value}")


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A dataset of `zoo data list`.")]) -> None:
    """Download a dataset unless it is here, and hold its files against the hash.

    ZOO_MIRROR/NAME is looked at before the network; what is downloaded goes to ZOO_CACHE/datasets/NAME.

    Example: zoo data fetch mnist
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from zoo.data import fetch as fetching
    from zoo.registry import open_registry

    dataset: DatasetSpec = open_registry().find("datasets", name)
    if dataset.made_from is not None:
        raise UserError(f"'{name}' is made from '{dataset.made_from}'\nrun 'zoo data fetch {dataset.made_from}'")
    if dataset.embedded:
        note(f"'{name}' comes with an installed package: there is nothing to fetch")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        known: dict[str, Any] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in known:
                known[file] = bars.add_task(file)
            bars.update(known[file], completed=done, total=total)

        folder = fetching.fetch(name, dataset, progress)
    if dataset.sha256 is None:
        note(f"no hash is on record for '{name}'; its files have SHA-256 {fetching.tree_hash(folder)}")
    print(folder)


@app.command()
def check(
    data: Annotated[str, typer.Argument(metavar="PLACE|NAME", help="A folder or table of yours, or a dataset's name.")],
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="What the data is for; needed where it is unclear.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How to read it, such as data.text_column=review."),
    ] = None,
    json: Json = False,
) -> None:
    """Find unreadable, duplicate, leaking and mislabelled items and unequal classes; exit status 2 if there are errors.

    Example: zoo data check ~/pictures
    """
    from zoo import plugins

    spec = _spec(data, task, settings or ())
    findings = plugins.task_class(spec.task).check(spec)  # pyright: ignore[reportAttributeAccessIssue]  # _spec saw to it
    if json:
        keys = ("severity", "kind", "message", "items")
        print_json([{key: getattr(finding, key) for key in keys} for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.severity}: {finding.kind}: {finding.message}")
            for item in finding.items[:MAX_NAMED]:
                print(f"  {item}")
            if len(finding.items) > MAX_NAMED:
                print(f"  and {len(finding.items) - MAX_NAMED} more; --json names all")
        errors, warnings = (sum(f.severity == kind for f in findings) for kind in ("error", "warning"))
        note(f"{data}: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(2)


def _card(name: str, dataset: "DatasetSpec") -> dict[str, Any]:
    from zoo.data.places import locate

    folder = None if dataset.embedded else locate(dataset.made_from or name)
    return {
        "name": name,
        "task": dataset.task,
        "items": sum(dataset.splits.values()),
        "size_bytes": dataset.size_bytes,
        "license": dataset.license,
        "embedded": dataset.embedded,
        "url": dataset.url,
        "folder": None if folder is None else str(folder),
    }


def _here(card: dict[str, Any]) -> str:
    if card["embedded"]:
        return "comes with a package"
    return card["folder"] or f"no; zoo data fetch {card['name']}"  # which says what to do where there is no address


def _size(size: int | None) -> str:
    if size is None:
        return ""
    for unit, amount in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= amount:
            return f"{size / amount:.1f} {unit}"
    return f"{size} B"


def _spec(data: str, task: str | None, settings: Sequence[str]) -> "RunSpec":
    """What the task's check reads: the spec of any of its models, with this data."""
    from zoo import plugins
    from zoo.contract import Checkable
    from zoo.registry import open_registry

    registry = open_registry()
    if task is None:
        task = registry.datasets[data].task if data in registry.datasets else _task_for(data)
    if not isinstance(plugins.task_class(task), Checkable):
        raise UserError(
            f"the task '{task}' has no check of its data\n"
            "choose another with --task, or train: what is wrong is told before it begins (an author gives a task its "
            "check by zoo.contract.Checkable)"
        )
    model = next((name for name, each in registry.models.items() if each.task == task), None)
    if model is None:
        raise UserError(f"no model in the catalogue is for the task '{task}'; add one, to say how its data is read")
    registry.place(data, task)
    return registry.resolve(model, data=data, task=task, settings=settings).spec


def _task_for(data: str) -> str:
    """The task that reads most of what lies at a place."""
    from zoo import plugins
    from zoo.contract import Checkable
    from zoo.errors import unknown
    from zoo.files import user_path
    from zoo.registry import is_address, open_registry

    place = user_path(data)
    if is_address(data) and not place.exists():
        raise UserError(f"what is '{data}' for? say so with --task, such as --task text-classification")
    if not place.exists():
        raise unknown("dataset or place", data, open_registry().datasets, "give a path, or a dataset's name")
    counts: dict[str, int] = {}
    for name in sorted(plugins.tasks()):
        try:
            task = plugins.task_class(name)
            if isinstance(task, Checkable):
                counts[name] = task.num_readable(place)
        except UserError as error:
            note(f"passed over: {error}")
    most = max(counts.values(), default=0)
    able = [name for name, count in counts.items() if count == most]
    if len(able) != 1:
        raise UserError(f"what is '{data}' for? say so with --task; these can be checked: {', '.join(able) or 'none'}")
    return able[0]
