"""What a plugin says it brings, and the hooks by which it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pluggy

from zoo.contract.bridge import Bridge

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.specs import RunSpec

API_VERSION = 1
hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task by name. Heavy code is named, ``"package.module:Name"``, and imported when it is used.

    Args:
        task: The class that implements `Task`; where it is `like` another, perhaps a `Variant` of that.
        embed: Spec class of a model's `embed`, torch-free; likewise `head`, `augment` and `decode`.
        cost: ``(RunSpec) -> zoo.cost.Cost``, in a torch-free module; without it `zoo show` says there is no formula.
        data: Settings of `DataSpec` that the task reads, beyond those that hold for every task; others are refused.
        targets: Names in `Splits.info` of what is predicted, such as ``classes``: for others, weights get a new head.
        inputs: Settings by which batches are made, which a model must share with one that it learns from.
        resizable: Settings that trained weights can be adapted to, ``embed.image_size``; theirs, if none is asked for.
        reads: Other tasks whose datasets it reads too. For a task with batches and settings of its own, such as one
            that makes something else of the same recordings.
        like: A task whose batches this one makes, and so reads its datasets; its `augment`, `decode`, `data` and
            `targets` hold where none are said, and its `inputs` too: of one that this task has no setting for, batches
            are made by its default. For the same task with other networks, such as another library's.
        network: The core is one that another library makes, a `zoo.specs.NetworkSpec`.
    """

    name: str
    task: str
    embed: str | None = None
    head: str | None = None
    augment: str | None = None
    decode: str | None = None
    cost: str | None = None
    data: Sequence[str] = ()
    targets: Sequence[str] = ()
    inputs: Sequence[str] = ()
    resizable: Sequence[str] = ()
    reads: Sequence[str] = ()
    like: str | None = None
    network: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a plugin brings. Its models stand in the `registry.yaml` of its package.

    Args:
        datasets: Loader of each dataset its catalogue names, ``"package.module:function"``: (DataSpec) → Source.
        families: Of published weights that its tasks begin with, ``"package.module:NAME"`` of a `zoo.weights.Family`.
        bridges: To the models of other libraries.
    """

    api_version: int
    tasks: Sequence[TaskEntry] = ()
    datasets: Mapping[str, str] = field(default_factory=dict[str, str])
    families: Sequence[str] = ()
    bridges: Sequence[Bridge] = ()


class Tracker(Protocol):
    """Where metrics go besides `metrics.jsonl`."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Hooks:
    """The hooks a plugin may implement, each marked with `zoo.hookimpl`."""

    @hookspec
    def zoo_manifest(self) -> Manifest:
        """What the plugin brings."""
        raise NotImplementedError

    @hookspec
    def zoo_tracker(self, spec: RunSpec, folder: Path) -> Tracker | None:
        """A tracker for this run if `spec.train.trackers` asks for it, else None."""
        raise NotImplementedError
