"""Trainings that begin with weights, as cheap as they can be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoo.core import Model
from zoo.run import Run
from zoo.training import train

STILL = {"train.lr": 1e-300, "train.weight_decay": 0.0, "train.steps": 1, "train.precision": "fp32"}
"""A training that leaves the weights as they are."""
WORDS = {"fruit": ("apple", "plum", "pear"), "tool": ("hammer", "saw", "drill"), "animal": ("cat", "newt", "owl")}


def begun(name: str, data: Path, weights: Path | None, out: Path, *, task: str | None = None, **settings: Any) -> Run:
    said = STILL | {key.replace("__", "."): value for key, value in settings.items()}
    return train(name, task=task, data=str(data), weights=weights, settings=said, out=out, show_progress=False)


def table_of(path: Path, *classes: str) -> Path:
    rows = [
        f"{one} and {other} {i},{each}"
        for each in classes
        for one in WORDS[each]
        for other in WORDS[each]
        for i in range(4)
    ]
    path.write_text("\n".join(["text,label", *rows]))
    return path


def equal(ours: Model, wanted: Mapping[str, torch.Tensor], *rooms: str) -> bool:
    return all(
        torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items() if name.startswith(rooms)
    )
