"""Speech to text: what is said in a recording. The walk from a dataset's items to records.

Connectionist temporal classification: Graves et al. 2006.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.contract import Batch, Dataset, Finding, Item, Measures, Parts, Record, Source, Splits
from zoo.core import Layout, Model, Output, Transformer
from zoo.core.pack import to_padded
from zoo.data.folder import count_files
from zoo.data.sources import folder_of, open_source
from zoo.data.splits import Labelled, Subset, split
from zoo.data.table import SUFFIXES as TABLES
from zoo.errors import UserError
from zoo.metrics import transcripts
from zoo.specs import DataSpec, RunSpec
from zoo_speech import audio, writing
from zoo_speech.augment import altered, draw_masks, joined
from zoo_speech.building import as_inputs, build_embed
from zoo_speech.check import about_long, check
from zoo_speech.data import to_hear
from zoo_speech.decode import TRAIN, Scores, learn_language, make_search
from zoo_speech.model import SymbolHead
from zoo_speech.places import PLACES, load_place, num_listed
from zoo_speech.spec import HeadSpec, decoder_core, rooms
from zoo_speech.timing import Word, align, to_srt, to_vtt
from zoo_speech.windows import stitch, windowed
from zoo_speech.writing import PUBLISHED, by_rule, least_tokens, quoted, stored, unwritable, write


class SpeechToText:
    """Args:
    info: What is written with, as `writing.learn` has it, and perhaps a `language_model`, as an ARPA file has it.
    """

    formats: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
        ".srt": lambda row: to_srt(_words(row)),
        ".vtt": lambda row: to_vtt(_words(row)),
    }

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, self.head, self.augment, self.decoding = rooms(spec)
        self.label_smoothing = spec.train.label_smoothing
        self.symbols = stored(info)
        self.search = make_search(self.decoding, info, self.symbols, self.head)

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        _, head, _, decoding = rooms(spec)
        train, validation, test, notes = split(said(read_source(spec.data), head), spec.data)
        if head.symbols == PUBLISHED:
            if info is None or "symbols" not in info:
                raise UserError(
                    "head.symbols: there are no published weights that come with symbols\n"
                    "name some with --weights, or set head.symbols=characters"
                )
            if decoding.language_model == TRAIN and "language_model" not in info and len(train):
                info = {**info, **learn_language([by_rule(each, head) for each in train.targets], decoding)}
            foreign = {"train": train, "validation": validation, "test": test}
            words = [by_rule(each, head).replace(" ", "") for each in train.targets]
            if words and not any(map(stored(info).spell, words)):
                raise UserError(
                    f"the alphabet of the weights can write no character of the transcriptions of '{spec.data.name}'\n"
                    "name others, or train with --set head.symbols=characters, which learns another alphabet"
                )
        elif info is None or not {"alphabet", "pieces"} & info.keys():
            if not len(train):
                raise UserError(
                    f"'{spec.data.name}' has no training recordings\nname a folder that has, or evaluate it"
                )
            texts = [by_rule(each, head) for each in train.targets]
            info = {**writing.learn(texts, head), **learn_language(texts, decoding)}
            if long := [each for each in train.lengths or () if each > decoding.window_seconds]:
                notes.append(about_long(long, decoding.window_seconds))
            foreign = {"validation": validation, "test": test}
        else:
            foreign = {"train": train, "validation": validation, "test": test}
        symbols = stored(info)
        for name, part in foreign.items():
            if strange := unwritable((by_rule(each, head) for each in part.targets), symbols):
                notes.append(f"{name}: characters that the model cannot write, and so gets wrong: {quoted(strange)}")
        settings = {"head.num_symbols": len(symbols.texts)}
        return Splits(train, validation, test, info, settings, notes)

    @staticmethod
    def check(spec: RunSpec) -> Sequence[Finding]:
        embed, head, _, decoding = rooms(spec)
        try:
            source = read_source(spec.data)
        except UserError as error:
            return [Finding("unreadable", str(error))]
        return check(source, embed, head, decoding, folder_of(spec.data))

    @staticmethod
    def num_readable(place: Path) -> int:
        return num_listed(place) if place.suffix.lower() in TABLES else count_files(place, audio.SUFFIXES)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return to_hear(sources)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        samples = audio.load(item.inputs, self.embed.sample_rate_hz)
        window: int | None = item.columns.get("window")
        if window is not None:  # resampling may round up to one token more
            samples = samples[: window * self.embed.samples_per_token + self.embed.samples_beyond]
        text = None if item.target is None else by_rule(item.target, self.head)
        sample: dict[str, Any] = {"samples": samples, "text": text, "symbols": [], "window": window is not None}
        if text is not None and window is None:
            sample["symbols"] = self.symbols.spell(text)
            if rng is not None and not sample["symbols"]:
                raise UserError(f"the model's alphabet can write no character of '{text}'")
        needed, num_tokens = least_tokens(sample["symbols"]), self.embed.num_tokens(len(samples))
        if needed > num_tokens and rng is not None:
            remedy = "lower embed.hop_ms, or look" if self.embed.front == "log_mel" else "look"
            raise UserError(
                f"the transcription is too long for its recording: it needs {needed} tokens, the recording has "
                f"{num_tokens}; {remedy} at both"
            )
        sample["spelt"] = bool(sample["symbols"]) and needed <= num_tokens  # else heard and counted, but without a loss
        if rng is not None:
            sample["goes_on"] = bool(rng.random() < self.augment.joined)
            changed = altered(samples, self.augment, rng)
            if least_tokens(sample["symbols"]) <= self.embed.num_tokens(len(changed)):
                sample["samples"] = changed  # else too fast to be spelt
            sample |= draw_masks(self.augment, rng)
        return sample

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        samples = joined(samples, self.embed, self.symbols)
        views = len(samples[0]["time_masks"]) if "time_masks" in samples[0] else 1
        inputs = as_inputs([sample["samples"] for sample in samples], self.embed, views=views)
        lengths = [self.embed.num_tokens(len(sample["samples"])) for sample in samples] * views
        for kind in ("time_masks", "band_masks"):
            if kind in samples[0]:
                inputs[kind] = torch.from_numpy(np.stack([sample[kind] for sample in samples], 1)).flatten(0, 1)
        known = all(sample["spelt"] for sample in samples)
        targets = _symbols([sample["symbols"] for sample in samples]) if known else None
        if targets is not None and self.head.decoder_depth:
            spelt = [sample["symbols"] for sample in samples] * views
            inputs["said"] = torch.tensor([each for symbols in spelt for each in (self.symbols.blank, *symbols)])
            inputs["said_layout"] = Layout.from_lengths([len(symbols) + 1 for symbols in spelt])
            targets["next"] = torch.tensor([each for symbols in spelt for each in (*symbols, self.symbols.blank)])
        return Batch(
            inputs,
            targets,
            tuple(ids),
            num_tokens=(sum(lengths), len(lengths) * max(lengths)),
            columns=[
                {
                    "text": sample["text"],
                    "window": sample["window"],
                    "seconds": len(sample["samples"]) / self.embed.sample_rate_hz,
                }
                for sample in samples
            ],
        )

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _, _), core = rooms(spec), spec.core
        first = build_embed(spec, embed)
        decoder = Transformer(**decoder_core(core, head).model_dump()) if head.decoder_depth else None
        return Model(first, Transformer(**core.model_dump()), SymbolHead(core.dim, head.num_symbols, decoder))

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """-log p of each transcription, over all its alignments; counted by symbols. Where there is a decoder, also of
        each symbol after those before it (Kim et al. 2017, arXiv:1609.06773).

        Of two views of each recording it is the mean, and to it comes what their scores differ by, token by token (Yao
        et al. 2024, equations 3 and 4).
        """
        lengths = output.layout.lengths
        assert lengths is not None
        scores = output.logits.log_softmax(-1)
        symbols, counts = batch.targets["symbols"], batch.targets["counts"]
        views = len(lengths) // len(counts)
        total = F.ctc_loss(
            to_padded(scores, output.layout).transpose(0, 1),
            symbols.repeat(views),
            lengths.long(),
            counts.repeat(views),
            blank=self.symbols.blank,
            reduction="sum",
        )
        if views == 2 and self.augment.consistency is not None:
            one, other = scores.chunk(2)
            apart = _divergence(one.detach(), other) + _divergence(other.detach(), one)
            total = total + self.augment.consistency * apart
        if "next" in output.further:
            share, smoothing = self.head.decoder_weight, self.label_smoothing
            wrong = F.cross_entropy(
                output.further["next"], batch.targets["next"], reduction="sum", label_smoothing=smoothing
            )
            total = (1 - share) * total + share * wrong
        return total / views, len(symbols)

    # ------------------------------------------------------------ results

    def parts(self, dataset: Dataset) -> Parts:
        return windowed(dataset, self.embed, self.decoding)

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """What is said in each recording; of a window the scores."""
        assert output.layout.lengths is not None
        scores = output.logits.detach().log_softmax(-1).cpu().split(output.layout.lengths.tolist())
        found: list[Record] = []
        for name, own, facts in zip(batch.ids, scores, batch.columns, strict=True):
            if facts["window"]:
                columns = {"seconds": facts["seconds"], "scores": own.numpy()}
                found.append(Record(name, None, facts["text"], columns=columns))
            else:
                found.append(self._heard(name, own.numpy(), facts["text"], facts["seconds"]))
        return found

    def join(self, item_id: str, records: Sequence[Record]) -> Record:
        if "scores" not in records[0].columns:
            return replace(records[0], id=item_id)
        scores = stitch([record.columns["scores"] for record in records], self.embed, self.decoding)
        last = records[-1].columns
        seconds = (len(scores) - len(last["scores"])) * self.embed.token_seconds + last["seconds"]
        return self._heard(item_id, scores, records[0].target, seconds)

    def _heard(self, name: str, scores: Scores, target: str | None, seconds: float) -> Record:
        found = self.search(scores)
        columns: dict[str, Any] = {"seconds": seconds}
        if target is None:  # nobody asks when the words of a test are said
            columns["words"] = align(scores, found, self.symbols, self.embed.token_seconds)
        return Record(name, write(self.symbols, found.symbols), target, columns=columns)

    def measure(self, records: Sequence[Record]) -> Measures:
        return replace(transcripts(records), duration_seconds=sum(record.columns["seconds"] for record in records))

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return {"text": record.prediction, "seconds": round(record.columns["seconds"], 3)}

    def details(self, record: Record) -> Mapping[str, Any]:
        words: Sequence[Word] = record.columns.get("words", ())
        return {"words": [{"word": text, "start": start, "end": end} for text, start, end in words]}


def _words(row: Mapping[str, Any]) -> list[Word]:
    return [Word(each["word"], each["start"], each["end"]) for each in row["words"]]


def read_source(data: DataSpec) -> Source:
    """A dataset by name, or a folder or list of recordings by path.

    Raises:
        UserError: It is neither, or cannot be read.
    """
    return open_source(data, load_place, PLACES)


def said(source: Source, head: HeadSpec) -> Source:
    """The source without recordings in which nothing is said; these are problems of it."""
    splits: dict[str, Dataset] = {}
    problems = dict(source.problems)
    for name, dataset in source.splits.items():
        assert isinstance(dataset, Labelled), "transcriptions are known before recordings are heard"
        spoken = [bool(by_rule(text, head)) for text in dataset.targets]
        problems |= {dataset.ids[i]: "the transcription is empty" for i, any_word in enumerate(spoken) if not any_word}
        splits[name] = dataset if all(spoken) else Subset(dataset, [i for i, any_word in enumerate(spoken) if any_word])
    return replace(source, splits=splits, problems=problems)


def _divergence(of: Tensor, against: Tensor) -> Tensor:
    """Kullback and Leibler's, summed over tokens; both are log-probabilities."""
    return F.kl_div(against, of, reduction="sum", log_target=True)


def _symbols(symbols: Sequence[Sequence[int]]) -> dict[str, Any]:
    return {
        "symbols": torch.tensor([each for spelt in symbols for each in spelt], dtype=torch.long),
        "counts": torch.tensor([len(spelt) for spelt in symbols]),
    }
