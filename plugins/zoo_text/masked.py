"""Masked language modelling: some of a text's tokens are hidden, and told from the others. What encoders learn first.

Devlin et al. 2018, arXiv:1810.04805. Which tokens are hidden is drawn anew in every epoch, and fixed for evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
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
from zoo_text.building import build_embed, norms
from zoo_text.data import Texts
from zoo_text.inputs import read_inputs
from zoo_text.model import MaskedHead
from zoo_text.spec import masked_rooms
from zoo_text.task import texts_of
from zoo_text.unlabelled import PLACES, Itself, load_texts

NUM_LIKELIEST = 20
"""Tokens that a record keeps for each masked one."""


class MaskedLanguageModelling:
    """Args:
    info: `tokenizer`, as a tokenizer.json has it.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.spec = spec
        self.embed, _, self.masking = masked_rooms(spec)
        self.tokenizer = tokenizers.stored(info["tokenizer"], self.embed.max_tokens)
        self.mask = _mask_of(self.tokenizer, spec)

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, _, _ = masked_rooms(spec)
        source = open_source(spec.data, load_texts, PLACES)
        itself = {name: Itself(dataset) for name, dataset in source.splits.items()}
        *parts, notes = split(replace(source, splits=itself), spec.data)
        known = {key: value for key, value in (info or {}).items() if key == "tokenizer"}
        if not known:
            known["tokenizer"] = tokenizers.make(embed, texts_of(parts[0])).to_str()
        tokenizer = tokenizers.stored(known["tokenizer"], embed.max_tokens)
        _mask_of(tokenizer, spec)
        settings = {"embed.vocab_size": tokenizers.num_rows(tokenizer, embed.vocab_size if spec.weights else None)}
        for part in parts:
            part.lengths = tokenizers.lengths(tokenizer, texts_of(part), embed)
        return Splits(*parts, info=known, settings=settings, notes=notes)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        """Texts with a mask token where a word is wanted."""
        read, mask = read_inputs(sources, self.spec.data), self.tokenizer.id_to_token(self.mask)
        without = {
            i: f"the text has no {mask}\nwrite it where a word is wanted"
            for i, text in enumerate(read.texts)
            if self.mask not in self.tokenizer.encode(text).ids
        }
        return Texts(read.ids, read.texts, read.targets, without | dict(read.problems))

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        encoded = self.tokenizer.encode(item.inputs)
        tokens, special = np.array(encoded.ids, np.int64), np.array(encoded.special_tokens_mask, bool)
        asked = np.flatnonzero(tokens == self.mask) if item.target is None else np.array([], np.int64)
        masked = asked if len(asked) else self._chosen(np.flatnonzero(~special), rng or item_rng(0, 0, item.id))
        target = None if item.target is None else tokens[masked]
        if not len(asked):
            tokens = self._hidden(tokens, masked, rng or item_rng(0, 1, item.id))
        return {"tokens": tokenizers.filled_up(tokens, self.embed), "masked": masked, "target": target}

    def _chosen(self, ordinary: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not len(ordinary):
            raise UserError("the tokenizer makes nothing of the text")
        count = max(1, round(self.masking.share * len(ordinary)))
        return np.sort(rng.permutation(ordinary)[:count])

    def _hidden(self, tokens: np.ndarray, masked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The tokens, the masked ones replaced: most by the mask token, some by any, some by themselves."""
        draw, anything = rng.random(len(masked)), rng.integers(0, self.embed.vocab_size, len(masked))
        unchanged = draw < self.masking.unchanged
        by_any = ~unchanged & (draw < self.masking.unchanged + self.masking.random)
        tokens = tokens.copy()
        tokens[masked] = np.where(unchanged, tokens[masked], np.where(by_any, anything, self.mask))
        return tokens

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        lengths = [len(sample["tokens"]) for sample in samples]
        starts = accumulate(lengths, initial=0)
        masked = [sample["masked"] + start for sample, start in zip(samples, starts, strict=False)]
        inputs = {
            "tokens": torch.from_numpy(np.concatenate([sample["tokens"] for sample in samples])),
            "layout": Layout.from_lengths(lengths),
            "masked": torch.from_numpy(np.concatenate(masked)),
        }
        known = [sample["target"] for sample in samples]
        targets = None if any(each is None for each in known) else torch.from_numpy(np.concatenate(known))
        columns = [{"tokens": s["tokens"].tolist(), "masked": s["masked"].tolist()} for s in samples]
        total = (sum(lengths), len(lengths) * max(lengths))
        return Batch(inputs, targets, tuple(ids), num_tokens=total, columns=columns)

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _), core = masked_rooms(spec), spec.core
        width = embed.token_dim or core.dim
        first = build_embed(spec, embed, hands_on=["masked", "table"])
        last = MaskedHead(core.dim, embed.vocab_size, token_dim=width, norm=norms(core)(width), **head.model_dump())
        return Model(first, Transformer(**core.model_dump()), last)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy of the masked tokens."""
        smoothing = self.spec.train.label_smoothing
        total = F.cross_entropy(output.logits, batch.targets, reduction="sum", label_smoothing=smoothing)
        return total, len(batch.targets)

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """The likeliest tokens of each masked place; where the true ones are known, their likelihood alone."""
        likelihoods = output.logits.detach().log_softmax(-1)
        counts = [len(columns["masked"]) for columns in batch.columns]
        best = likelihoods.topk(min(NUM_LIKELIEST, likelihoods.shape[-1]))
        tops, values = (each.cpu().split(counts) for each in (best.indices, best.values.exp()))
        known: list[dict[str, Any]] = [{} for _ in counts]
        targets: Sequence[Any] = [None] * len(counts)
        if batch.targets is not None:
            own = likelihoods.gather(1, batch.targets[:, None]).squeeze(1)
            targets = [each.tolist() for each in batch.targets.cpu().split(counts)]
            known = [{"log_likelihood": float(each.sum())} for each in own.cpu().split(counts)]
        return [
            Record(
                item,
                top[:, 0].tolist(),
                target,
                columns=facts or {**columns, "likeliest": top.tolist(), "probabilities": value.tolist()},
            )
            for item, top, value, target, facts, columns in zip(
                batch.ids, tops, values, targets, known, batch.columns, strict=True
            )
        ]

    def measure(self, records: Sequence[Record]) -> Measures:
        return likelihood(records)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        """The text with its gaps filled, and the likeliest tokens of each gap."""
        tokens = np.array(record.columns["tokens"])
        tokens[record.columns["masked"]] = record.prediction
        gaps = [
            ", ".join(f"{self.tokenizer.id_to_token(token)} {probability:.3f}" for token, probability in pairs[:top_k])
            for pairs in (
                list(zip(*each, strict=True))
                for each in zip(record.columns["likeliest"], record.columns["probabilities"], strict=True)
            )
        ]
        return {"filled": self.tokenizer.decode(tokens.tolist()), "likeliest": "; ".join(gaps)}


def _mask_of(tokenizer: Tokenizer, spec: RunSpec) -> int:
    """
    Raises:
        UserError: It has no mask token.
    """
    mask = tokenizers.mask_id(tokenizer)
    if mask is None:
        if spec.weights is not None:
            raise UserError(
                f"the tokenizer of '{spec.weights.source}' has no mask token: it is another model's, or the weights "
                "are not for masked-lm\nput the tokenizer that was published with them there, or name other weights"
            )
        raise UserError("the tokenizer has no mask token\nname another with embed.tokenizer, or let one be learnt")
    return mask
