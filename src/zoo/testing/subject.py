"""What a task is checked on: its smallest model and the first items of that model's data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch

from zoo import plugins, registry
from zoo.contract import Batch, Dataset, Splits, Task
from zoo.core import Model
from zoo.cost import core_parameters
from zoo.specs import RunSpec

NUM_ITEMS = 8
SETTINGS = {"train.device": "cpu", "train.precision": "fp32", "train.label_smoothing": 0.0}


@dataclass(frozen=True)
class Subject:
    """A task with its smallest model and that model's data."""

    name: str

    @cached_property
    def model_name(self) -> str:
        if (example := self._example) is not None:
            return example
        known = registry.open_registry()
        trained = {key.partition("/")[0] for key, recipe in known.recipes.items() if recipe.task == self.name}
        models = {name: each for name, each in known.models.items() if each.task == self.name or name in trained}
        assert models, f"no registry.yaml has a model of task '{self.name}', or a recipe for it"
        return min(models, key=lambda name: core_parameters(models[name].core))

    @cached_property
    def _example(self) -> str | None:
        """The model that a bridge names for its task."""
        named = (
            f"{each.bridge.prefix}/{each.bridge.examples[self.name]}"
            for each in plugins.bridges()
            if self.name in each.bridge.examples
        )
        return next(named, None)

    @cached_property
    def data(self) -> str | None:
        """Of a bridge's task, what a model of the task that it is like is trained on; else the model's own."""
        like = plugins.task_entry(self.name).like
        return registry.open_registry().default_data(subject_of(like).model_name) if like else None

    @cached_property
    def _settled(self) -> tuple[Splits, RunSpec]:
        asked = registry.open_registry().resolve(self.model_name, data=self.data, task=self.name, settings=SETTINGS)
        splits = plugins.task_class(self.name).datasets(asked.spec)
        return splits, registry.settle(asked, splits.settings).spec

    @property
    def splits(self) -> Splits:
        return self._settled[0]

    @property
    def spec(self) -> RunSpec:
        return self._settled[1]

    @cached_property
    def task(self) -> Task:
        return plugins.task_class(self.name)(self.spec, self.splits.info)

    @cached_property
    def indices(self) -> range:
        return range(min(NUM_ITEMS, len(self.splits.train)))

    @cached_property
    def shortest(self) -> list[int]:
        """The shortest items, which are learnt fastest; the first ones where all are alike."""
        lengths = self.splits.train.lengths
        if lengths is None:
            return list(self.indices)
        return np.argsort(np.asarray(lengths), kind="stable")[: len(self.indices)].tolist()

    def model(self, *, awake: bool = True, seed: int = 0) -> Model:
        """A new model without dropout. `awake`: nothing is left at zero, where a wrong head would look right."""
        torch.manual_seed(seed)
        model = plugins.task_class(self.name).build(self.spec).eval()
        if awake:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        return model

    def batch(self, indices: Sequence[int], *, dataset: Dataset | None = None, targets: bool = True) -> Batch:
        """Of a dataset, that for training unless another is given."""
        source = self.splits.train if dataset is None else dataset
        items = [source[index] for index in indices]
        items = items if targets else [replace(item, target=None) for item in items]
        return self.task.collate([self.task.transform(item, None) for item in items], [item.id for item in items])


@cache
def _made(task: str, revision: object) -> Subject:
    return Subject(task)


def subject_of(task: str) -> Subject:
    """The subject of a task, its data read once."""
    return _made(task, plugins.revision())
