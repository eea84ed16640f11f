"""Words keyed in Morse: generated sound, and said to be, with drawn speed, pitch, timing, fading and noise.

International Morse code: ITU-R M.1677-1. A dot is one unit, a dash three; one unit parts the signs of a letter, three
parts letters, seven parts words. At w words a minute ("PARIS") a unit is 1.2 / w seconds.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from zoo.contract import Item, Source
from zoo.data.places import package_file
from zoo.data.seeding import seed_of
from zoo.errors import UserError
from zoo.specs import DataSpec
from zoo_speech.audio import Samples, Sound

CODE = {
    "a": ".-", "b": "-...", "c": "-.-.", "d": "-..", "e": ".", "f": "..-.", "g": "--.", "h": "....", "i": "..",
    "j": ".---", "k": "-.-", "l": ".-..", "m": "--", "n": "-.", "o": "---", "p": ".--.", "q": "--.-", "r": ".-.",
    "s": "...", "t": "-", "u": "..-", "v": "...-", "w": ".--", "x": "-..-", "y": "-.--", "z": "--..",
}  # fmt: skip
SAMPLE_RATE_HZ = 8000
SIZES = {"train": 20_000, "validation": 300, "test": 500}
MOST_WORDS = 2
WORDS_A_MINUTE = (15.0, 30.0)
PITCH_HZ = (400.0, 900.0)
SNR_DB = (0.0, 20.0)
"""Power of the tone while the key is down against that of the white noise, over the whole band."""
JITTER = 0.05
"""Deviation of each duration, as a share of it."""
RISE_SECONDS = 0.005
PLACE = re.compile(r"morse:snr=(-?\d+(?:\.\d+)?)")


def load_morse(data: DataSpec) -> Source:
    """20,000 utterances of one or two English words to train on, 500 to test on; ``morse:snr=DB`` fixes the noise."""
    match = PLACE.fullmatch(data.name)
    if match is None and data.name != "morse":
        raise UserError(f"'{data.name}' is no place of Morse\nwrite morse, or morse:snr=DB such as morse:snr=-5")
    snr_db = None if match is None else float(match[1])
    return Source({split: Keyed(split, size, snr_db) for split, size in SIZES.items()})


class Keyed:
    """Utterances, each a function of its split and number."""

    def __init__(self, split: str, size: int, snr_db: float | None = None) -> None:
        words = _words()
        self.split, self.snr_db = split, snr_db
        self.ids: Sequence[str] = [f"morse-{split}-{i:05d}" for i in range(size)]
        self.targets: Sequence[str] = [_draw_text(words, self._rng("text", i)) for i in range(size)]
        self.lengths: Sequence[float] = [float(self._marks(i)[-1]) for i in range(size)]

    def _rng(self, what: str, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(seed_of("morse", what, self.split, index)))

    def _marks(self, index: int) -> np.ndarray:
        return key(self.targets[index], self._rng("timing", index))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        samples = tone(self._marks(index), self._rng("sound", index), self.snr_db)
        return Item(self.ids[index], Sound(samples, SAMPLE_RATE_HZ), self.targets[index])

    def fingerprint(self, index: int) -> str:
        return hashlib.blake2b(f"{self.ids[index]} {self.targets[index]}".encode(), digest_size=16).hexdigest()


def _words() -> list[str]:
    """English words of two to nine letters, from the definitions in timm's package data."""
    path = package_file("timm", "data/_info/imagenet_synset_to_definition.txt")
    return sorted(set(re.findall(r"\b[a-z]{2,9}\b", path.read_text(encoding="utf-8").lower())))


def _draw_text(words: Sequence[str], rng: np.random.Generator) -> str:
    chosen: list[int] = rng.integers(len(words), size=int(rng.integers(1, MOST_WORDS + 1))).tolist()
    return " ".join([words[i] for i in chosen])


def key(text: str, rng: np.random.Generator) -> np.ndarray:
    """When the key goes down and up, by turns, in seconds; the last is the end of the recording."""
    unit = 1.2 / rng.uniform(*WORDS_A_MINUTE)
    durations = [rng.uniform(1, 7)]
    for word in text.split(" "):
        for letter in word:
            for sign in CODE[letter]:
                durations += [1.0 if sign == "." else 3.0, 1.0]
            durations[-1] = 3.0
        durations[-1] = 7.0
    durations[-1] = rng.uniform(1, 7)
    drawn = np.array(durations) * np.clip(rng.normal(1, JITTER, len(durations)), 0.7, 1.3)
    return np.cumsum(unit * drawn)


def tone(marks: np.ndarray, rng: np.random.Generator, snr_db: float | None) -> Samples:
    """The sound of a keyed tone that fades, in noise."""
    snr_db = rng.uniform(*SNR_DB) if snr_db is None else snr_db
    pitch, depth, rate = rng.uniform(*PITCH_HZ), rng.uniform(0, 0.7), rng.uniform(0.05, 0.5)
    phases = rng.uniform(0, 2 * np.pi, 2)
    time = np.arange(round(marks[-1] * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    down = (np.searchsorted(marks, time, side="right") % 2).astype(float)
    width = max(1, round(RISE_SECONDS * SAMPLE_RATE_HZ))
    rising = np.cumsum(down - np.concatenate([np.zeros(width), down[:-width]])) / width
    fading = 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate * time + phases[0]))
    noise = rng.standard_normal(len(time), dtype=np.float32) * np.float32(np.sqrt(0.5 / 10 ** (snr_db / 10)))
    sound = (rising * fading * np.sin(2 * np.pi * pitch * time + phases[1])).astype(np.float32) + noise
    return 0.5 * sound / np.abs(sound).max()
