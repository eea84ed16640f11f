"""Masked frames: stretches of a recording are silenced, and told from the rest. What is learnt from sound alone.

What is told is after Liu et al. 2020 (Mockingjay), arXiv:1910.12638: log-mel frames, by their absolute error; or after
Hsu et al. 2021 (HuBERT), arXiv:2106.07447: which cluster of sounds each token is of, see `clusters`. Which are hidden
is drawn anew in every epoch, and fixed for evaluation.
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
from zoo_speech.clusters import Clusters, learn
from zoo_speech.data import Entry, make_source, to_hear
from zoo_speech.model import HiddenHead, SpeechEmbed
from zoo_speech.places import is_bare, load_place
from zoo_speech.spec import EmbedSpec, masked_rooms, told_values

TOO_SHORT = "the recording is too short to be told from itself: it has less than two tokens (lower embed.hop_ms)"


class Frames:
    """What is to be told of a hidden token: its log-mel frames."""

    def loss(self, output: Output) -> tuple[Tensor, int]:
        """Absolute error of the hidden frames."""
        return (output.logits - output.further["frames"]).abs().sum(), output.logits.numel()

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """What of each recording was drawn wrong; nothing is what is wanted."""
        errors = (output.logits - output.further["frames"]).detach().abs().mean(1).cpu()
        parts = errors.split([facts["count"] for facts in batch.columns])
        return [Record(item, float(part.mean()), 0.0) for item, part in zip(batch.ids, parts, strict=True)]

    def measure(self, records: Sequence[Record]) -> Measures:
        """Of a hidden value, in deviations of its recording."""
        return reconstruction(records)

    def describe(self, record: Record) -> Mapping[str, Any]:
        return {"reconstruction_error": record.prediction}


class MaskedFrames:
    """Args:
    info: `clusters`, the arguments of `Clusters`, where these are told.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, head, self.masking = masked_rooms(spec)
        self.told = Clusters(self.embed, **info["clusters"]) if head.target == "clusters" else Frames()

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, head, _ = masked_rooms(spec)
        source = _long_enough(open_source(spec.data, load_recordings, "the path of a folder of recordings"), embed)
        train, validation, test, notes = split(source, spec.data)
        if len(train) and not isinstance(train[0].inputs, Path | audio.Sound | tuple):
            raise UserError(f"'{spec.data.name}' holds no recordings\nname a dataset or a folder that does")
        known = dict(info or {})
        if head.target == "clusters" and "clusters" not in known:
            first = build_embed(spec, embed)
            assert isinstance(first, SpeechEmbed), "frames are of a spectrogram"
            known["clusters"] = learn(train, first, embed, head.num_clusters)
        return Splits(train, validation, test, info=known, notes=notes)

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
        (embed, head, _), core = masked_rooms(spec), spec.core
        last = HiddenHead(core.dim, told_values(embed, head))
        return Model(build_embed(spec, embed), Transformer(**core.model_dump()), last)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        return self.told.loss(output)

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        return self.told.decode(output, batch)

    def measure(self, records: Sequence[Record]) -> Measures:
        return self.told.measure(records)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return self.told.describe(record)


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
