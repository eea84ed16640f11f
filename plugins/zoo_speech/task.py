"""Speech to text: what is said in a recording. The walk from a dataset's items to records.

Connectionist temporal classification: Graves et al. 2006.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.contract import Batch, Dataset, Finding, Item, Measures, Record, Source, Splits
from zoo.core import Layout, Model, Output, Transformer
from zoo.core.pack import to_padded
from zoo.data.folder import count_files
from zoo.data.sources import open_source
from zoo.data.splits import Subset, split
from zoo.data.table import SUFFIXES as TABLES
from zoo.errors import UserError
from zoo.metrics import transcripts
from zoo.specs import DataSpec, RunSpec
from zoo_speech import audio
from zoo_speech.audio import Samples
from zoo_speech.check import check
from zoo_speech.data import PLACES, load_place, num_listed, to_hear
from zoo_speech.decode import best_path
from zoo_speech.model import SpeechEmbed, SymbolHead
from zoo_speech.spec import rooms
from zoo_speech.writing import BLANK, Alphabet, by_rule, learn_alphabet, least_tokens


class SpeechToText:
    """Args:
    info: `alphabet`, the characters in the order of their symbols.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, self.head, self.augment = rooms(spec)
        self.alphabet = Alphabet(info["alphabet"])

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        _, head, _ = rooms(spec)
        train, validation, test, notes = split(read_source(spec.data), spec.data)
        if info is None:
            info = {"alphabet": learn_alphabet([by_rule(each, head) for each in _texts(train)])}
            if not info["alphabet"]:
                raise UserError(f"no transcription of '{spec.data.name}' has a letter\nadd transcriptions")
        settings = {"head.num_symbols": len(Alphabet(info["alphabet"]))}
        return Splits(train, validation, test, info, settings, notes)

    @staticmethod
    def check(spec: RunSpec) -> Sequence[Finding]:
        embed, head, _ = rooms(spec)
        try:
            source = read_source(spec.data)
        except UserError as error:
            return [Finding("unreadable", str(error))]
        return check(source, embed, head)

    @staticmethod
    def num_readable(place: Path) -> int:
        return num_listed(place) if place.suffix.lower() in TABLES else count_files(place, audio.SUFFIXES)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return to_hear(sources)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        samples = audio.load(item.inputs, self.embed.sample_rate_hz)
        sample: dict[str, Any] = {"samples": samples, "text": None, "symbols": []}
        if item.target is not None:
            sample["text"] = by_rule(item.target, self.head)
            sample["symbols"] = self._spelt(sample["text"], self.embed.num_tokens(len(samples)))
        if rng is not None:
            changed = self._augmented(samples, rng)
            if least_tokens(sample["symbols"]) <= self.embed.num_tokens(len(changed)):
                sample["samples"] = changed  # else too fast to be spelt
        if rng is not None and (self.augment.num_time_masks or self.augment.num_band_masks):
            sample["time_masks"] = _draw_masks(rng, self.augment.num_time_masks, self.augment.time_mask_fraction)
            sample["band_masks"] = _draw_masks(rng, self.augment.num_band_masks, self.augment.band_mask_fraction)
        return sample

    def _spelt(self, text: str, num_tokens: int) -> list[int]:
        if not text:
            raise UserError("the transcription is empty")
        symbols = self.alphabet.spell(text)
        if (needed := least_tokens(symbols)) > num_tokens:
            raise UserError(
                f"the transcription is too long for its recording: it needs {needed} tokens, which has {num_tokens}"
            )
        return symbols

    def _augmented(self, samples: Samples, rng: np.random.Generator) -> Samples:
        if self.augment.speeds:
            factor = float(rng.choice(self.augment.speeds))
            if factor != 1:
                samples = audio.at_rate(samples, round(1000 * factor), 1000)
        if self.augment.noise_db is not None:
            level = float(np.sqrt(np.mean(samples**2))) * 10 ** (-(self.augment.noise_db + rng.exponential(10)) / 20)
            samples = samples + rng.normal(0, max(level, 1e-12), len(samples)).astype(np.float32)
        return samples

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        num_samples = [len(sample["samples"]) for sample in samples]
        lengths = [self.embed.num_tokens(each) for each in num_samples]
        padded = torch.zeros(len(samples), max(num_samples))
        for row, sample in zip(padded, samples, strict=True):
            row[: len(sample["samples"])] = torch.from_numpy(sample["samples"])
        inputs: dict[str, Any] = {
            "samples": padded,
            "num_samples": torch.tensor(num_samples),
            "layout": Layout.from_lengths(lengths),
            "num_tokens": sum(lengths),
        }
        for kind in ("time_masks", "band_masks"):
            if kind in samples[0]:
                inputs[kind] = torch.from_numpy(np.stack([sample[kind] for sample in samples]))
        texts = [sample["text"] for sample in samples]
        known = None if None in texts else {**_symbols([sample["symbols"] for sample in samples]), "texts": texts}
        return Batch(inputs, known, tuple(ids), num_tokens=(sum(lengths), len(lengths) * max(lengths)))

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _), core = rooms(spec), spec.core
        first = SpeechEmbed(
            core.dim,
            sample_rate_hz=embed.sample_rate_hz,
            num_mels=embed.num_mels,
            window=embed.window,
            hop=embed.hop,
            num_stacked=embed.num_stacked if embed.subsampling == "stack" else 0,
            conv_width=embed.conv_width,
            position=embed.position,
            dropout=embed.dropout,
        )
        return Model(first, Transformer(**core.model_dump()), SymbolHead(core.dim, head.num_symbols))

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """-log p of each transcription, over all its alignments; counted by characters."""
        lengths = output.layout.lengths
        assert lengths is not None
        scores = to_padded(output.logits.log_softmax(-1), output.layout).transpose(0, 1)
        symbols, counts = batch.targets["symbols"], batch.targets["counts"]
        total = F.ctc_loss(scores, symbols, lengths.long(), counts, blank=BLANK, reduction="sum")
        return total, len(symbols)

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        assert output.layout.lengths is not None
        lengths = output.layout.lengths.tolist()
        seconds = (batch.inputs["num_samples"] / self.embed.sample_rate_hz).tolist()
        targets = [None] * len(batch.ids) if batch.targets is None else batch.targets["texts"]
        found = best_path(output.logits.detach(), lengths)
        return [
            Record(
                id=name,
                prediction=self.alphabet.write(symbols),
                target=target,
                columns={"seconds": duration},
            )
            for name, symbols, target, duration in zip(batch.ids, found, targets, seconds, strict=True)
        ]

    def measure(self, records: Sequence[Record]) -> Measures:
        return transcripts(records)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return {"text": record.prediction, "seconds": round(record.columns["seconds"], 3)}


def read_source(data: DataSpec) -> Source:
    """A dataset by name, or a folder or list of recordings by path.

    Raises:
        UserError: It is neither, or cannot be read.
    """
    return open_source(data, load_place, PLACES)


def _texts(part: Subset) -> list[str]:
    return [each for each in part.targets if each is not None]


def _draw_masks(rng: np.random.Generator, count: int, longest: float) -> np.ndarray:
    """Where masked stretches begin and end, as shares, (count, 2)."""
    width = rng.uniform(0, longest, count)
    begin = rng.uniform(0, 1 - width)
    return np.stack([begin, begin + width], -1).astype(np.float32)


def _symbols(symbols: Sequence[Sequence[int]]) -> dict[str, Any]:
    return {
        "symbols": torch.tensor([each for spelt in symbols for each in spelt], dtype=torch.long),
        "counts": torch.tensor([len(spelt) for spelt in symbols]),
    }
