"""Long recordings in windows that overlap, so that memory does not grow with their length; and one again.

Of what two windows share each gives a half, so that what is said there is said once, with sound on both sides.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from zoo.contract import Dataset, Item, Parts
from zoo_speech.audio import Excerpt
from zoo_speech.decode import Scores
from zoo_speech.spec import DecodeSpec, EmbedSpec


class Windows:
    """A dataset whose long files are there window by window; a window's item has its tokens in `columns["window"]`.

    Args:
        beyond: Seconds that a token sees beyond the beginning of the next.
        shared: Tokens that a window shares with the next.
    """

    def __init__(self, dataset: Dataset, token_seconds: float, beyond: float, size: int, shared: int) -> None:
        assert dataset.lengths is not None
        self.dataset, self.token_seconds, self.beyond = dataset, token_seconds, beyond
        self.places: list[tuple[int, tuple[int, int] | None]] = []
        for position, seconds in enumerate(dataset.lengths):
            whole = np.floor if beyond else np.ceil  # a last, partial token counts, unless it wants more than there is
            count = int(whole(round((seconds - beyond) / token_seconds, 6)))
            if count > size and isinstance(dataset[position].inputs, Path):
                self.places += [(position, window) for window in cut(count, size, shared)]
            else:
                self.places.append((position, None))
        self.whole: Sequence[int] = [position for position, _ in self.places]
        self.ids: Sequence[str] = [self._id(*place) for place in self.places]
        self.lengths: Sequence[float] = [
            dataset.lengths[position] if window is None else (window[1] - window[0]) * token_seconds
            for position, window in self.places
        ]

    def _id(self, position: int, window: tuple[int, int] | None) -> str:
        name = self.dataset.ids[position]
        return name if window is None else f"{name} from {window[0] * self.token_seconds:.2f} s"

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        position, window = self.places[index]
        item = self.dataset[position]
        if window is None:
            return item
        begin, end = window
        excerpt = Excerpt(item.inputs, begin * self.token_seconds, end * self.token_seconds + self.beyond)
        return Item(self.ids[index], excerpt, item.target, {**item.columns, "window": end - begin})

    def fingerprint(self, index: int) -> str:
        position, window = self.places[index]
        return f"{self.dataset.fingerprint(position)} {window}"


def windowed(dataset: Dataset, embed: EmbedSpec, decode: DecodeSpec) -> Parts:
    """A dataset in windows of the lengths that a spec asks for."""
    beyond = embed.samples_beyond / embed.sample_rate_hz
    windows = Windows(dataset, embed.token_seconds, beyond, *_sizes(embed, decode))
    return Parts(windows, windows.whole)


def stitch(parts: Sequence[Scores], embed: EmbedSpec, decode: DecodeSpec) -> Scores:
    """The scores of a recording from those of its windows."""
    _, shared = _sizes(embed, decode)
    before, after = shared // 2, shared - shared // 2
    ends = [len(part) - after for part in parts[:-1]]
    begins = [0, *(before for _ in parts[1:])]
    return np.concatenate([part[i:j] for part, i, j in zip(parts, begins, [*ends, len(parts[-1])], strict=True)])


def cut(count: int, size: int, shared: int) -> list[tuple[int, int]]:
    """First token and end of each window over `count` tokens."""
    starts = list(range(0, max(count - shared, 1), size - shared))
    assert all(after - before == size - shared for before, after in pairwise(starts))
    return [(start, min(start + size, count)) for start in starts]


def _sizes(embed: EmbedSpec, decode: DecodeSpec) -> tuple[int, int]:
    """Tokens of a window, and those that it shares with the next."""
    size = max(2, round(decode.window_seconds / embed.token_seconds))
    return size, min(round(decode.overlap_seconds / embed.token_seconds), size // 2)
