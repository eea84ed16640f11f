"""Sequences of letters; a letter's tag says whether it is high or low among those of its sequence."""

from collections.abc import Sequence
from hashlib import sha256
from string import ascii_lowercase

import numpy as np
from zoo.contract import Item, Source
from zoo.specs import DataSpec

TAGS = ["low", "high"]
SHORTEST, LONGEST, RANGE = 2, 24, 10


class Sequences:
    """Items are texts; a target is one tag index a letter, or None for all of them."""

    def __init__(self, texts: Sequence[str], *, tagged: bool) -> None:
        self.texts, self.tagged = list(texts), tagged
        self.ids = [f"{index}-{text}" for index, text in enumerate(texts)] if tagged else self.texts
        self.lengths = [len(text) for text in texts]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Item:
        text = self.texts[index]
        return Item(self.ids[index], text, tags_of(text) if self.tagged else None, {"length": len(text)})

    def fingerprint(self, index: int) -> str:
        return sha256(self.texts[index].encode()).hexdigest()


def tags_of(text: str) -> list[int]:
    places = [ascii_lowercase.index(letter) for letter in text]
    return [int(place * len(places) > sum(places)) for place in places]


def load_highlow(data: DataSpec) -> Source:
    """1,500 sequences, each of neighbouring letters; without a test split: `data.test_fraction` takes it out."""
    rng = np.random.default_rng(0)
    texts: list[str] = []
    for _ in range(1500):
        lowest, length = rng.integers(26 - RANGE + 1), rng.integers(SHORTEST, LONGEST + 1)
        texts.append("".join(ascii_lowercase[lowest + i] for i in rng.integers(RANGE, size=length)))
    return Source({"train": Sequences(texts, tagged=True)}, {"tags": TAGS})
