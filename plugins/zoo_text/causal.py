"""Causal language modelling: each token is told from those before it. What decoders learn, and how texts are continued.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". A text stands between the token that begins
it and the one that ends it, which is told too: `zoo_text.tokenizer.bounds` says which these are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.contract import Batch, Dataset, Item, Measures, Record, Splits
from zoo.core import Layout, Model, Output, Transformer
from zoo.data.seeding import item_rng
from zoo.data.sources import open_source
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.metrics import likelihood
from zoo.specs import RunSpec
from zoo_text import tokenizer as tokenizers
from zoo_text.building import build_embed
from zoo_text.generate import continue_text, drawing
from zoo_text.inputs import read_inputs
from zoo_text.model import CausalHead
from zoo_text.spec import causal_rooms
from zoo_text.task import texts_of
from zoo_text.unlabelled import PLACES, Itself, load_texts


class CausalLanguageModelling:
    """Args:
    info: `tokenizer`, as a tokenizer.json has it; `begin` and `ends`, the ids of what begins and ends a text.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.spec = spec
        self.embed, _, self.writing = causal_rooms(spec)
        self.tokenizer = tokenizers.stored(info["tokenizer"], self.embed.max_tokens)
        self.bounds = tokenizers.bounds(self.tokenizer, info["begin"], info["ends"])

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, _, _ = causal_rooms(spec)
        source = open_source(spec.data, load_texts, PLACES)
        itself = {name: Itself(dataset) for name, dataset in source.splits.items()}
        *parts, notes = split(replace(source, splits=itself), spec.data)
        known = {key: value for key, value in (info or {}).items() if key in ("tokenizer", "begin", "ends")}
        if "tokenizer" not in known:
            known["tokenizer"] = tokenizers.make(embed, texts_of(parts[0])).to_str()
        tokenizer = tokenizers.stored(known["tokenizer"], embed.max_tokens)
        bounds = tokenizers.bounds(tokenizer, known.get("begin"), known.get("ends", ()))
        known |= {"begin": bounds.begin, "ends": list(bounds.ends)}
        settings = {"embed.vocab_size": tokenizers.num_rows(tokenizer, embed.vocab_size if spec.weights else None)}
        for part in parts:
            counts = tokenizers.count_tokens(tokenizer, texts_of(part), special=False)
            part.lengths = [min(count + 1, embed.max_tokens) for count in counts]
        return Splits(*parts, info=known, settings=settings, notes=notes)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        """Beginnings of texts, to be continued."""
        return read_inputs(sources, self.spec.data)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        """A text loses what is beyond `embed.max_tokens`, its end with it; a prompt loses nothing."""
        encoded = self.tokenizer.encode(item.inputs, add_special_tokens=False)
        ids, most = encoded.ids, self.embed.max_tokens
        if not ids:
            raise UserError("the tokenizer makes nothing of the text")
        if item.target is None:
            begin = [self.bounds.begin] if self.writing.begin or self.bounds.begun else []
            if encoded.overflowing or len(begin) + len(ids) > most:
                raise UserError(f"the prompt has more than the {most} tokens that the model reads\nshorten it")
            return {"tokens": np.array([*begin, *ids], np.int64), "target": None, "num_bytes": 0}
        tokens = np.array([self.bounds.begin, *ids, self.bounds.ends[0]], np.int64)[: most + 1]
        kept = item.inputs if len(ids) < most else item.inputs[: encoded.offsets[-1][1]]
        return {"tokens": tokens[:-1], "target": tokens[1:], "num_bytes": len(kept.encode())}

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        lengths = [len(sample["tokens"]) for sample in samples]
        tokens = torch.from_numpy(np.concatenate([sample["tokens"] for sample in samples]))
        known = [sample["target"] for sample in samples]
        targets = None if any(each is None for each in known) else torch.from_numpy(np.concatenate(known))
        columns = [{"tokens": s["tokens"].tolist(), "num_bytes": s["num_bytes"]} for s in samples]
        total = (sum(lengths), len(lengths) * max(lengths))
        inputs = {"tokens": tokens, "layout": Layout.from_lengths(lengths)}
        return Batch(inputs, targets, tuple(ids), num_tokens=total, columns=columns)

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _), core = causal_rooms(spec), spec.core
        first = build_embed(spec, embed, hands_on=["table"] if head.tied else [])
        return Model(
            first, Transformer(**core.model_dump()), CausalHead(core.dim, embed.vocab_size, **head.model_dump())
        )

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy of each next token."""
        smoothing = self.spec.train.label_smoothing
        total = F.cross_entropy(output.logits, batch.targets, reduction="sum", label_smoothing=smoothing)
        return total, len(batch.targets)

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """The likeliest next token at each place, and, where the true ones are known, their likelihood."""
        logits, counts = output.logits.detach(), [len(columns["tokens"]) for columns in batch.columns]
        best = [each.tolist() for each in logits.argmax(-1).cpu().split(counts)]
        if batch.targets is None:
            return [Record(item, tokens) for item, tokens in zip(batch.ids, best, strict=True)]
        nats = F.cross_entropy(logits, batch.targets, reduction="none").cpu().split(counts)
        targets = [each.tolist() for each in batch.targets.cpu().split(counts)]
        return [
            Record(
                item,
                tokens,
                target,
                columns={"log_likelihood": -float(lost.double().sum()), "num_bytes": columns["num_bytes"]},
            )
            for item, tokens, target, lost, columns in zip(batch.ids, best, targets, nats, batch.columns, strict=True)
        ]

    def generate(self, model: Model, batch: Batch, output: Output | None) -> Sequence[Record]:
        """What follows each prompt; of whole texts, what `decode` says of them."""
        if output is not None:
            return self.decode(output, batch)
        asked, embed = self.writing, self.embed
        prompts = batch.inputs["tokens"].split([len(columns["tokens"]) for columns in batch.columns])
        records: list[Record] = []
        for item, prompt, columns in zip(batch.ids, prompts, batch.columns, strict=True):
            rng = item_rng(asked.seed, 0, item)
            made = continue_text(
                model,
                prompt,
                drawing(asked.temperature, asked.top_k, asked.top_p, rng),
                max_new_tokens=asked.max_new_tokens,
                ends=self.bounds.ends,
                max_tokens=embed.max_tokens if embed.position == "learned" else None,
            )
            records.append(Record(item, made, columns={"prompt": columns["tokens"]}))
        return records

    def measure(self, records: Sequence[Record]) -> Measures:
        return likelihood(records)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        """The continuation alone: what the tokens add to those of the prompt."""
        before = list(record.columns.get("prompt", ()))
        whole, prompt = (self.tokenizer.decode(tokens) for tokens in ([*before, *record.prediction], before))
        return {"text": whole.removeprefix(prompt)}
