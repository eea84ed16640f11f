"""How likely a sentence is: an n-gram model of words, learnt from transcriptions or read from an ARPA file.

Interpolated Kneser-Ney smoothing: Kneser and Ney 1995; Chen and Goodman 1999, section 3. The file format is that of
SRILM and KenLM.
"""

import gzip
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from zoo.errors import UserError
from zoo.files import user_path

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
RESERVED = frozenset({BEGIN, END, UNKNOWN, "<UNK>"})
IMPOSSIBLE = -99.0
"""The logarithm that ARPA files give what is never asked for."""
NGram = tuple[str, ...]
_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")


class Weight(NamedTuple):
    """Base-10 logarithms: of an n-gram's probability, and of what is left to n-grams of fewer words after it."""

    log_probability: float
    backoff: float = 0.0


class LanguageModel:
    """Probabilities of a word after others.

    Args:
        weights: Of every n-gram known, those of single words and `UNKNOWN` among them.
        order: Words in the longest.
    """

    def __init__(self, weights: Mapping[NGram, Weight], order: int) -> None:
        self.weights, self.order = weights, order
        words = [ngram[0] for ngram in weights if len(ngram) == 1]
        self.words = frozenset(words) - RESERVED
        self.beginnings = frozenset(word[:end] for word in self.words for end in range(1, len(word) + 1))
        """Of words."""

    def score(self, history: NGram, word: str) -> float:
        """Base-10 logarithm of a word's probability after others; a word that is not known is `UNKNOWN`."""
        ngram = self.seen((*history, word), self.order)
        left = 0.0
        while len(ngram) > 1 and ngram not in self.weights:
            context = self.weights.get(ngram[:-1])
            left += context.backoff if context else 0.0
            ngram = ngram[1:]
        return left + self.weights.get(ngram, Weight(IMPOSSIBLE)).log_probability

    def seen(self, words: NGram, count: int | None = None) -> NGram:
        """The last words, as the model knows them: as many as have a say in the next, or as asked."""
        count = self.order - 1 if count is None else count
        return tuple(word if (word,) in self.weights else UNKNOWN for word in words[max(0, len(words) - count) :])

    def to_arpa(self) -> str:
        by_order = [
            sorted(ngram for ngram in self.weights if len(ngram) == order) for order in range(1, self.order + 1)
        ]
        lines = ["\\data\\", *(f"ngram {order}={len(ngrams)}" for order, ngrams in enumerate(by_order, start=1))]
        for order, ngrams in enumerate(by_order, start=1):
            lines += ["", f"\\{order}-grams:"]
            for ngram in ngrams:
                weight = self.weights[ngram]
                ends = [] if order == self.order else [f"{weight.backoff:.6f}"]
                lines.append("\t".join([f"{weight.log_probability:.6f}", " ".join(ngram), *ends]))
        return "\n".join([*lines, "", "\\end\\", ""])


# ---------------------------------------------------------------- learnt


def learn(sentences: Sequence[str], order: int) -> LanguageModel:
    """A model of normalised sentences; the names of their ends are no words.

    Of a word that it has never seen it expects what is left to the rarest.

    Args:
        order: Words of an n-gram, at most.
    """
    counts = _counts(sentences, order)
    weights: dict[NGram, Weight] = {(BEGIN,): Weight(IMPOSSIBLE)}
    vocabulary = sorted({ngram[0] for ngram in counts[0]} | {UNKNOWN})
    below: dict[NGram, float] = {}
    for size, ngrams in enumerate(counts, start=1):
        probabilities: dict[NGram, float] = {}
        contexts: dict[NGram, list[int]] = defaultdict(list)
        for ngram, count in ngrams.items():
            contexts[ngram[:-1]].append(count)
        discount = _discount(ngrams)
        left = {context: discount * len(seen) / sum(seen) for context, seen in contexts.items()}
        for ngram, count in ngrams.items():
            context = ngram[:-1]
            smaller = below[ngram[1:]] if context else 1 / len(vocabulary)
            probabilities[ngram] = (count - discount) / sum(contexts[context]) + left[context] * smaller
        if size == 1:
            probabilities[(UNKNOWN,)] = left[()] / len(vocabulary)
        else:
            for context, share in left.items():
                weights[context] = Weight(weights[context].log_probability, math.log10(share))
        weights |= {ngram: Weight(math.log10(probability)) for ngram, probability in probabilities.items()}
        below = probabilities
    return LanguageModel(weights, order)


def _counts(sentences: Sequence[str], order: int) -> list[Counter[NGram]]:
    """For each order how often n-grams come, where it is the highest or they begin a sentence, else in how many ways
    they go on from the left."""
    plain: list[Counter[NGram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = (BEGIN, *(word for word in sentence.split() if word not in RESERVED), END)
        for size in range(1, order + 1):
            plain[size - 1].update(words[i : i + size] for i in range(len(words) - size + 1))
    del plain[0][(BEGIN,)]
    counts: list[Counter[NGram]] = []
    for smaller, larger in pairwise(plain):
        ways = Counter(ngram[1:] for ngram in larger)
        counts.append(Counter({ngram: n if ngram[0] == BEGIN else ways[ngram] for ngram, n in smaller.items()}))
    return [*counts, plain[-1]]


def _discount(counts: Counter[NGram]) -> float:
    """What is taken off each count: n₁ / (n₁ + 2 n₂), of how many come once and twice."""
    once, twice = (sum(count == times for count in counts.values()) for times in (1, 2))
    return once / (once + 2 * twice) if once and twice else 0.5


# ---------------------------------------------------------------- read


def read_arpa(path: str) -> LanguageModel:
    """A model from an ARPA file, or such a file compressed with gzip.

    Raises:
        UserError: It is missing or something else.
    """
    file = user_path(path)
    if not file.is_file():
        why = f"'{path}' is a folder" if file.is_dir() else f"there is no file '{path}'"
        raise UserError(f"decode.language_model: {why}\nname an ARPA file, or set it to none")
    try:
        return from_arpa(_text(file))
    except (ValueError, IndexError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"decode.language_model: '{path}' is no ARPA file: {error}\nname another file") from error


def _text(file: Path) -> str:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        return opened.read().decode("utf-8")


def from_arpa(text: str) -> LanguageModel:
    """
    Raises:
        ValueError: It is no such text.
    """
    weights: dict[NGram, Weight] = {}
    promised: dict[int, int] = {}
    held: Counter[int] = Counter()
    size = 0
    for line in _body(text):
        if count := _COUNT.fullmatch(line):
            promised[int(count[1])] = int(count[2])
            continue
        if line.startswith("\\"):
            size = int(line.strip("\\").removesuffix("-grams:"))
            continue
        if not size:
            raise ValueError(f"'{line[:60]}' is no count")
        number, *words = line.split()
        backoff = float(words.pop()) if len(words) > size else 0.0
        if len(words) != size:
            raise ValueError(f"the line '{line[:60]}' holds no {size} words")
        weights[tuple(words)] = Weight(float(number), backoff)
        held[size] += 1
    if not weights:
        raise ValueError("it has no n-grams")
    for each, number in promised.items():
        if held[each] != number:
            raise ValueError(f"it promises {number} n-grams of {each} and holds {held[each]}, as if it were damaged")
    unknown = next((ngram for ngram in ((UNKNOWN,), ("<UNK>",)) if ngram in weights), None)
    weights[(UNKNOWN,)] = weights[unknown] if unknown else Weight(IMPOSSIBLE)
    return LanguageModel(weights, max(held))


def _body(text: str) -> Iterator[str]:
    """The lines between the first and the last."""
    lines = iter(text.split("\n"))
    if not any(line.strip() == "\\data\\" for line in lines):
        raise ValueError("it has no line \\data\\")
    for line in lines:
        if line.strip() == "\\end\\":
            return
        if line.strip():
            yield line.strip()
    raise ValueError("it has no line \\end\\")
