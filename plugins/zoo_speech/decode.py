"""From scores to symbols: the best path, or a search among prefixes with a say of a language model.

Best path: Graves et al. 2006, section 3.2; search among prefixes: Hannun et al. 2014, arXiv:1408.2873, algorithm 1.
"""

import heapq
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from zoo.errors import UserError
from zoo_speech import language
from zoo_speech.language import BEGIN, END, UNKNOWN, LanguageModel, NGram
from zoo_speech.spec import DecodeSpec, HeadSpec
from zoo_speech.writing import BLANK, Symbols, by_rule, write

LEAST = 1e-4
"""Symbols of a lower probability begin nothing."""
TRAIN = "train"
"""The language model that is learnt from the training transcriptions."""
LARGEST_STORED = 40_000_000
"""Characters of it: checkpoints keep it in a header, which safetensors holds to 100 MB."""
Scores = Float[np.ndarray, "t symbols"]
"""Logarithms of each symbol's probability, token by token."""


class Found(NamedTuple):
    """Symbols, and the token at which each was found: their order is sure, their places are nearly so."""

    symbols: list[int]
    places: list[int]


def best_path(scores: Scores, blank: int = BLANK) -> Found:
    """The likeliest symbol of every token; repeats become one, blanks none."""
    path = scores.argmax(-1)
    begins = np.flatnonzero((path != blank) & (np.diff(path, prepend=blank) != 0))
    return Found(path[begins].tolist(), begins.tolist())


@dataclass(slots=True, eq=False, weakref_slot=True)
class Prefix:
    """What may have been said so far.

    Args:
        parent: All but the last symbol; None, as that is, at the beginning.
        place: The token at which the last symbol came first.
        word: What the last word has so far.
        history: The words before it that have a say.
        bonus: What the language model says of all whole words, weighted, and the bonuses of words.
        outlook: What it will say of the last word at best, as far as that is known.
        blank: Logarithm of the probability of all paths to here that end with a blank; `symbol_end`: with the symbol.
    """

    parent: "Prefix | None" = None
    symbol: int | None = None
    place: int = -1
    word: str = ""
    history: NGram = (BEGIN,)
    bonus: float = 0.0
    outlook: float = 0.0
    blank: float = -math.inf
    symbol_end: float = -math.inf
    next_blank: float = -math.inf
    next_symbol_end: float = -math.inf

    @property
    def rank(self) -> float:
        return _either(self.blank, self.symbol_end) + self.bonus + self.outlook

    def found(self) -> Found:
        symbols: list[int] = []
        places: list[int] = []
        node = self
        while node.parent is not None:
            assert node.symbol is not None
            symbols.append(node.symbol)
            places.append(node.place)
            node = node.parent
        return Found(symbols[::-1], places[::-1])


Known = weakref.WeakValueDictionary[tuple[int, int], Prefix]


class BeamSearch:
    """The likeliest text by log p(symbols | sound), with a language model + weight · log p(words) + bonus · #words.

    Args:
        width: Prefixes that are followed.
        language_model: None has no say.
        weight: Of its logarithms.
        word_bonus: For each word, against its liking for short texts.
    """

    def __init__(
        self,
        symbols: Symbols,
        width: int,
        language_model: LanguageModel | None = None,
        *,
        weight: float = 0.5,
        word_bonus: float = 0.0,
    ) -> None:
        self.symbols, self.width = symbols, width
        self.language_model, self.weight, self.word_bonus = language_model, weight * math.log(10), word_bonus

    def __call__(self, scores: Scores) -> Found:
        beam = [Prefix(blank=0.0)]
        # Every prefix is there once, by its parent and its last symbol, as long as it or what is longer is followed.
        known: Known = weakref.WeakValueDictionary()
        for place, row in enumerate(scores):
            likely = [int(symbol) for symbol in np.flatnonzero(row > math.log(LEAST)) if symbol != self.symbols.blank]
            beam = self._advance(beam, known, place, row.tolist(), likely)
        return max(beam, key=self._final).found()

    def _advance(
        self, beam: Sequence[Prefix], known: Known, place: int, row: Sequence[float], likely: Sequence[int]
    ) -> list[Prefix]:
        reached = {id(prefix): prefix for prefix in beam}
        for prefix in beam:
            either = _either(prefix.blank, prefix.symbol_end)
            prefix.next_blank = _either(prefix.next_blank, either + row[self.symbols.blank])
            if prefix.symbol is not None:
                prefix.next_symbol_end = _either(prefix.next_symbol_end, prefix.symbol_end + row[prefix.symbol])
            for symbol in likely:
                before = prefix.blank if symbol == prefix.symbol else either
                if before > -math.inf:
                    longer = known.get((id(prefix), symbol))
                    if longer is None:
                        longer = known[(id(prefix), symbol)] = self._longer(prefix, symbol, place)
                    reached[id(longer)] = longer
                    longer.next_symbol_end = _either(longer.next_symbol_end, before + row[symbol])
        for prefix in reached.values():
            prefix.blank, prefix.symbol_end = prefix.next_blank, prefix.next_symbol_end
            prefix.next_blank = prefix.next_symbol_end = -math.inf
        return heapq.nlargest(self.width, reached.values(), key=lambda prefix: prefix.rank)

    def _longer(self, prefix: Prefix, symbol: int, place: int) -> Prefix:
        longer = Prefix(prefix, symbol, place, prefix.word, prefix.history, prefix.bonus)
        if self.language_model is None:
            return longer
        before, blank, after = self.symbols.texts[symbol].rpartition(" ")
        if not blank:
            longer.word += after
        else:
            longer.bonus, longer.history = self._whole(prefix, prefix.word + before)
            longer.word = after
        if longer.word and longer.word not in self.language_model.beginnings:
            longer.outlook = self.weight * self.language_model.score(longer.history, UNKNOWN)
        return longer

    def _whole(self, prefix: Prefix, words: str) -> tuple[float, NGram]:
        """The bonus and the history once words have ended."""
        assert self.language_model is not None
        bonus, history = prefix.bonus, prefix.history
        for word in words.split():
            bonus += self.weight * self.language_model.score(history, word) + self.word_bonus
            history = self.language_model.seen((*history, word))
        return bonus, history

    def _final(self, prefix: Prefix) -> float:
        total = _either(prefix.blank, prefix.symbol_end)
        if self.language_model is None:
            return total
        bonus, history = self._whole(prefix, prefix.word)
        return total + bonus + self.weight * self.language_model.score(history, END)


def _either(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    if one < other:
        one, other = other, one
    return one if other == -math.inf else one + math.log1p(math.exp(other - one))


def learn_language(texts: Sequence[str], decoding: DecodeSpec) -> dict[str, Any]:
    """What a run stores of the language of its training transcriptions: nothing, where nothing is asked for.

    Raises:
        UserError: It is too large to be stored.
    """
    if decoding.language_model != TRAIN:
        return {}
    model = language.learn(texts, decoding.ngram_order).to_arpa()
    if len(model) > LARGEST_STORED:
        raise UserError(
            f"decode.language_model: the n-grams of the training transcriptions take {len(model) / 1e6:.0f} MB, and a "
            f"checkpoint holds {LARGEST_STORED / 1e6:.0f}\n"
            "lower decode.ngram_order, or make an ARPA file, such as with KenLM, and name it when you evaluate"
        )
    return {"language_model": model, "ngram_order": decoding.ngram_order}


def make_search(
    decoding: DecodeSpec, info: Mapping[str, Any], symbols: Symbols, head: HeadSpec
) -> Callable[[Scores], Found]:
    """The search that is asked for.

    Args:
        info: What the run stores, perhaps a `language_model`, as an ARPA file has it.

    Raises:
        UserError: Its language model is not there, or speaks of other words than the model can write.
    """
    if decoding.beam_width == 1:
        return partial(best_path, blank=symbols.blank)
    return BeamSearch(
        symbols,
        decoding.beam_width,
        _language_model(decoding, info, symbols, head),
        weight=decoding.language_weight,
        word_bonus=decoding.word_bonus,
    )


def _language_model(
    decoding: DecodeSpec, info: Mapping[str, Any], symbols: Symbols, head: HeadSpec
) -> LanguageModel | None:
    name = decoding.language_model
    if name == "none":
        return None
    if name != TRAIN:
        model = language.read_arpa(name)
        words = sorted(model.words)[:: max(1, len(model.words) // 1000)]
        written = [by_rule(word, head) == word == write(symbols, symbols.spell(word)) for word in words]
        if sum(written) < 0.5 * len(words):
            raise UserError(
                f"decode.language_model: most words of '{name}' are not written as the run writes, such as "
                f"'{words[written.index(False)]}'\nnormalise it, such as to small letters, or name another file"
            )
        return model
    if "language_model" not in info:
        raise UserError(
            "decode.language_model: the run stores none\n"
            "train with --set decode.language_model=train, or name an ARPA file"
        )
    if decoding.ngram_order != info["ngram_order"]:
        raise UserError(
            f"decode.ngram_order: the run stores n-grams of up to {info['ngram_order']} words\nleave it, or train anew"
        )
    return language.from_arpa(info["language_model"])
