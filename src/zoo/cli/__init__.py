"""The command line: thin typer commands over the library. Torch-free until a command needs it."""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType
from typing import Annotated, Any

# pydantic would look through every installed distribution for plugins of its own, which takes as long as all of ours.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import typer

from zoo.cli import catalogue, data, doctor, export, plugins, runs, train
from zoo.errors import RunWarning, UserError

app = typer.Typer(
    name="zoo",
    help="A model zoo in which one attention core serves every modality.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help by rich takes as long as all of ours
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(catalogue.list_models)
app.command("show")(catalogue.show)
app.command("train")(train.train)
app.command("eval")(runs.evaluate)
app.command("predict")(runs.predict)
app.command("explain")(runs.explain)
app.command("runs")(runs.compare)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(catalogue.registry_app, name="registry")
app.add_typer(plugins.app, name="plugins")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"zoo {version('attention-zoo')}")
        raise typer.Exit


@app.callback()
def _options(
    plugin: Annotated[
        list[str] | None, typer.Option("-p", "--plugin", metavar="MODULE", help="Also load this plugin module.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if plugin:
        from zoo.plugins import require

        os.environ["ZOO_PLUGINS"] = ",".join([*filter(None, [os.environ.get("ZOO_PLUGINS")]), *plugin])
        require(plugin)


_format_others = warnings.formatwarning


def _format_warning(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    """Ours are for whoever typed the command, not for whoever wrote it."""
    ours = issubclass(category, RunWarning)
    return f"zoo: {message}\n" if ours else _format_others(message, category, *place, **line)


def main() -> None:
    """Run a command. A `UserError` is one message and exit status 2; anything else is a fault of ours."""
    signal.signal(signal.SIGINT, _stop)
    warnings.formatwarning = _format_warning
    warnings.simplefilter("always", RunWarning)
    try:
        _refuse_empty(sys.argv[1:])
        app()
    except UserError as error:
        print(f"zoo: {error}", file=sys.stderr)
        sys.exit(2)


FLAGS = ("--json", "--resume", "--version", "--")


def _stop(number: int, frame: FrameType | None) -> None:
    """Typer ends without a word; a training, which has something to save, listens itself."""
    print("zoo: stopped", file=sys.stderr)
    raise KeyboardInterrupt


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An unset shell variable must not mean the working folder, or the default data."""
    for before, argument in pairwise(["", *arguments]):
        option = before if before.startswith("-") and "=" not in before and before not in FLAGS else ""
        if argument == "" or (argument.startswith("--") and argument.find("=") == len(argument) - 1):
            where = argument[:-1] or option
            raise UserError(f"{where or 'an argument'} is empty\ngive it a value, or leave it out")
