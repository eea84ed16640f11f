"""Transcriptions as they are trained on: normalised by a rule that the run stores, and spelt in symbols.

The rule: Unicode composed (NFC); curly apostrophes straight; small or large letters, if asked; what is neither letter,
mark, digit nor an apostrophe within a word becomes a blank, unless punctuation is kept; blanks in a row become one,
those at the ends none. Composition apart, only case and punctuation are lost, and only where they are dropped on
purpose.

Byte-pair encoding, here of characters: Sennrich et al. 2015, arXiv:1508.07909.
"""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

# Set before the library's threads start: loader workers are forked, and it would say so on every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from zoo.errors import UserError, listing
from zoo_speech.spec import HeadSpec

BLANK = 0
"""The symbol that CTC emits where nothing new is said, of symbols that are learnt."""
PUBLISHED = "published"
"""In place of symbols that are learnt: those that published weights come with."""
LISTED = 20
"""Characters that a message names."""
MARK = "▁"
"""Begins a word, in pieces."""

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})


def normalise(text: str, *, lowercase: bool, punctuation: bool, uppercase: bool = False) -> str:
    """A transcription by the rule above."""
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    if lowercase or uppercase:
        text = text.lower() if lowercase else text.upper()
    if not punctuation:
        kept = [False, *(in_word(each) for each in text), False]
        text = "".join(
            each if own or (each == "'" and before and after) else " "
            for each, before, own, after in zip(text, kept, kept[1:], kept[2:], strict=False)
        )
    return " ".join(text.split())


def in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def by_rule(text: str, head: HeadSpec) -> str:
    """A transcription as a model's head has it written."""
    return normalise(text, lowercase=head.lowercase, punctuation=head.punctuation, uppercase=head.uppercase)


class Symbols(Protocol):
    """What a model can say, by number.

    Args:
        texts: Of each symbol, the blank's being empty; a blank in front begins a word.
        blank: The number of CTC's blank.
    """

    texts: Sequence[str]
    blank: int

    def spell(self, text: str) -> list[int]:
        """The symbols of a text; characters that no symbol has are left out, since no model can say them."""
        ...


def write(symbols: Symbols, numbers: Sequence[int]) -> str:
    """The text of symbols; blanks in a row become one, those at the ends none."""
    return " ".join("".join(symbols.texts[number] for number in numbers).split())


def learn(texts: Sequence[str], head: HeadSpec) -> dict[str, Any]:
    """The symbols of normalised texts as a run stores them: `alphabet`, sorted characters, or `pieces`.

    Raises:
        UserError: The characters alone are more than are asked for.
    """
    characters = sorted({character for text in texts for character in text})
    if head.symbols == "characters":
        return {"alphabet": characters}
    least = len({*characters, MARK} - {" "}) + 1
    if head.max_symbols < least:
        raise UserError(
            f"head.max_symbols: the transcriptions have characters enough for {least}\nset it to that or more"
        )
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=head.max_symbols - 1,
        initial_alphabet=sorted({*characters, MARK} - {" "}),
        show_progress=False,
        special_tokens=[],
    )
    pieces.train_from_iterator(texts, trainer)
    return {"pieces": pieces.to_str()}


def stored(info: Mapping[str, Any]) -> Symbols:
    """The symbols that a run stores: `alphabet`, `pieces`, or, of published weights, `symbols`."""
    if "symbols" in info:
        return Alphabet(**info["symbols"])
    return Pieces(info["pieces"]) if "pieces" in info else Alphabet(["", *info["alphabet"]])


class Alphabet:
    """Characters and their symbols.

    Args:
        texts: Of each symbol a character; empty for the blank and for symbols that write nothing.
    """

    def __init__(self, texts: Sequence[str], blank: int = BLANK) -> None:
        self.texts, self.blank = texts, blank
        self._numbers = {character: number for number, character in enumerate(self.texts) if character}

    def spell(self, text: str) -> list[int]:
        return [self._numbers[character] for character in text if character in self._numbers]


class Pieces:
    """Pieces of words, as byte-pair encoding found them, and their symbols."""

    def __init__(self, tokenizer: str) -> None:
        self.blank = BLANK
        self._tokenizer = Tokenizer.from_str(tokenizer)
        numbers = self._tokenizer.get_vocab()
        self.texts: Sequence[str] = [
            "",
            *(piece.replace(MARK, " ") for piece in sorted(numbers, key=numbers.__getitem__)),
        ]

    def spell(self, text: str) -> list[int]:
        return [number + 1 for number in self._tokenizer.encode(text).ids]


def unwritable(texts: Iterable[str], symbols: Symbols) -> list[str]:
    """The characters of texts that no symbol has, sorted."""
    return sorted(set().union(*texts) - set().union(*symbols.texts))


def quoted(characters: Iterable[str]) -> str:
    """Characters as a message lists them."""
    return listing([repr(each) for each in characters], LISTED, " ")


def least_tokens(symbols: Sequence[int]) -> int:
    """The fewest tokens that can spell symbols by CTC: one each, and one between equal neighbours."""
    return len(symbols) + sum(one == other for one, other in pairwise(symbols))
