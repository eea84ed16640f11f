"""Speech to text by a decoder: what was said, written token by token. The walk from a dataset's items to records.

Whisper: Radford et al. 2022, arXiv:2212.04356. Data is that of speech to text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.contract import Batch, Dataset, Item, Measures, Record, Splits
from zoo.core import Layout, Model, Output, Transformer
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.metrics import transcripts
from zoo.specs import RunSpec
from zoo_speech import audio
from zoo_speech.augment import altered
from zoo_speech.data import to_hear
from zoo_speech.seq2seq import tokens as tokenizers
from zoo_speech.seq2seq.decoding import Progress, Segment, Transcriber
from zoo_speech.seq2seq.model import LogMelEmbed, Writer
from zoo_speech.seq2seq.spec import HOP, SAMPLE_RATE_HZ, LogMelSpec, decoder_core, rooms
from zoo_speech.seq2seq.tokens import Tokens
from zoo_speech.seq2seq.windows import FromRecording, InMemory, num_samples
from zoo_speech.task import read_source, said
from zoo_speech.timing import Word, as_srt, as_vtt, lines
from zoo_speech.writing import by_rule

UNSCORED = -100
"""In the place of a next token that the loss leaves out: the prompt's."""


class SpeechSeq2Seq:
    """Args:
    info: `tokenizer` and `generation`, as `tokens` has them.
    """

    formats: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
        ".srt": lambda row: as_srt(_shown(row)),
        ".vtt": lambda row: as_vtt(_shown(row)),
    }

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, self.head, self.augment, self.decoding = rooms(spec)
        self.label_smoothing = spec.train.label_smoothing
        self.tokens = Tokens(info)
        self.language = self.tokens.language(self.decoding)
        # The prompt of what is learnt, and of what is written of a window: where the language is not known, its
        # beginning, which is enough to tell it.
        known = self.language is not None or not self.tokens.languages
        self.prompt = self.tokens.prompt(self.language, self.decoding.task, times=False) if known else None
        if self.decoding.timestamps:
            self.tokens.prompt(self.language, self.decoding.task, times=True)  # refused where it cannot be

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        _, head, _, decoding = rooms(spec)
        train, validation, test, notes = split(said(read_source(spec.data), decoding.rule), spec.data)
        known = {key: info[key] for key in tokenizers.INFO if key in info} if info else {}
        if len(known) < len(tokenizers.INFO):
            if not len(train):
                raise UserError(
                    f"'{spec.data.name}' has no training recordings\nname a folder that has, or evaluate it"
                )
            known = tokenizers.learn([by_rule(each, head.rule) for each in train.targets], head.max_pieces)
        tokens = Tokens(known)
        if tokens.language(decoding) is None and tokens.languages:
            raise UserError(
                "the weights know several languages, and no transcription says which it is in\n"
                "say so, such as --set decode.language=en"
            )
        settings = {"head.vocab_size": tokens.num_rows(head.vocab_size if spec.weights else None)}
        return Splits(train, validation, test, known, settings, notes)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return to_hear(sources)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        recording, longest = item.inputs, self.embed.max_samples
        count = num_samples(recording)
        is_long = count > longest
        self._require_times(is_long)
        text = None if item.target is None else by_rule(item.target, self.head.rule)
        spelt = [] if text is None else self.tokens.spell(text)
        room = self.head.max_tokens - len(self.prompt or ())
        fits = text is not None and not is_long and len(spelt) <= room
        if rng is not None and not fits:
            self._refuse(count, len(spelt), room)
        samples = np.zeros(0, np.float32) if is_long else audio.load(recording, SAMPLE_RATE_HZ)[:longest]
        if rng is not None:
            changed = altered(samples, self.augment.altering, rng)
            samples = changed if len(changed) <= longest else samples  # else too slow to be heard at once
        return {
            "samples": samples,
            "recording": recording if is_long else None,
            "seconds": count / SAMPLE_RATE_HZ,
            "text": item.target,
            "tokens": spelt,
            "fits": fits,
        }

    def _require_times(self, is_long: bool) -> None:
        if is_long and self.tokens.first_time is None:
            raise UserError(
                f"the recording is longer than the {self.embed.window_seconds:g} s that are heard at once, and the "
                "model learnt no times by which to go on; cut it"
            )

    def _refuse(self, count: int, num_spelt: int, room: int) -> None:
        if count > self.embed.max_samples:
            raise UserError(
                f"the recording lasts {count / SAMPLE_RATE_HZ:.1f} s, but {self.embed.window_seconds:g} s are heard at "
                "once, and no transcription says what is said in which: cut it"
            )
        raise UserError(
            f"the transcription has {num_spelt} tokens, but {room} can be written of a recording; cut both, or look at "
            "them"
        )

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        inputs = as_inputs([sample["samples"] for sample in samples], self.embed)
        known = self.prompt is not None and all(sample["fits"] for sample in samples)
        prompt = self.prompt or [self.tokens.start]
        told = [sample["tokens"] if known else [] for sample in samples]
        inputs["said"] = torch.tensor([each for own in told for each in (*prompt, *own)])
        inputs["said_layout"] = Layout.from_lengths([len(prompt) + len(own) for own in told])
        targets = None
        if known:
            unscored = [UNSCORED] * (len(prompt) - 1)
            targets = {
                "next": torch.tensor([each for own in told for each in (*unscored, *own, self.tokens.end)]),
                "count": sum(len(own) + 1 for own in told),
            }
        lengths = [self.embed.num_tokens(len(sample["samples"])) for sample in samples]
        columns = [{key: sample[key] for key in ("recording", "seconds", "text")} for sample in samples]
        total = (sum(lengths), len(lengths) * max(lengths))
        return Batch(inputs, targets, tuple(ids), num_tokens=total, columns=columns)

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _, _), core = rooms(spec), spec.core
        first = LogMelEmbed(
            core.dim,
            num_mels=embed.num_mels,
            max_tokens=embed.max_tokens,
            padded=embed.padded,
            dropout=embed.dropout,
        )
        body, decoder = Transformer(**core.model_dump()), Transformer(**decoder_core(core, head).model_dump())
        last = Writer(core.dim, head.vocab_size, decoder, max_tokens=head.max_tokens, dropout=head.dropout)
        return Model(first, body, last)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """-log p of each token after those before it, the end among them; the prompt's are not told."""
        wrong = F.cross_entropy(
            output.logits,
            batch.targets["next"],
            ignore_index=UNSCORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return wrong, batch.targets["count"]

    # ------------------------------------------------------------ results

    def generate(self, model: Model, batch: Batch, output: Output | None) -> Sequence[Record]:
        """Long recordings, of which but a window is in memory, are written by the model's times always.

        What is written is what transformers' generate writes, but for what is said after the recording's end, in the
        silence up to the whole window: no window begins there, and what a window has of it is left out.
        """
        embed, columns = model.embed, batch.columns
        assert isinstance(embed, LogMelEmbed)
        long = [facts["recording"] is not None for facts in columns]
        heard: dict[int, Progress] = {}
        if short := [i for i, each in enumerate(long) if not each]:
            frames, counts = embed.frames(batch.inputs["samples"][short], batch.inputs["num_samples"][short])
            stops = (-(-batch.inputs["num_samples"][short] // HOP)).tolist()
            for i, own, count, stop in zip(short, frames, counts.tolist(), stops, strict=True):
                heard[i] = Progress(InMemory(own[:, :count]), self.language, stop)
        for i, facts in enumerate(columns):
            if long[i]:
                frames = FromRecording(facts["recording"], embed, batch.inputs["samples"].device)
                heard[i] = Progress(frames, self.language)
        for times in (False, True):
            own = [heard[i] for i, each in enumerate(long) if (each or self.decoding.timestamps) == times]
            if own:
                self._transcriber(model, times=times)(own)
        return [self._record(name, heard[i], columns[i]) for i, name in enumerate(batch.ids)]

    def _transcriber(self, model: Model, *, times: bool) -> Transcriber:
        limit = self.decoding.max_new_tokens
        return Transcriber(model, self.tokens, task=self.decoding.task, times=times, max_new_tokens=limit)

    def _record(self, name: str, heard: Progress, facts: Mapping[str, Any]) -> Record:
        seconds: float = facts["seconds"]
        segments = [each for each in heard.segments if round(each.start, 3) < seconds]
        text = self.tokens.write([each for segment in segments for each in segment.tokens])
        columns = {
            "seconds": seconds,
            "segments": [self._segment(each, seconds) for each in segments],
            "language": next((key for key, each in self.tokens.languages.items() if each == heard.language), None),
        }
        return Record(name, text, facts["text"], columns=columns)

    def _segment(self, segment: Segment, seconds: float) -> Word:
        """Within the recording, though the model may hear it end in the silence after it."""
        start = min(max(segment.start, 0.0), seconds)
        return Word(self.tokens.write(segment.tokens), round(start, 3), round(min(max(segment.end, start), seconds), 3))

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """The likeliest token after each true one, for whoever looks at one pass of the model."""
        lengths = batch.inputs["said_layout"].lengths.tolist()
        skipped = len(self.prompt or [self.tokens.start]) - 1
        likeliest = output.logits.detach().argmax(-1).cpu().split(lengths)
        found: list[Record] = []
        for name, own, facts in zip(batch.ids, likeliest, batch.columns, strict=True):
            columns = {"seconds": facts["seconds"], "segments": [], "language": None}
            found.append(Record(name, self.tokens.write(own[skipped:].tolist()), facts["text"], columns=columns))
        return found

    def measure(self, records: Sequence[Record]) -> Measures:
        """Of texts as `decode.lowercase` and `decode.punctuation` have them compared."""
        rule = self.decoding.rule
        compared = [
            replace(each, prediction=by_rule(each.prediction, rule), target=by_rule(each.target, rule))
            for each in records
        ]
        return replace(transcripts(compared), duration_seconds=sum(each.columns["seconds"] for each in records))

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return {"text": record.prediction, "seconds": round(record.columns["seconds"], 3)}

    def details(self, record: Record) -> Mapping[str, Any]:
        segments: Sequence[Word] = record.columns["segments"]
        found = [{"text": text, "start": start, "end": end} for text, start, end in segments]
        return {"language": record.columns["language"], "segments": found}


def _shown(row: Mapping[str, Any]) -> list[Word]:
    return [Word(lines(each["text"]), each["start"], each["end"]) for each in row["segments"] if each["text"]]


def as_inputs(recordings: Sequence[audio.Samples], embed: LogMelSpec) -> dict[str, Any]:
    """What the embed reads of recordings no longer than the window."""
    counts = [len(samples) for samples in recordings]
    padded = torch.zeros(len(counts), max(counts))
    for row, samples in zip(padded, recordings, strict=True):
        row[: len(samples)] = torch.from_numpy(samples)
    lengths = [embed.num_tokens(count) for count in counts]
    return {
        "samples": padded,
        "num_samples": torch.tensor(counts),
        "layout": Layout.from_lengths(lengths),
        "num_tokens": sum(lengths),
    }
