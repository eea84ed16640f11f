"""Text classification: which of the known classes a text belongs to. The walk from a dataset's items to records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.contract import Batch, Dataset, Finding, Item, Measures, Record, Source, Splits
from zoo.core import Layout, Model, Output, Transformer
from zoo.data.folder import count_files
from zoo.data.labels import in_order, require_trainable
from zoo.data.sources import open_source
from zoo.data.splits import Subset, split
from zoo.data.table import SUFFIXES as TABLES
from zoo.errors import UserError
from zoo.metrics import class_records, classification, label_records, likeliest, multi_label
from zoo.specs import DataSpec, RunSpec
from zoo_text import tokenizer as tokenizers
from zoo_text.building import build_embed, norms
from zoo_text.check import check, joined_labels
from zoo_text.data import PLACES, TEXT_SUFFIXES, Texts, load_place
from zoo_text.inputs import read_inputs
from zoo_text.model import TextHead
from zoo_text.spec import rooms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THRESHOLD = 0.5
"""Probability from which on a label is given, where a text may have several."""


class TextClassification:
    """Args:
    info: `classes`, names in the order of the scores; `multi_label`; `tokenizer`, as a tokenizer.json has it.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.spec = spec
        self.embed, self.head, self.augment = rooms(spec)
        self.classes: Sequence[str] = info["classes"]
        self.tokenizer = tokenizers.stored(info["tokenizer"], self.embed.max_tokens)
        self.mask = tokenizers.mask_id(self.tokenizer)
        if self.augment.mask and self.mask is None:
            raise UserError("augment.mask: the tokenizer has no mask token\nleave it out, or use augment.drop")

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, _, _ = rooms(spec)
        source = read_source(spec.data)
        known = dict(info or {})
        if "classes" in known:
            source = in_order(_of_kind(source, known["multi_label"], spec.data.name), known["classes"], spec.data.name)
        else:
            require_trainable(source, spec.data.name)
        *parts, notes = split(source, spec.data)
        if "classes" not in known and (joined := joined_labels(source)):
            notes.append(joined)
        if "tokenizer" not in known:
            known["tokenizer"] = tokenizers.make(embed, texts_of(parts[0])).to_str()
        info = {**source.info, **known}
        tokenizer = tokenizers.stored(info["tokenizer"], embed.max_tokens)
        for part in parts:
            part.lengths = tokenizers.lengths(tokenizer, texts_of(part), embed)
        settings = {
            "head.num_classes": len(info["classes"]),
            "head.multi_label": info["multi_label"],
            "embed.vocab_size": tokenizers.num_rows(tokenizer, embed.vocab_size if spec.weights else None),
        }
        return Splits(*parts, info=info, settings=settings, notes=notes)

    @staticmethod
    def check(spec: RunSpec) -> Sequence[Finding]:
        try:
            source = read_source(spec.data)
        except UserError as error:
            return [Finding("unreadable", str(error))]
        return check(source, rooms(spec)[0])

    @staticmethod
    def num_readable(place: Path) -> int:
        return count_files(place, (*TEXT_SUFFIXES, *TABLES))

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return read_inputs(sources, self.spec.data)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        encoded = self.tokenizer.encode(item.inputs)
        tokens = np.array(encoded.ids, dtype=np.int64)
        if rng is not None and (self.augment.drop or self.augment.mask):
            tokens = self._augmented(tokens, np.array(encoded.special_tokens_mask, dtype=bool), rng)
        if not len(tokens):
            raise UserError("the tokenizer makes nothing of the text")
        return {"tokens": tokenizers.filled_up(tokens, self.embed), "target": item.target}

    def _augmented(self, tokens: np.ndarray, special: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Some tokens left out, others masked; special ones and, of the rest, one at least stay."""
        chance = rng.random(len(tokens))
        tokens = np.where(~special & (rng.random(len(tokens)) < self.augment.mask), self.mask or 0, tokens)
        stays = special | (chance >= self.augment.drop)
        if not special.all():
            stays[np.where(special, -1.0, chance).argmax()] = True
        return tokens[stays]

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        lengths = [len(sample["tokens"]) for sample in samples]
        tokens = torch.from_numpy(np.concatenate([sample["tokens"] for sample in samples]))
        inputs = {"tokens": tokens, "layout": Layout.from_lengths(lengths)}
        labels = [sample["target"] for sample in samples]
        targets = None if None in labels else self._targets(labels)
        return Batch(inputs, targets, tuple(ids), num_tokens=(sum(lengths), len(lengths) * max(lengths)))

    def _targets(self, labels: Sequence[Any]) -> Tensor:
        """Class indices (b,), or, where texts may have several labels, zeros and ones (b, num_classes)."""
        if not self.head.multi_label:
            return torch.tensor(labels)
        targets = torch.zeros(len(labels), len(self.classes))
        for row, indices in zip(targets, labels, strict=True):
            row[list(indices)] = 1.0
        return targets

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _), core = rooms(spec), spec.core
        first = build_embed(spec, embed, hands_on=["tokens"] if head.pool == "eos" else [])
        last = TextHead(
            core.dim,
            head.num_classes,
            pool=head.pool,
            eos_token=head.eos_token,
            pooler=head.pooler,
            pooler_dim=head.pooler_dim,
            pooler_bias=head.pooler_bias,
            norm=norms(core)(head.pooler_dim or core.dim) if head.pooler and head.pooler_norm else None,
            dropout=head.dropout,
            classifier_bias=head.classifier_bias,
        )
        return Model(first, Transformer(**core.model_dump()), last)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy; binary, summed over classes, where texts may have several labels."""
        if self.head.multi_label:
            total = F.binary_cross_entropy_with_logits(output.logits, batch.targets, reduction="sum")
        else:
            smoothing = self.spec.train.label_smoothing
            total = F.cross_entropy(output.logits, batch.targets, reduction="sum", label_smoothing=smoothing)
        return total, len(batch.ids)

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        logits = output.logits.detach()
        if self.head.multi_label:
            return label_records(batch.ids, logits.sigmoid().cpu().numpy(), _sets(batch.targets), THRESHOLD)
        targets = None if batch.targets is None else batch.targets.tolist()
        return class_records(batch.ids, logits.softmax(-1).cpu().numpy(), targets)

    def measure(self, records: Sequence[Record]) -> Measures:
        return (multi_label if self.head.multi_label else classification)(records, self.classes)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        """The likeliest classes; first all labels given, where there may be several."""
        assert record.scores is not None
        said: dict[str, Any] = {}
        if self.head.multi_label:
            given: list[int] = record.prediction
            said["labels"] = (self.spec.data.label_separator or ", ").join(self.classes[i] for i in given)
        return said | likeliest(record.scores, self.classes, top_k)

    def draw(self, axes: "Axes", item: Item, relevance: np.ndarray) -> None:
        """The text, each piece shaded by its relevance; special tokens are left out."""
        from zoo_text.drawing import draw_text

        encoded = self.tokenizer.encode(item.inputs)
        shown = [i for i, special in enumerate(encoded.special_tokens_mask) if not special]
        draw_text(axes, item.inputs, [encoded.offsets[i] for i in shown], relevance[shown])


def _sets(targets: Tensor | None) -> list[list[int]] | None:
    """The classes of each text, from zeros and ones."""
    return None if targets is None else [row.nonzero().flatten().tolist() for row in targets.cpu()]


def read_source(data: DataSpec) -> Source:
    """A dataset by name, a table, a folder or a set of the Hub.

    Raises:
        UserError: It is none of them, or cannot be read.
    """
    return open_source(data, load_place, PLACES)


def texts_of(part: Subset) -> list[str]:
    """The texts of a split, without reading items one by one.

    Raises:
        UserError: It is of something else.
    """
    whole: Any = part.dataset
    while not isinstance(whole, Texts):  # what wraps it keeps the positions
        if not hasattr(whole, "dataset"):
            raise UserError(
                "the data holds no texts\nname a dataset of texts (run 'zoo data list'), a table or a folder"
            )
        whole = whole.dataset
    return [whole.texts[i] for i in part.indices]


def _of_kind(source: Source, several: bool, name: str) -> Source:
    """The source, where its texts have several labels just if the model gives several.

    Raises:
        UserError: They differ.
    """
    if source.info["multi_label"] == several:
        return source
    has, gives = ("several labels", "one") if not several else ("one label", "several")
    raise UserError(
        f"the texts of '{name}' have {has} each, but the model gives {gives}\n"
        "evaluate data of the kind that it was trained on"
    )
