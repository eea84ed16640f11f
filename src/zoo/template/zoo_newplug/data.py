"""Where items come from. These are generated, and the same each time; yours may be read from files."""

from collections import Counter
from hashlib import sha256
from string import ascii_lowercase

import numpy as np
from zoo.contract import Item, Source
from zoo.specs import DataSpec

NUM_SYMBOLS = 8
SHORTEST, LONGEST = 8, 32


class Sequences:
    """Sequences of letters, each with the index of its most frequent one, or None where that is not known.

    Args:
        ids: What each is called; its position when None.
    """

    def __init__(self, texts: list[str], targets: list[int | None], ids: list[str] | None = None) -> None:
        self.texts, self.targets = texts, targets
        self.ids = ids or [str(index) for index in range(len(texts))]
        self.lengths = [len(text) for text in texts]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Item:
        return Item(self.ids[index], self.texts[index], self.targets[index])

    def fingerprint(self, index: int) -> str:
        return sha256(self.texts[index].encode()).hexdigest()


def load_generated(data: DataSpec) -> Source:
    """2,000 sequences to train on and 500 to test."""
    classes = list(ascii_lowercase[:NUM_SYMBOLS])
    return Source({"train": generate(2000, seed=0), "test": generate(500, seed=1)}, {"classes": classes})


def generate(count: int, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    while len(texts) < count:
        text = "".join(ascii_lowercase[i] for i in rng.integers(NUM_SYMBOLS, size=rng.integers(SHORTEST, LONGEST + 1)))
        (_, most), (_, second) = Counter(text).most_common(2)
        if most > second:
            texts.append(text)
    return Sequences(texts, [ascii_lowercase.index(Counter(text).most_common(1)[0][0]) for text in texts])
