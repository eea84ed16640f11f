"""Four numbers in, the larger half out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.contract import Batch, Dataset, Item, Measures, Record, Source, Splits
from zoo.core import DENSE, Layout, Model, Output, Stream, Transformer
from zoo.errors import UserError
from zoo.metrics import classification
from zoo.specs import DataSpec, RunSpec


class Numbers:
    lengths = None

    def __init__(self, name: str, size: int, seed: int, shift: float = 0.0) -> None:
        self.values = np.random.default_rng(seed).normal(shift, size=(size, 4)).astype(np.float32)
        self.ids = [f"{name}/{i}" for i in range(size)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        row = self.values[index]
        return Item(self.ids[index], row, int(row[:2].sum() > row[2:].sum()))

    def fingerprint(self, index: int) -> str:
        return self.values[index].tobytes().hex()


class Files:
    """Text files of four numbers; an item is read when it is transformed."""

    lengths = None

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        return Item(self.ids[index], Path(self.ids[index]))

    def fingerprint(self, index: int) -> str:
        return Path(self.ids[index]).read_text()


def load(data: DataSpec) -> Source:
    return Source({"train": Numbers("train", 90, 0), "test": Numbers("test", 100, 1)}, {"classes": ["no", "yes"]})


class Embed(nn.Module):
    num_prefix = 0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, dim)
        self.position = nn.Parameter(torch.randn(4, dim))

    def forward(self, numbers: Tensor) -> Stream:
        return Stream(self.linear(numbers[..., None]) + self.position, DENSE)


class Head(nn.Module):
    readout = None

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.linear(x.mean(1))


class Sums:
    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.spec, self.classes = spec, info["classes"]

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        test = load(spec.data).splits["test"]
        return Splits(Numbers("train", 90, 0), Numbers("validation", 20, 2), test, {"classes": ["no", "yes"]})

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return Files(sources)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        if isinstance(item.inputs, Path):
            return {"numbers": np.array(item.inputs.read_text().split(), np.float32), "target": None}
        if item.id == self.spec.augment["broken_id"]:
            raise UserError(f"'{item.id}' is broken")
        noise = 0.0 if rng is None else rng.normal(scale=self.spec.augment["noise"], size=4)
        bad = np.inf if rng is not None and item.id == self.spec.augment["poison_id"] else 1.0
        return {"numbers": ((item.inputs + noise) * bad).astype(np.float32), "target": item.target}

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        numbers = torch.from_numpy(np.stack([sample["numbers"] for sample in samples]))
        targets = [sample["target"] for sample in samples]
        return Batch({"numbers": numbers}, None if None in targets else torch.tensor(targets), tuple(ids))

    @staticmethod
    def build(spec: RunSpec) -> Model:
        core = spec.core
        return Model(Embed(core.dim), Transformer(**core.model_dump()), Head(core.dim))

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        return F.cross_entropy(output.logits, batch.targets, reduction="sum"), len(batch.ids)

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        scores = output.logits.softmax(-1).numpy()
        targets = [None] * len(batch.ids) if batch.targets is None else batch.targets.tolist()
        return [
            Record(each, int(score.argmax()), target, score)
            for each, score, target in zip(batch.ids, scores, targets, strict=True)
        ]

    def measure(self, records: Sequence[Record]) -> Measures:
        return classification(records, self.classes)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        assert record.scores is not None
        return {"label": self.classes[record.prediction], "probability": float(record.scores.max())}

    def draw(self, axes: Any, item: Item, relevance: np.ndarray) -> None:
        axes.bar(range(len(relevance)), relevance)
