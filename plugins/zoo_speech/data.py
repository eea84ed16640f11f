"""Recordings and what is said in them, and the datasets that are known by name."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract import Dataset, Item, Source
from zoo.data.folder import find_files, hash_files, walk
from zoo.data.places import require
from zoo.data.seeding import seed_of
from zoo.data.table import read_sheet
from zoo.errors import UserError, counted
from zoo.specs import DataSpec
from zoo_speech import audio
from zoo_speech.audio import Recording
from zoo_speech.writing import normalise

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STRING_SIZES = {"train": 1500, "validation": 150, "test": 200}
VALIDATION_NUMBERS = range(5, 10)
"""Of the spoken digits that strings for validation are of: a string of recordings that training hears chooses badly."""
_IN_BRACKETS = re.compile(r"\[[^]]*\]|\([^)]*\)|<[^>]*>")


@dataclass(frozen=True, slots=True)
class Entry:
    """A recording and what is said in it; `group`, such as the speaker, is what a split may hold out."""

    id: str
    recording: Recording
    text: str | None
    group: str | None = None


class Recordings:
    """Recordings by entry; a target is a transcription.

    Args:
        lengths: Seconds of each.
    """

    def __init__(self, entries: Sequence[Entry], lengths: Sequence[float]) -> None:
        self.entries, self.lengths = entries, lengths
        self.ids: Sequence[str] = [entry.id for entry in entries]
        self.targets: Sequence[Any] = [entry.text for entry in entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Item:
        entry = self.entries[index]
        columns = {} if entry.group is None else {"group": entry.group}
        return Item(entry.id, entry.recording, entry.text, columns)

    @cached_property
    def _fingerprints(self) -> list[str]:
        parts = [_paths(entry.recording) for entry in self.entries]
        hashes = iter(hash_files([path for paths in parts for path in paths]))
        return ["-".join(next(hashes) for _ in paths) for paths in parts]

    def fingerprint(self, index: int) -> str:
        return self._fingerprints[index]


def _paths(recording: Recording) -> tuple[Path, ...]:
    assert not isinstance(recording, audio.Sound | audio.Excerpt), "entries are of files"
    return recording if isinstance(recording, tuple) else (recording,)


def _looked_at(entries: Sequence[Entry]) -> list[float | str]:
    """The seconds of each recording, by the headers of its files, or why it cannot be read."""

    def look(entry: Entry) -> float | str:
        try:
            return sum(audio.seconds_of(path) for path in _paths(entry.recording))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:  # most of it is waiting for the disk
        return list(pool.map(look, entries))


def make_source(parts: Mapping[str, Sequence[Entry]], data: DataSpec, notes: Sequence[str] = ()) -> Source:
    """The recordings of each split that can be read; with `data.holdout_group`, that group is test and no other is.

    Raises:
        UserError: There is no such group.
    """
    splits: dict[str, Dataset] = {}
    problems: dict[str, str] = {}
    for split, entries in _held_out(parts, data).items():
        looks = list(zip(entries, _looked_at(entries), strict=True))
        problems |= {entry.id: look for entry, look in looks if isinstance(look, str)}
        good = [(entry, look) for entry, look in looks if not isinstance(look, str)]
        splits[split] = Recordings([entry for entry, _ in good], [look for _, look in good])
    return Source(splits, notes=notes, problems=problems)


def to_hear(sources: Sequence[str]) -> Recordings:
    """Files that a user names, and those below folders, without transcriptions."""
    files = find_files(sources, audio.SUFFIXES)
    entries = [Entry(name, path, None) for name, path in zip(files.ids, files.paths, strict=True)]
    return Recordings(entries, [0.0 if isinstance(look, str) else look for look in _looked_at(entries)])


def _held_out(parts: Mapping[str, Sequence[Entry]], data: DataSpec) -> dict[str, Sequence[Entry]]:
    """With `data.holdout_group`, that group is test and no other is.

    Raises:
        UserError: There is no such group.
    """
    wanted = data.holdout_group
    if wanted is None:
        return dict(parts)
    entries = [entry for part in parts.values() for entry in part]
    groups = sorted({entry.group for entry in entries if entry.group is not None})
    if wanted not in groups:
        raise UserError(
            f"data.holdout_group: '{data.name}' has no group '{wanted}'\nits groups are: {', '.join(groups) or 'none'}"
        )
    kept = [entry for entry in entries if entry.group != wanted]
    return {"train": kept, "test": [entry for entry in entries if entry.group == wanted]}


# ---------------------------------------------------------------- datasets by name


def load_spoken_digits(data: DataSpec) -> Source:
    """3,000 recordings of digits by six speakers; those numbered 0 to 4 are the official test split."""
    return make_source(_digits(), data)


def _digits() -> dict[str, list[Entry]]:
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    for path in sorted(walk(require("spoken-digits"), (".wav",))):
        match = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)
        if match is not None:
            digit, speaker, number = match.groups()
            entry = Entry(path.name, path, DIGITS[int(digit)], speaker)
            parts["test" if int(number) < 5 else "train"].append(entry)
    if not parts["train"]:
        raise UserError(f"'{require('spoken-digits')}' has no recordings DIGIT_SPEAKER_NUMBER.wav\nfetch it again")
    return parts


def load_spoken_digit_strings(data: DataSpec) -> Source:
    """Three to seven spoken digits of one speaker, joined; those of test are of the official test split.

    No recording is in strings of two splits.
    """
    digits = _digits()
    parts: dict[str, list[Entry]] = {"train": [], "validation": [], "test": digits["test"]}
    for entry in digits["train"]:
        number = int(Path(entry.id).stem.rpartition("_")[2])
        parts["validation" if number in VALIDATION_NUMBERS else "train"].append(entry)
    return make_source({split: _strings(entries, split) for split, entries in parts.items()}, data)


def _strings(entries: Sequence[Entry], split: str) -> list[Entry]:
    by_speaker: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_speaker[str(entry.group)].append(entry)
    rng = np.random.Generator(np.random.PCG64(seed_of("strings", split)))
    speakers = sorted(by_speaker)
    found: list[Entry] = []
    for number in range(STRING_SIZES[split]):
        speaker = speakers[number % len(speakers)]
        own = by_speaker[speaker]
        chosen = [own[i] for i in rng.integers(len(own), size=int(rng.integers(3, 8)))]
        paths = tuple(path for entry in chosen for path in _paths(entry.recording))
        text = " ".join(str(entry.text) for entry in chosen)
        found.append(Entry(f"{split}-{number:05d}-{speaker}", paths, text, speaker))
    return found


def load_asterisk(data: DataSpec) -> Source:
    """568 telephone prompts by one woman; what is in square, round or angle brackets is not said.

    Of the distinct sentences, a seventh is test, by a hash of the sentence: no transcription is on both sides.
    """
    folder = require("asterisk-en")
    sheet = read_sheet(folder / "metadata.csv")
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    left_out = 0
    for row in sheet.rows:
        name = str(row.values["file_name"])
        text = _IN_BRACKETS.sub(" ", str(row.values["transcription"]))
        words = normalise(text, lowercase=True, punctuation=False)
        if not words:
            left_out += 1
            continue
        part = "test" if seed_of("asterisk", words) % 7 == 0 else "train"
        parts[part].append(Entry(name, folder / name, text))
    notes = [f"left out: {counted(left_out, 'recording')} of tones or silence"]
    return make_source(parts, data, notes)
