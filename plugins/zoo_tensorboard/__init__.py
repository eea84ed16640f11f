"""TensorBoard: a tracker. `--set train.trackers='[tensorboard]'` writes a run's metrics to its folder `tensorboard`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.contract import Tracker, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.specs import RunSpec


@hookimpl
def zoo_tracker(spec: RunSpec, folder: Path) -> Tracker | None:
    if "tensorboard" not in spec.train.trackers:
        return None
    from zoo_tensorboard.tracker import TensorBoard

    return TensorBoard(folder / "tensorboard")
