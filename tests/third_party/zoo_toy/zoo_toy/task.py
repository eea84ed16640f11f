"""Sequence tagging: the loss is a mean over tokens, a record is a whole sequence."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from zoo import plugins
from zoo.contract import Batch, Item, Measures, Record, Splits, Table
from zoo.core import Layout, Model, Output, Transformer
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.specs import RunSpec

from zoo_toy.data import Sequences
from zoo_toy.model import SymbolEmbed, TagHead
from zoo_toy.spec import AugmentSpec, EmbedSpec, HeadSpec


class SequenceTagging:
    """A tag for each symbol of a sequence."""

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed = EmbedSpec.model_validate(spec.embed)
        self.augment = AugmentSpec.model_validate(spec.augment)
        self.tags: Sequence[str] = info["tags"]

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        source = plugins.dataset_loader(spec.data.name)(spec.data)
        train, validation, test, notes = split(source, spec.data)
        tags = source.info["tags"]
        return Splits(train, validation, test, {"tags": tags}, {"head.num_tags": len(tags)}, notes)

    def inputs(self, sources: Sequence[str]) -> Sequences:
        return Sequences(sources, tagged=False)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        known = ascii_lowercase[: self.embed.num_symbols]
        if not item.inputs or set(item.inputs) - set(known):
            raise UserError(f"'{item.inputs}' is no sequence of the letters {known[0]} to {known[-1]}")
        symbols = np.array([known.index(letter) for letter in item.inputs])
        tags = None if item.target is None else np.array(item.target)
        if rng is not None and tags is not None and self.augment.shuffle:
            order = rng.permutation(len(symbols))
            symbols, tags = symbols[order], tags[order]
        return {"symbols": symbols, "tags": tags}

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        lengths = [len(sample["symbols"]) for sample in samples]
        symbols = torch.from_numpy(np.concatenate([sample["symbols"] for sample in samples]))
        inputs = {"symbols": symbols, "layout": Layout.from_lengths(lengths)}
        tags = [sample["tags"] for sample in samples]
        targets = None if any(each is None for each in tags) else torch.from_numpy(np.concatenate(tags))
        return Batch(inputs, targets, tuple(ids), num_tokens=(sum(lengths), len(lengths) * max(lengths)))

    @staticmethod
    def build(spec: RunSpec) -> Model:
        embed, head, dim = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head), spec.core.dim
        return Model(
            SymbolEmbed(dim, embed.num_symbols),
            Transformer(**spec.core.model_dump()),
            TagHead(dim, head.num_tags),
        )

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        return cross_entropy(output.logits.float(), batch.targets, reduction="sum"), len(batch.targets)

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        assert output.layout.lengths is not None
        lengths = output.layout.lengths.tolist()
        predicted = [each.tolist() for each in output.logits.argmax(-1).cpu().split(lengths)]
        targets = [None] * len(lengths)
        if batch.targets is not None:
            targets = [each.tolist() for each in batch.targets.cpu().split(lengths)]
        return [
            Record(id=each, prediction=tags, target=target, columns={"length": len(tags)})
            for each, tags, target in zip(batch.ids, predicted, targets, strict=True)
        ]

    def measure(self, records: Sequence[Record]) -> Measures:
        right = np.array([sum(p == t for p, t in zip(r.prediction, r.target, strict=True)) for r in records])
        lengths = np.array([len(record.prediction) for record in records])
        return Measures(
            primary="accuracy",
            statistics={
                "accuracy": lambda weights: float(weights @ right / (weights @ lengths)),
                "sequence_accuracy": lambda weights: float(weights @ (right == lengths) / weights.sum()),
            },
            tables={"tags": Table(("tag", "tokens"), self._counts(records))},
        )

    def _counts(self, records: Sequence[Record]) -> list[tuple[str, int]]:
        counts = np.bincount([tag for record in records for tag in record.target], minlength=len(self.tags))
        return list(zip(self.tags, counts.tolist(), strict=True))

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return {"tags": " ".join(self.tags[tag] for tag in record.prediction)}
