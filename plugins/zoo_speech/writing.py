"""Transcriptions as they are trained on: normalised by a rule that the run stores, and spelt in symbols.

The rule: Unicode composed (NFC); curly apostrophes straight; small letters, if asked; what is neither letter, mark,
digit nor an apostrophe within a word becomes a blank, unless punctuation is kept; blanks in a row become one, those at
the ends none. Composition apart, only case and punctuation are lost, and only where they are dropped on purpose.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from zoo_speech.spec import HeadSpec

BLANK = 0
"""The symbol that CTC emits where nothing new is said."""

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})


def normalise(text: str, *, lowercase: bool, punctuation: bool) -> str:
    """A transcription by the rule above."""
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    if lowercase:
        text = text.lower()
    if not punctuation:
        text = "".join(each if each == "'" or unicodedata.category(each)[0] in "LMN" else " " for each in text)
        text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return " ".join(text.split())


def by_rule(text: str, head: HeadSpec) -> str:
    """A transcription as a model's head has it written."""
    return normalise(text, lowercase=head.lowercase, punctuation=head.punctuation)


def learn_alphabet(texts: Sequence[str]) -> list[str]:
    """The characters of normalised texts, sorted; symbol i + 1 is the character i."""
    return sorted({character for text in texts for character in text})


class Alphabet:
    """Characters and their symbols."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = list(characters)
        self.symbols = {character: i for i, character in enumerate(characters, start=BLANK + 1)}

    def __len__(self) -> int:
        """Symbols, the blank among them."""
        return len(self.characters) + 1

    def spell(self, text: str) -> list[int]:
        """The symbols of a text; characters that the alphabet lacks are left out, since no model can say them."""
        return [self.symbols[character] for character in text if character in self.symbols]

    def write(self, symbols: Sequence[int]) -> str:
        return "".join(self.characters[symbol - 1] for symbol in symbols if symbol != BLANK)


def least_tokens(symbols: Sequence[int]) -> int:
    """The fewest tokens that can spell symbols by CTC: one each, and one between equal neighbours."""
    return len(symbols) + sum(one == other for one, other in pairwise(symbols))
