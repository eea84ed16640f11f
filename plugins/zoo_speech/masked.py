"""Masked frames: stretches of a recording are silenced, and told from the rest. What is learnt from sound alone.

After Liu et al. 2020 (Mockingjay), arXiv:1910.12638: log-mel frames of hidden stretches, by their absolute error. Which
are hidden is drawn anew in every epoch, and fixed for evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contract import Batch, Dataset, Item, Measures, Record, Source, Splits
from zoo.core import Model, Output, Transformer
from zoo.data.folder import files_by_split
from zoo.data.seeding import item_rng
from zoo.data.sources import open_source
from zoo.data.splits import Subset, split
from zoo.errors import UserError
from zoo.files import user_path
from zoo.metrics import reconstruction
from zoo.specs import DataSpec, RunSpec
from zoo_speech import audio
from zoo_speech.augment import altered
from zoo_speech.building import as_inputs, build_embed
from zoo_speech.data import Entry, make_source, to_hear
from zoo_speech.model import FrameHead
from zoo_speech.places import is_bare, load_place
from zoo_speech.spec import EmbedSpec, masked_rooms

TOO_SHORT = "the recording is too short to be told from itself: it has less than two tokens (lower embed.hop_ms)"


class MaskedFrames:
    """Nothing is learnt from the data but the model."""

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, self.masking = masked_rooms(spec)

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, _ = masked_rooms(spec)
        source = _long_enough(open_source(spec.data, load_recordings, "the path of a folder of recordings"), embed)
        train, validation, test, notes = split(source, spec.data)
        if len(train) and not isinstance(train[0].inputs, Path | audio.Sound | tuple):
            raise UserError(f"'{spec.data.name}' holds no recordings\nname a dataset or a folder that does")
        return Splits(train, validation, test, notes=notes)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return to_hear(sources)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        samples = audio.load(item.inputs, self.embed.sample_rate_hz)
        if rng is not None:
            samples = altered(samples, self.masking.altering, rng)
        num_tokens = self.embed.num_tokens(len(samples))
        if num_tokens < 2:
            raise UserError(TOO_SHORT)
        return {"samples": samples, "hidden": self._drawn(num_tokens, rng or item_rng(0, 0, item.id))}

    def _drawn(self, num_tokens: int, rng: np.random.Generator) -> np.ndarray:
        """Stretches of tokens until the share is hidden; one token at least stays."""
        wanted = min(num_tokens - 1, max(1, round(self.masking.share * num_tokens)))
        hidden = np.zeros(num_tokens, bool)
        while (left := wanted - int(hidden.sum())) > 0:
            begin = int(rng.integers(num_tokens))
            hidden[begin : begin + min(left, self.masking.stretch)] = True
        return np.flatnonzero(hidden)

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        inputs = as_inputs([sample["samples"] for sample in samples], self.embed)
        lengths = [self.embed.num_tokens(len(sample["samples"])) for sample in samples]
        starts = accumulate(lengths, initial=0)
        hidden = [sample["hidden"] + start for sample, start in zip(samples, starts, strict=False)]
        inputs["hidden"] = torch.from_numpy(np.concatenate(hidden))
        columns = [{"count": len(each)} for each in hidden]
        return Batch(
            inputs,
            inputs["hidden"],
            tuple(ids),
            num_tokens=(sum(lengths), len(lengths) * max(lengths)),
            columns=columns,
        )

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, _), core = masked_rooms(spec), spec.core
        first = build_embed(spec, embed)
        return Model(
            first, Transformer(**core.model_dump()), FrameHead(core.dim, embed.num_mels * embed.frames_per_token)
        )

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """Absolute error of the hidden frames."""
        return (output.logits - output.further["frames"]).abs().sum(), output.logits.numel()

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """What of each recording was drawn wrong; nothing is what is wanted."""
        errors = (output.logits - output.further["frames"]).detach().abs().mean(1).cpu()
        parts = errors.split([facts["count"] for facts in batch.columns])
        return [Record(item, float(part.mean()), 0.0) for item, part in zip(batch.ids, parts, strict=True)]

    def measure(self, records: Sequence[Record]) -> Measures:
        """Of a hidden value, in deviations of its recording."""
        return reconstruction(records)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return {"reconstruction_error": record.prediction}


def _long_enough(source: Source, embed: EmbedSpec) -> Source:
    """The source without recordings of a single token; these are problems of it."""
    splits: dict[str, Dataset] = {}
    problems = dict(source.problems)
    for name, dataset in source.splits.items():
        samples = [round(seconds * embed.sample_rate_hz) for seconds in dataset.lengths or ()]
        short = {i for i, count in enumerate(samples) if embed.num_tokens(count) < 2}
        problems |= {dataset.ids[i]: TOO_SHORT for i in short}
        splits[name] = Subset(dataset, [i for i in range(len(dataset)) if i not in short]) if short else dataset
    return replace(source, splits=splits, problems=problems)


def load_recordings(data: DataSpec) -> Source:
    """As speech to text has them, where there is a list or a known layout; else every recording below a folder, by its
    splits.

    Raises:
        UserError: There is none.
    """
    if not is_bare(user_path(data.name)):
        return load_place(data)
    found = files_by_split(user_path(data.name), audio.SUFFIXES)
    entries = {split: [Entry(name, path, None) for name, path in paths.items()] for split, paths in found.items()}
    return make_source(entries, data)
