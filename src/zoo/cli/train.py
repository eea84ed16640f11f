"""``zoo train``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.output import note


def train(
    name: Annotated[str, typer.Argument(help="A model of 'zoo list'.")],
    recipe: Annotated[str | None, typer.Option(help="A recipe of the model, such as digits.")] = None,
    data: Annotated[str | None, typer.Option(help="A dataset's name, a folder or a file.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="What to start from: a run folder, a name in 'zoo show', hf:OWNER/NAME, a file or a folder."),
    ] = None,
    core: Annotated[
        str | None, typer.Option(help="A run folder, of any task, whose core to begin with; freeze it by train.freeze.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Another task than the model's own.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any value of the spec, such as train.lr=1e-3."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/NAME-DATETIME when not given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of the weights, instead of epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, augmentation and dropout.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16; bf16 on CUDA when not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, bit for bit.")] = False,
) -> None:
    """Train a model; print the run folder and the test report.

    Example: zoo train vit-small --set train.epochs=10 --out runs/first
    """
    from zoo.signals import Preempted
    from zoo.training import train as run_training

    try:
        run = run_training(
            name,
            recipe=recipe,
            data=data,
            weights=weights,
            core=core,
            task=task,
            settings=settings or (),
            steps=steps,
            seed=seed,
            device=device,
            precision=precision,
            out=out,
            resume=resume,
        )
    except Preempted as stopped:
        note(f"{stopped}\ngo on with: zoo train {name} --out {shlex.quote(str(stopped.folder))} --resume")
        sys.exit(128 + stopped.number)
    report = run.report()
    assert report is not None, "a training ends with its report"
    report.print()
    print(f"run folder: {run.folder}")
