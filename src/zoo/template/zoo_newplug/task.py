"""The task: from items to batches, from a model's output to a loss and to records, from records to figures."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from zoo import plugins
from zoo.contract import Batch, Item, Measures, Record, Splits
from zoo.core import Layout, Model, Output, Transformer
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.metrics import class_records, classification, likeliest
from zoo.specs import RunSpec

from zoo_newplug.data import Sequences
from zoo_newplug.model import MeanHead, SymbolEmbed
from zoo_newplug.spec import AugmentSpec, EmbedSpec, HeadSpec


class MostFrequent:
    """Which symbol of a sequence is the most frequent."""

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed = EmbedSpec.model_validate(spec.embed)
        self.augment = AugmentSpec.model_validate(spec.augment)
        self.label_smoothing = spec.train.label_smoothing
        self.classes: Sequence[str] = info["classes"]

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        source = plugins.dataset_loader(spec.data.name)(spec.data)
        classes = source.info["classes"]
        if info is not None and info["classes"] != classes:
            raise UserError(f"'{spec.data.name}' has the classes {classes}, but the model knows {info['classes']}")
        # What the source has no split for is taken out of train, by a hash of each item.
        train, validation, test, notes = split(source, spec.data)
        settings = {"embed.num_symbols": len(classes), "head.num_classes": len(classes)}
        return Splits(train, validation, test, {"classes": classes}, settings, notes)

    def inputs(self, sources: Sequence[str]) -> Sequences:
        return Sequences(list(sources), [None] * len(sources), ids=list(sources))

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        known = ascii_lowercase[: self.embed.num_symbols]
        if not item.inputs or set(item.inputs) - set(known):
            raise UserError(f"'{item.inputs}' is no sequence of the letters {known[0]} to {known[-1]}")
        symbols = np.array([known.index(letter) for letter in item.inputs])
        if rng is not None and self.augment.shuffle:
            symbols = rng.permutation(symbols)
        return {"symbols": symbols, "target": item.target}

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        lengths = [len(sample["symbols"]) for sample in samples]
        symbols = torch.from_numpy(np.concatenate([sample["symbols"] for sample in samples]))
        inputs = {"symbols": symbols, "layout": Layout.from_lengths(lengths)}
        targets = [sample["target"] for sample in samples]
        known = None if None in targets else torch.tensor(targets)
        return Batch(inputs, known, tuple(ids), num_tokens=(sum(lengths), len(lengths) * max(lengths)))

    @staticmethod
    def build(spec: RunSpec) -> Model:
        embed, head, dim = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head), spec.core.dim
        return Model(
            SymbolEmbed(dim, embed.num_symbols),
            Transformer(**spec.core.model_dump()),
            MeanHead(dim, head.num_classes),
        )

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        smoothing = self.label_smoothing
        return cross_entropy(output.logits, batch.targets, reduction="sum", label_smoothing=smoothing), len(batch.ids)

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        targets = None if batch.targets is None else batch.targets.tolist()
        return class_records(batch.ids, output.logits.detach().softmax(-1).cpu().numpy(), targets)

    def measure(self, records: Sequence[Record]) -> Measures:
        return classification(records, self.classes)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        assert record.scores is not None
        return likeliest(record.scores, self.classes, top_k)
