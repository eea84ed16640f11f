"""The core of a trained model in another: what it learnt of texts may serve pictures."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from zoo.catalogue.wording import as_yaml
from zoo.core import Model
from zoo.errors import UserError
from zoo.files import user_path
from zoo.run import open_run
from zoo.specs import CoreSpec, RunSpec, StartSpec
from zoo.weights.start import reopened, sha256_of

NOT_COMPARED = ("dropout", "attention_dropout", "drop_path")
"""What a core does in training alone."""


@dataclass(frozen=True)
class Transplant:
    """A run's core.

    Args:
        stamp: Whose it is; `family` is the task that it was trained for.
    """

    stamp: StartSpec
    tensors: Mapping[str, Tensor]

    def put_into(self, model: Model) -> str:
        """Give a model of equal core the numbers of this one; its other rooms keep theirs.

        Returns:
            What was done, for the reader.
        """
        model.core.load_state_dict(self.tensors)
        return f"core: of {self.stamp.source} ({self.stamp.family})"


def open_transplant(place: str | Path, spec: RunSpec) -> Transplant:
    """The core of the run in `place`, for a model of this spec.

    Raises:
        UserError: There is no such run, or its core is not equal to the spec's.
    """
    run = open_run(user_path(place).absolute())
    refuse_unequal(run.spec, spec, f"the core of '{run.folder}'")
    tensors = run.load_model().core.state_dict()
    return Transplant(StartSpec(source=str(run.folder), family=run.spec.task, sha256=sha256_of(tensors)), tensors)


def transplant_of(spec: RunSpec) -> Transplant | None:
    """What a run's core began with.

    Raises:
        UserError: It is not there any more, or something else.
    """
    if spec.core_from is None:
        return None
    source = spec.core_from.source

    def opened() -> tuple[Transplant, StartSpec]:
        found = open_transplant(source, spec)
        return found, found.stamp

    return reopened(opened, spec.core_from, f"the core of '{source}'", spec, "--core")


def refuse_unequal(theirs: RunSpec, ours: RunSpec, what: str) -> None:
    """
    Raises:
        UserError: The cores differ: every field in which they do is named.
    """
    for spec in (theirs, ours):
        if not isinstance(spec.core, CoreSpec):
            raise UserError(
                f"the core of '{spec.model}' is another library's network: it cannot be exchanged\n"
                "name models with a core of ours"
            )
    said = theirs.core.model_dump(mode="json")
    given, wanted = said | theirs.core.sizes, ours.core.model_dump(mode="json") | ours.core.sizes
    differing = [key for key in given if key not in NOT_COMPARED and given[key] != wanted[key]]
    if differing:
        told = ", ".join(f"core.{key} is {as_yaml(given[key])}, not {as_yaml(wanted[key])}" for key in differing)
        asked = " ".join(f"--set {shlex.quote(f'core.{key}={as_yaml(said[key])}')}" for key in differing)
        raise UserError(f"{what} is not equal to that of '{ours.model}': in it {told}\nask for an equal one: {asked}")
