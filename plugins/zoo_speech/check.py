"""What can be wrong with transcribed recordings: `zoo data check` for a dataset or a folder of one's own."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.contract import Dataset, Finding, Source
from zoo.data import check as generic
from zoo.data.folder import walk
from zoo.errors import UserError, counted
from zoo_speech import audio
from zoo_speech.audio import Recording, Sound
from zoo_speech.spec import DecodeSpec, EmbedSpec, HeadSpec
from zoo_speech.writing import by_rule, least_tokens, quoted

CLIPPED = 0.999
"""Of the full scale; a recording is clipped where more than `CLIPPED_SHARE` of its samples lie beyond."""
CLIPPED_SHARE = 1e-3
SILENT_DB = -60.0
"""Loudness, root mean square against full scale, below which nothing is heard."""
RARE = 3
"""A character in fewer transcriptions than that is hardly learnt."""
USUAL = 0.9


@dataclass(frozen=True, slots=True)
class Look:
    """What a recording is at a glance; `problem` is why it cannot be used."""

    id: str
    text: str
    seconds: float = 0.0
    rates: tuple[int, ...] = ()
    loudness_db: float = 0.0
    clipped: float = 0.0
    problem: str = ""


def check(source: Source, embed: EmbedSpec, head: HeadSpec, decoding: DecodeSpec, root: Path | None) -> list[Finding]:
    """Everything found, what is worst first.

    Args:
        root: The folder, where the dataset is one: it may hold recordings that no list names.
    """
    looks = {split: _looks(dataset, head) for split, dataset in source.splits.items()}
    everything = [look for part in looks.values() for look in part]
    good = [look for look in everything if not look.problem]
    findings = [Finding("unreadable", look.problem, [look.id]) for look in everything if look.problem]
    findings += [Finding("reading", note, severity="note") for note in source.notes]
    broken = {look.id for look in everything if look.problem}
    findings += generic.check(source, broken, as_label=lambda text: by_rule(text or "", head))
    findings += [*_transcriptions(good, embed, head), *_strangers(looks), *_sound(good), *_rates(good, embed)]
    findings += _long([look for look in looks.get("train", ()) if not look.problem], decoding.window_seconds)
    if root is not None:
        listed = {name for dataset in source.splits.values() for name in dataset.ids} | source.problems.keys()
        others = [path.relative_to(root).as_posix() for path in sorted(walk(root, audio.SUFFIXES))]
        if left := [name for name in others if name not in listed]:
            message = f"{counted(len(left), 'recording')} without a transcription, passed over"
            findings.append(Finding("not listed", message, left, "warning"))
    return generic.by_severity(findings)


def _looks(dataset: Dataset, head: HeadSpec) -> list[Look]:
    def look(index: int) -> Look:
        item = dataset[index]
        text = by_rule(item.target or "", head)
        try:
            return _heard(item.id, text, item.inputs)
        except UserError as error:
            return Look(item.id, text, problem=str(error))

    with ThreadPoolExecutor() as pool:  # decoders let go of the interpreter lock
        return list(pool.map(look, range(len(dataset))))


def _heard(id: str, text: str, recording: Recording) -> Look:
    seconds, energy, size, clipped = 0.0, 0.0, 0, 0.0
    rates: set[int] = set()
    for blocks in _parts(recording):
        beyond, length = 0, 0
        for block, rate in blocks:
            beyond = beyond + (np.abs(block) >= CLIPPED).sum(0)
            length += len(block)
            size += block.size
            energy += float(np.vdot(block, block))
            seconds += len(block) / rate
            rates.add(rate)
        clipped = max(clipped, float(np.max(beyond)) / length)
    loudness_db = 10 * float(np.log10(max(energy / size, 1e-18)))
    return Look(id, text, seconds, tuple(sorted(rates)), loudness_db, clipped)


def _parts(recording: Recording) -> Iterator[Iterable[tuple[audio.Channels, int]]]:
    """What is heard one after another, each block by block: recordings may be long."""
    if isinstance(recording, Sound):
        yield [(recording.samples[:, None], recording.sample_rate_hz)]
        return
    assert not isinstance(recording, audio.Excerpt), "recordings are looked at whole"
    for path in recording if isinstance(recording, tuple) else (recording,):
        yield audio.blocks(path)


def about_long(seconds: Sequence[float], most: float) -> str:
    """A word on recordings of training that last longer than `most` seconds."""
    what = f"train: {counted(len(seconds), 'recording')} longer than {most:g} s, up to {max(seconds):.1f} s"
    return f"{what}; training hears them whole, in time that grows with the square of their length: cut them"


def _long(looks: Sequence[Look], most: float) -> Iterator[Finding]:
    if long := [look for look in looks if look.seconds > most]:
        message = about_long([look.seconds for look in long], most)
        yield Finding("long", message, [look.id for look in long], "warning")


def _transcriptions(looks: Sequence[Look], embed: EmbedSpec, head: HeadSpec) -> Iterator[Finding]:
    empty = [look.id for look in looks if not look.text]
    if empty:
        yield Finding("empty transcription", f"{counted(len(empty), 'recording')} with nothing said of them", empty)
    fast = [
        look.id
        for look in looks
        if head.symbols != "bpe"  # how many pieces there are is learnt in training
        and least_tokens([ord(each) for each in look.text])
        > embed.num_tokens(round(look.seconds * embed.sample_rate_hz))
    ]
    if fast:
        remedy = "lower embed.hop_ms, or look" if embed.front == "log_mel" else "look"
        message = f"the transcription is longer than the recording has tokens; {remedy} at both"
        yield Finding("too long", message, fast)


def _strangers(looks: dict[str, list[Look]]) -> Iterator[Finding]:
    """Characters that training does not see, or hardly."""
    seen = Counter(character for look in looks.get("train", ()) for character in set(look.text))
    for split in sorted(looks.keys() - {"train"}):
        strange = [look for look in looks[split] if seen and set(look.text) - set(seen)]
        if strange:
            characters = quoted(sorted({c for look in strange for c in look.text} - set(seen)))
            message = (
                f"{split}: characters that no transcription of train has, so that no model writes them: {characters}; "
                "move such recordings to train, or spell what is said otherwise"
            )
            yield Finding("outside the alphabet", message, [look.id for look in strange])
    rare = sorted(character for character, count in seen.items() if count < RARE)
    if rare:
        holding = [look.id for look in looks["train"] if set(look.text) & set(rare)]
        yield Finding(
            "rare characters", f"in fewer than {RARE} transcriptions of train: {quoted(rare)}", holding, "warning"
        )


def _sound(looks: Sequence[Look]) -> Iterator[Finding]:
    silent = [look.id for look in looks if look.loudness_db < SILENT_DB]
    if silent:
        yield Finding("silent", f"{counted(len(silent), 'recording')} below {SILENT_DB:.0f} dB of full scale", silent)
    clipped = [look.id for look in looks if look.clipped > CLIPPED_SHARE]
    if clipped:
        message = (
            f"{counted(len(clipped), 'recording')} with more than {CLIPPED_SHARE:.1%} of the samples at full scale"
        )
        yield Finding("clipped", message, clipped, "warning")


def _rates(looks: Sequence[Look], embed: EmbedSpec) -> Iterator[Finding]:
    rates = Counter(rate for look in looks for rate in set(look.rates))
    usual, count = rates.most_common(1)[0] if rates else (0, 0)
    if len(rates) > 1 and count >= USUAL * len(looks):
        odd = [look.id for look in looks if set(look.rates) != {usual}]
        yield Finding("odd rate", f"another sample rate than the others' {usual} Hz; resampled", odd, "warning")
    low = {look.id: max(look.rates) for look in looks if max(look.rates) < embed.sample_rate_hz}
    if low:
        message = (
            f"{counted(len(low), 'recording')} of fewer than embed.sample_rate_hz {embed.sample_rate_hz}: the upper "
            f"bands stay empty; set it to {min(low.values())}"
        )
        yield Finding("low rate", message, list(low), "warning")
