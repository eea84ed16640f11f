"""``zoo export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that was trained with train.lora.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    format: Annotated[Literal["peft"], typer.Option(help="Whose layout of files.")] = "peft",
) -> None:
    """Write a run's low-rank adapters and head as PEFT keeps them, in the names of the weights it began with.

    Example: zoo export runs/adapted --out adapters
    """
    from zoo.weights.export import export as write

    print(f"adapters: {write(run, out)}")
