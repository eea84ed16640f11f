"""What a model starts from: published weights, recognised by a family of some plugin, or those of a run."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from zoo import plugins, registry
from zoo.catalogue.wording import as_yaml
from zoo.core import Model
from zoo.errors import UserError, did_you_mean, listing
from zoo.files import user_path
from zoo.run import Run
from zoo.specs import RunSpec, StartSpec, WeightsSpec
from zoo.weights.adapters import has_adapters, read_adapted
from zoo.weights.family import Family
from zoo.weights.files import Published, read_published
from zoo.weights.hub import HUB, locate, parse_address
from zoo.weights.table import Row, Table, from_published

OPTION = "core.options."
OF_A_SHAPE = re.compile(r"size|dim|head|layer|depth|width|embd|inner|kernel|stride|act|group")
OF_TRAINING = re.compile(r"drop|prob|eps|decay|range|vocab|init")


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Args:
        source: The path, absolute.
    """

    source: str
    family: Family
    published: Published

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """What they decide of a spec, by dotted key."""
        return self.family.settings(self.published)

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """What comes with them besides numbers, as `Splits.info` has it."""
        return self.family.info(self.published)

    @property
    def inherited(self) -> dict[str, Any]:
        """What the training takes over of `info`, such as a vocabulary; what is predicted, its own data says."""
        targets = plugins.task_entry(self.family.task).targets
        return {key: value for key, value in self.info.items() if key not in targets}

    @cached_property
    def stamp(self) -> StartSpec:
        return StartSpec(source=self.source, family=self.family.name, sha256=sha256_of(self.published.tensors))

    def decide(self, resolved: registry.Resolved) -> registry.Resolved:
        """A spec as the weights have it. The command may ask for another head, which begins with new numbers, and for
        what they can be adapted to.

        Raises:
            UserError: The model is of another size, or the command says otherwise.
        """
        spec = resolved.spec
        if wrong := self._of_another_size(spec):
            raise UserError(wrong)
        if shaped := self._otherwise_shaped(spec.core.model_dump(), resolved):
            raise UserError(
                f"the weights '{self.source}' are of another shape than '{spec.model}': in them {', '.join(shaped)}\n"
                "name weights of its shape, or a model of theirs"
            )
        free = ("head.", "core.options.", *plugins.task_entry(spec.task).resizable)
        asked = {key for key, source in resolved.sources.items() if source == "command" and key.startswith(free)}
        other = () if self.family.task == spec.task else ("head.",)  # whose head is another
        asked |= {key for size in spec.core.sizes if resolved.sources.get(key := f"core.{size}") == "command"}  # equal
        settings = {
            key: value for key, value in self.settings.items() if key not in asked and not key.startswith(other)
        }
        settled = registry.settle(resolved, settings, by="weights")
        return replace(settled, spec=settled.spec.model_copy(update={"weights": self.stamp}))

    def _of_another_size(self, spec: RunSpec) -> str | None:
        """Why they are another model's. All else that they need of a spec, they decide."""
        mine = spec.core.sizes
        given = {name: self.settings[key] for name in mine if (key := f"core.{name}") in self.settings}
        theirs = spec.core.model_copy(update=given).sizes
        wrong = {f"core.{name}": theirs[name] for name in given if theirs[name] != mine[name]}
        if not wrong:
            return None
        differing = ", ".join(f"{key} is {size}, not {mine[key.removeprefix('core.')]}" for key, size in wrong.items())
        said = " ".join(f"--set {key}={as_yaml(self.settings[key])}" for key in wrong)  # null is what is usual
        return (
            f"the weights '{self.source}' are not of the size of '{spec.model}': in them {differing}\n"
            f"name weights of its size, or a model of theirs{f', or ask for theirs: {said}' if 'dim' in mine else ''}"
        )

    def _otherwise_shaped(self, core: Mapping[str, Any], resolved: registry.Resolved) -> list[str]:
        """What of a network's options says that the weights are of another one, by how libraries name such options."""
        mine: Mapping[str, Any] = core.get("options", {})
        theirs = {key.removeprefix(OPTION): value for key, value in self.settings.items() if key.startswith(OPTION)}
        return [
            f"{OPTION}{key} is {value}, not {mine[key]}"
            for key, value in theirs.items()
            if key in mine
            and mine[key] != value
            and OF_A_SHAPE.search(key)
            and not OF_TRAINING.search(key)
            and resolved.sources.get(f"{OPTION}{key}") != "command"
        ]

    def put_into(self, model: nn.Module, spec: RunSpec, info: Mapping[str, Any] | None = None) -> str:
        """Start a model from the weights. What predicts other targets than theirs keeps its new numbers; of the same in
        another order, or in other letters, each takes its own.

        Args:
            info: Of the data that it is to be trained on; None where it is to predict what they did.

        Returns:
            What was done, for the reader.

        Raises:
            UserError: They do not fit.
        """
        targets = plugins.task_entry(spec.task).targets
        theirs, ours = ({key: each[key] for key in targets if key in each} for each in (self.info, info or {}))
        alike = self.family.task == spec.task
        order = _order(theirs, ours) if alike and info is not None and theirs != ours else None
        same = info is None or (alike and (theirs == ours or order is not None))
        table = self.family.table(spec)
        placed = from_published(
            model, self.published.tensors, table, same_targets=same, order=order, source=self.source
        )
        model.load_state_dict(placed.tensors)
        told = [f"weights: {self.source} ({self.family.name})"]
        for what, names in (("new", placed.new), ("left out", placed.left_out)):
            if modules := _outermost(names):
                told.append(f"{what}: {listing(modules, 8)}")
        if alike and not same and placed.replaced:
            named = [f"theirs: {key} {listing(each, 8)}" for key, each in theirs.items() if _are_names(each)]
            told += named or ["what their head predicts has no names"]
        return "; ".join(told)


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """Over names, kinds, shapes and numbers, whatever file they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def place_of(source: str | Path, model: str) -> Path:
    """Where weights lie that a command names.

    Args:
        source: A name among the model's weights, ``hf:OWNER/NAME@REVISION``, or a path.

    Raises:
        UserError: They cannot be fetched.
    """
    if isinstance(source, str):
        known: Mapping[str, WeightsSpec] = registry.open_registry().find("models", model).weights
        if source in known or source.startswith(HUB):
            return locate(known.get(source) or parse_address(source)).absolute()
        if known and not user_path(source).exists():
            near = did_you_mean(source.lower(), known)
            raise UserError(
                f"there is no file or folder '{source}', and no weights of '{model}' of that name{near}\n"
                f"its names are {listing(sorted(known), 8)}; or name a run, a file, a folder or {HUB}OWNER/NAME"
            )
    return user_path(source).absolute()  # not resolved: the Hub's cache links names to files that have none


def open_start(place: Path, task: str) -> Start:
    """The weights of a run folder, or of a file or folder of published ones, perhaps with adapters of PEFT's.

    Raises:
        UserError: There are none, no family of theirs is known, or they are of another kind of model.
    """
    if (place / "spec.yaml").is_file():
        start = _of_run(Run(place), task)
        if not registry.read_alike(start.family.task, task):
            raise UserError(_of_another_task(str(place), [start.family], task))
        return start
    published = read_adapted(place) if has_adapters(place) else read_published(place)
    families, broken = plugins.families()
    network = plugins.task_entry(task).network  # whose tensors are another library's, by its own names
    families = [each for each in families if plugins.task_entry(each.task).network == network]
    found = [family for family in families if family.recognises(published)]
    if not found:
        raise UserError(_of_no_family(published, families) + "".join(f"\n{each}" for each in broken))
    fitting = [family for family in found if registry.read_alike(family.task, task)]
    if not fitting:
        raise UserError(_of_another_task(str(place), found, task))
    own = next((family for family in fitting if family.task == task), fitting[0])
    return Start(str(place), own, published)


def load(name_or_run: str | Path | Run, weights: str | Path | None = None) -> Model:
    """A model, in evaluation mode, on the CPU: a trained one, from a run folder, or one of the registry, as the
    catalogue has it without a recipe.

    Args:
        weights: What the latter begins with, as `zoo.train` takes it, its head included; random numbers when None.

    Raises:
        UserError: There is neither such a model nor such a run, or the weights are not there or do not fit.
    """
    run = name_or_run if isinstance(name_or_run, Run) else Run(user_path(name_or_run))
    if isinstance(name_or_run, Run) or (run.folder / "spec.yaml").is_file():
        if weights is not None:
            raise UserError(f"the run '{run.folder}' has weights of its own\nleave weights out, or name a model")
        return run.load_model()
    name = str(name_or_run)
    resolved = registry.open_registry().own(name)
    start = None if weights is None else open_start(place_of(weights, name), resolved.spec.task)
    if start is not None:
        resolved = start.decide(resolved)
    model = plugins.task_class(resolved.spec.task).build(resolved.spec)
    if start is not None:
        start.put_into(model, resolved.spec)
    return model.eval()


def start_of(spec: RunSpec) -> Start | None:
    """What a run began with.

    Raises:
        UserError: It is not there any more, or something else.
    """
    if spec.weights is None:
        return None
    source = spec.weights.source

    def opened() -> tuple[Start, StartSpec]:
        start = open_start(Path(source), spec.task)
        return start, start.stamp

    return reopened(opened, spec.weights, f"the weights '{source}'", spec, "--weights")


Opened = TypeVar("Opened")


def reopened(
    open_it: Callable[[], tuple[Opened, StartSpec]], began: StartSpec, what: str, spec: RunSpec, option: str
) -> Opened:
    """What a run began with, once more.

    Args:
        open_it: Gives it, and its stamp as it is now.
        option: Of `zoo train`, by which it was named.

    Raises:
        UserError: It is not there any more, or something else.
    """
    try:
        found, now = open_it()
    except UserError as error:
        why = str(error).partition("\n")[0]
        raise UserError(
            f"the run began with {what}, and that is not there any more: {why}\n"
            f"put it back, or say where it lies: zoo train {spec.model} --resume {option} PLACE --out RUN"
        ) from error
    if now.sha256 != began.sha256:
        raise UserError(f"{what} changed after the run began\nput it back, or train anew")
    return found


def _of_no_family(published: Published, families: Sequence[Family]) -> str:
    place, known = published.place, ", ".join(dict.fromkeys(family.name for family in families))
    run = next((folder for folder in place.parents[:3] if (folder / "spec.yaml").is_file()), None)
    if run is not None:
        return f"'{place}' is a part of the run '{run}'\nname the run's folder"
    kind = published.config.get("model_type") or published.config.get("architecture")
    what = f"are of '{kind}', which is none of the families known" if kind else "are of no family that is known"
    remedy = "name others" if kind else "put the config.json that was published with them beside them, or name others"
    return f"the weights '{place}' {what} ({known}): they hold {listing(list(published.tensors), 3)}\n{remedy}"


def _of_another_task(place: str, families: Sequence[Family], task: str) -> str:
    names = ", ".join(dict.fromkeys(family.name for family in families))
    tasks = " or ".join(dict.fromkeys(family.task for family in families))
    return f"the weights '{place}' ({names}) are for {tasks}, not for {task}\nname others, or a model of that task"


def _outermost(names: Sequence[str]) -> list[str]:
    """The modules that tensors are of, without those within others of them."""
    modules = dict.fromkeys(name.rpartition(".")[0] or name for name in names)
    return [each for each in modules if not any(each.startswith(f"{other}.") for other in modules)]


def _order(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[int] | None:
    """Which of their targets each of ours is, where only their order or their capitals differ; None where more does."""
    if theirs.keys() != ours.keys():
        return None
    order = None
    for key in (key for key in ours if theirs[key] != ours[key]):
        if order is not None or not (_are_names(theirs[key]) and _are_names(ours[key])):
            return None
        places = {each.casefold(): i for i, each in enumerate(theirs[key])}
        wanted = [each.casefold() for each in ours[key]]
        if len(places) != len(theirs[key]) or sorted(wanted) != sorted(places):
            return None
        order = [places[each] for each in wanted]
    return order


def _are_names(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(each, str) for each in values)


# ---------------------------------------------------------------- a run's own weights


@dataclass(frozen=True)
class _OfRun:
    """A run as a family of its own: every tensor has our name already.

    Args:
        rooms: Whose values it decides.
    """

    run: Run
    kept: Mapping[str, Any]
    rooms: Sequence[str]
    name: str = "run"

    @property
    def task(self) -> str:
        return self.run.spec.task

    def recognises(self, published: Published) -> bool:
        return published.place == self.run.folder

    def settings(self, published: Published) -> Mapping[str, Any]:
        spec = self.run.spec.model_dump(mode="json")
        values = {f"{room}.{key}": value for room in self.rooms for key, value in spec[room].items()}
        values |= {f"core.options.{key}": value for key, value in values.pop("core.options", {}).items()}
        return {key: value for key, value in values.items() if not key.endswith(("dropout", "drop_path"))}

    def info(self, published: Published) -> Mapping[str, Any]:
        return self.kept

    def table(self, spec: RunSpec) -> Table:
        return Table((Row("embed", "embed"), Row("core", "core"), Row("head", "head", predicts=True)))


def _of_run(run: Run, task: str) -> Start:
    checkpoint = run.checkpoint()
    tensors = run.load_model(checkpoint).state_dict()
    rooms = ("core", "embed", *(("head",) if run.spec.task == task else ()))
    family = _OfRun(run, checkpoint.metadata()["info"], rooms)
    return Start(str(run.folder), family, Published(run.folder, tensors, {}))
