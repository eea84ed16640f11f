"""Datasets as they come unpacked, known by how their folders look.

LJSpeech: Ito and Johnson 2017; LibriSpeech: Panayotov et al. 2015; Speech Commands: Warden 2018, arXiv:1804.03209;
YESNO: openslr.org/1.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.data.folder import subfolders, walk
from zoo.data.table import read_text
from zoo.errors import UserError
from zoo_speech.data import Entry

YES_NO = re.compile(r"[01](_[01]){7}\.wav")
SUBSETS = {"train": "train", "dev": "validation", "test": "test"}
"""By how the names of LibriSpeech's subsets begin."""


class Found(NamedTuple):
    """The recordings of each split, and what the reader should know."""

    parts: Mapping[str, Sequence[Entry]]
    note: str


def recognise(root: Path) -> Found | None:
    """The recordings of a folder without a list of its own that one of these datasets lies in."""
    return librispeech(root) or speech_commands(root) or yes_no(root)


def lj_speech(root: Path) -> Found | None:
    """``metadata.csv`` with ``name|text|normalised text``, no header, and ``wavs/name.wav``.

    Raises:
        UserError: Only some of its lines are such.
    """
    table = root / "metadata.csv"
    if not table.is_file() or not (root / "wavs").is_dir():
        return None
    lines = [line.strip() for line in read_text(table).split("\n") if line.strip()]
    first = lines[0].split("|") if lines else []
    if len(first) not in (2, 3) or not (root / "wavs" / f"{first[0]}.wav").is_file():
        return None
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        name, bar, texts = line.partition("|")
        if not bar:
            raise UserError(f"metadata.csv:{number}: no | between the name and the text, as LJSpeech has it\nmend it")
        entries.append(Entry(f"wavs/{name}.wav", root / "wavs" / f"{name}.wav", texts.rpartition("|")[2]))
    return Found({"train": entries}, "read as LJSpeech: the last column of 'metadata.csv' is the transcription")


def librispeech(root: Path) -> Found | None:
    """``[SUBSET/]SPEAKER/CHAPTER/*.trans.txt`` with ``name TEXT``, and ``name.flac`` beside it."""
    parts: dict[str, list[Entry]] = defaultdict(list)
    for table in sorted(walk(root, (".txt",))):
        if not table.name.endswith(".trans.txt"):
            continue
        folder = table.parent
        subset = folder.parent.parent.name
        split = SUBSETS.get(re.split(r"[-_]", subset)[0], "train") if folder.parent.parent != root else "train"
        for line in read_text(table).split("\n"):
            name, _, text = line.strip().partition(" ")
            if name:
                path = folder / f"{name}.flac"
                parts[split].append(Entry(path.relative_to(root).as_posix(), path, text, folder.parent.name))
    return Found(parts, "read as LibriSpeech: subsets are splits by how their names begin") if parts else None


def speech_commands(root: Path) -> Found | None:
    """``WORD/SPEAKER_nohash_N.wav``; those that are not to train on stand in two lists."""
    lists = {"validation": root / "validation_list.txt", "test": root / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return None
    splits = {line.strip(): split for split, path in lists.items() for line in read_text(path).split("\n")}
    parts: dict[str, list[Entry]] = defaultdict(list)
    for folder in subfolders(root):
        if folder.name.startswith("_"):  # background noise
            continue
        for path in sorted(walk(folder, (".wav",))):
            name = path.relative_to(root).as_posix()
            speaker = path.name.partition("_nohash_")[0]
            parts[splits.get(name, "train")].append(Entry(name, path, folder.name, speaker))
    return Found(parts, "read as Speech Commands: a folder's name is its word") if parts else None


def yes_no(root: Path) -> Found | None:
    """``0_1_0_0_1_1_0_1.wav``: eight words each, of which 1 is yes and 0 is no."""
    paths = sorted(walk(root, (".wav",)))
    if not paths or not all(YES_NO.fullmatch(path.name) for path in paths):
        return None
    entries = [Entry(path.relative_to(root).as_posix(), path, " ".join(_yes_no(path.stem))) for path in paths]
    return Found({"train": entries}, "read as YESNO: a file's name is what is said")


def _yes_no(name: str) -> Iterator[str]:
    return ("yes" if digit == "1" else "no" for digit in name.split("_"))
