"""Where recordings come from: folders with a list of transcriptions, spoken digits, telephone prompts, Morse."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract import Item, Source
from zoo.data.folder import SPLIT_FOLDERS, hash_files, walk
from zoo.data.places import require
from zoo.data.seeding import seed_of
from zoo.data.table import SUFFIXES as TABLES
from zoo.data.table import pick_column, read_sheet
from zoo.errors import UserError, counted
from zoo.files import user_path
from zoo.specs import DataSpec
from zoo_speech import audio, morse
from zoo_speech.audio import Recording

PLACES = "the path of a folder with a metadata.csv (file_name,transcription), or of such a table"
FILE_COLUMNS = ("file_name", "file", "path", "audio", "audio_filepath", "wav", "filename")
TEXT_COLUMNS = ("transcription", "transcript", "text", "sentence", "normalized_text")
GROUP_COLUMNS = ("speaker", "speaker_id", "client_id", "group")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STRING_SIZES = {"train": 1500, "test": 200}


@dataclass(frozen=True, slots=True)
class Entry:
    """A recording and what is said in it; `group`, such as the speaker, is what a split may hold out."""

    id: str
    recording: Recording
    text: str | None
    group: str | None = None


class Recordings:
    """Recordings by entry; a target is a transcription. Lengths are seconds, by the files' headers."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.ids: Sequence[str] = [entry.id for entry in entries]
        self.targets: Sequence[Any] = [entry.text for entry in entries]

    @property
    def lengths(self) -> Sequence[float]:
        return self._lengths

    @cached_property
    def _lengths(self) -> list[float]:
        return [sum(_seconds(path) for path in _paths(entry.recording)) for entry in self.entries]

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
    assert not isinstance(recording, audio.Sound), "entries are of files"
    return recording if isinstance(recording, tuple) else (recording,)


def _seconds(path: Path) -> float:
    """0 where the file cannot be read, which is told when it is."""
    try:
        return audio.look(path).seconds
    except UserError:
        return 0.0


# ---------------------------------------------------------------- places


def load_place(data: DataSpec) -> Source:
    """A folder with a list of transcriptions, perhaps one for each split below it, or the list itself.

    Raises:
        UserError: It is none, or names files that are not there.
    """
    if data.name.startswith("morse:"):
        return morse.load_morse(data)
    path = user_path(data.name)
    if path.is_file():
        return _source({"train": path}, data)
    if not path.is_dir():
        raise UserError(f"there is no folder or file '{path}'\ngive {PLACES}")
    if (own := _list_in(path)) is not None:
        return _source({"train": own}, data)
    lists: dict[str, Path] = {}
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        split, found = SPLIT_FOLDERS.get(folder.name.lower()), _list_in(folder)
        if split is not None and found is not None:
            lists[split] = found
    if "train" not in lists:
        raise UserError(f"'{path}' has no list of transcriptions\nadd a metadata.csv with file_name,transcription")
    return _source(lists, data)


def _list_in(folder: Path) -> Path | None:
    names = [f"{stem}{suffix}" for stem in ("metadata", "manifest") for suffix in TABLES]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _source(lists: Mapping[str, Path], data: DataSpec) -> Source:
    parts: dict[str, list[Entry]] = defaultdict(list)
    notes: list[str] = []
    for split, path in lists.items():
        for part, entries in _read_list(path, split, data, notes).items():
            parts[part] += entries
    return Source({split: Recordings(entries) for split, entries in _held_out(parts, data).items()}, notes=notes)


def _read_list(path: Path, split: str, data: DataSpec, notes: list[str]) -> dict[str, list[Entry]]:
    sheet = read_sheet(path)
    file = pick_column(sheet, FILE_COLUMNS)
    text = pick_column(sheet, TEXT_COLUMNS, asked=data.text_column, key="data.text_column", taken=file)
    notes.append(f"'{path.name}': files are of column '{file}', transcriptions of column '{text}'")
    group = next((name for name in sheet.columns if name.lower() in GROUP_COLUMNS), None)
    parts: dict[str, list[Entry]] = defaultdict(list)
    missing: list[str] = []
    for row in sheet.rows:
        name, said = str(row.values.get(file) or ""), row.values.get(text)
        where = path.parent / name
        if not name or not where.is_file():
            missing.append(f"{path.name}:{row.line} '{name}'")
            if data.on_error == "skip":
                continue
        part = SPLIT_FOLDERS.get(str(row.values.get("split") or "").lower(), split)
        speaker = None if group is None else str(row.values.get(group))
        parts[part].append(Entry(name, where, None if said is None else str(said), speaker))
    if missing:
        told = f"{counted(len(missing), 'file')} that '{path}' names are missing: {', '.join(missing[:10])}"
        if data.on_error == "stop":
            raise UserError(f"{told}\nput them there, or pass --set data.on_error=skip to go on without them")
        notes.append(f"left out: {told}")
    return parts


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
    return Source({split: Recordings(part) for split, part in _held_out(_digits(), data).items()})


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
    """Three to seven spoken digits of one speaker, joined; those of test are of the official test split."""
    parts = {split: _strings(entries, split) for split, entries in _digits().items()}
    return Source({split: Recordings(part) for split, part in _held_out(parts, data).items()})


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
    """568 telephone prompts by one woman; what is in square brackets is no speech and left out.

    Of the distinct sentences, a seventh is test, by a hash of the sentence: no transcription is on both sides.
    """
    folder = require("asterisk-en")
    sheet = read_sheet(folder / "metadata.csv")
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    left_out = 0
    for row in sheet.rows:
        name, text = str(row.values["file_name"]), str(row.values["transcription"])
        if text.strip().startswith("["):
            left_out += 1
            continue
        words = " ".join(re.findall(r"[\w']+", text.lower()))
        part = "test" if seed_of("asterisk", words) % 7 == 0 else "train"
        parts[part].append(Entry(name, folder / name, text))
    notes = [f"left out: {counted(left_out, 'recording')} of tones or silence"]
    return Source({split: Recordings(entries) for split, entries in parts.items()}, notes=notes)
