"""When each word is said: the likeliest alignment of a known text with the scores, and subtitles made from it.

Forced alignment: Kürzinger et al. 2020, arXiv:2007.09127, section 2, by torchaudio.
"""

import html
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torchaudio.functional import forced_align

from zoo_speech.decode import Found, Scores
from zoo_speech.writing import Symbols

LINE = 42
"""Characters of a subtitle's line at most, where its words allow; a subtitle has two."""
PAUSE_SECONDS = 1.0
"""Ends a subtitle."""
STRETCH = 500
"""Tokens that are aligned at a time, at least."""
LONGEST_SECONDS = 7.0
"""Of a subtitle."""


class Word(NamedTuple):
    """A word and when it is said, in seconds from the beginning."""

    text: str
    start: float
    end: float


def align(scores: Scores, found: Found, symbols: Symbols, token_seconds: float) -> list[Word]:
    """When the words are said that some symbols write.

    Args:
        found: Symbols that `scores` has tokens enough for.
        token_seconds: How long a token lasts.
    """
    words: list[Word] = []
    for number, (first, last) in zip(found.symbols, _spans(scores, found, symbols), strict=True):
        before, blank, after = symbols.texts[number].rpartition(" ")
        start, end = round(first * token_seconds, 3), round((last + 1) * token_seconds, 3)
        assert not before, "a symbol holds no two words"
        if blank or not words:
            words.append(Word("", start, end))
        if after:
            text = words[-1].text
            words[-1] = Word(text + after, words[-1].start if text else start, end)
    return [word for word in words if word.text]


def _spans(scores: Scores, found: Found, symbols: Symbols) -> Iterator[tuple[int, int]]:
    """First and last token of each symbol, by the likeliest path.

    It is sought in stretches, of whole words where these are not too far apart, since memory grows with symbols times
    tokens.
    """
    ends, cuts = [0], [0]  # of stretches: by symbol, and by token
    for index, (number, place) in enumerate(zip(*found, strict=True)):
        length = place - cuts[-1]
        if length >= 2 * STRETCH or (length >= STRETCH and symbols.texts[number].startswith(" ")):
            ends.append(index)
            before = found.places[index - 1] if index else -1
            cuts.append((before + place + 1) // 2)
    ends.append(len(found.symbols))
    cuts.append(len(scores))
    for (begin, end), (start, stop) in zip(pairwise(ends), pairwise(cuts), strict=True):
        if begin < end:
            likeliest = _likeliest(scores[start:stop], found.symbols[begin:end], symbols.blank)
            yield from ((start + i, start + j) for i, j in likeliest)


def _likeliest(scores: Scores, numbers: Sequence[int], blank: int) -> Iterator[tuple[int, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchaudio announces that it will do less
        path = forced_align(torch.from_numpy(scores)[None], torch.tensor([numbers]), blank=blank)[0][0].numpy()
    changes = np.flatnonzero(np.diff(path, prepend=-1, append=-1))
    for first, end in pairwise(changes):
        if path[first] != blank:
            yield int(first), int(end) - 1


def subtitles(words: Sequence[Word]) -> list[Word]:
    """Words put together that are shown at a time, on up to two lines."""
    shown: list[list[Word]] = []
    for word in words:
        if shown:
            text = " ".join([*(each.text for each in shown[-1]), word.text])
            pause, length = word.start - shown[-1][-1].end, word.end - shown[-1][0].start
            if pause < PAUSE_SECONDS and length <= LONGEST_SECONDS and lines(text).count("\n") <= 1:
                shown[-1].append(word)
                continue
        shown.append([word])
    return [Word(lines(" ".join(each.text for each in part)), part[0].start, part[-1].end) for part in shown]


def lines(text: str) -> str:
    """A text in lines as long as a subtitle has them."""
    found = [""]
    for word in text.split():
        longer = f"{found[-1]} {word}".strip()
        if len(longer) <= LINE or not found[-1]:
            found[-1] = longer
        else:
            found.append(word)
    return "\n".join(found)


def to_srt(words: Sequence[Word]) -> str:
    """SubRip."""
    return as_srt(subtitles(words))


def to_vtt(words: Sequence[Word]) -> str:
    """WebVTT."""
    return as_vtt(subtitles(words))


def as_srt(shown: Sequence[Word]) -> str:
    """SubRip, of what is shown at a time."""
    return "".join(
        f"{number}\n{_clock(each.start, ',')} --> {_clock(each.end, ',')}\n{each.text}\n\n"
        for number, each in enumerate(shown, start=1)
    )


def as_vtt(shown: Sequence[Word]) -> str:
    """WebVTT, likewise."""
    return "WEBVTT\n\n" + "".join(
        f"{_clock(each.start, '.')} --> {_clock(each.end, '.')}\n{html.escape(each.text, quote=False)}\n\n"
        for each in shown
    )


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
