"""Sequences of letters; a letter's tag says whether it occurs again."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from string import ascii_lowercase

import numpy as np

from zoo.contract import Item, Source
from zoo.specs import DataSpec

TAGS = ["once", "again"]
SHORTEST, LONGEST = 2, 24


class Sequences:
    """Items are texts; a target is one tag index a letter, or None for all of them."""

    def __init__(self, texts: Sequence[str], *, tagged: bool) -> None:
        self.texts, self.tagged = list(texts), tagged
        self.ids = [f"{index}-{text}" for index, text in enumerate(texts)]
        self.lengths = [len(text) for text in texts]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Item:
        text = self.texts[index]
        return Item(self.ids[index], text, tags_of(text) if self.tagged else None, {"length": len(text)})

    def fingerprint(self, index: int) -> str:
        return sha256(self.texts[index].encode()).hexdigest()


def tags_of(text: str) -> list[int]:
    counts = Counter(text)
    return [int(counts[letter] > 1) for letter in text]


def load_repeats(data: DataSpec) -> Source:
    """1,500 sequences without a test split: `data.test_fraction` takes it out."""
    rng = np.random.default_rng(0)
    letters = np.array(list(ascii_lowercase))
    texts = ["".join(rng.choice(letters, rng.integers(SHORTEST, LONGEST + 1))) for _ in range(1500)]
    return Source({"train": Sequences(texts, tagged=True)}, {"tags": TAGS})
