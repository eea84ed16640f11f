"""What can be wrong with labelled texts: `zoo data check` for a dataset or a table of one's own."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from zoo.contract import Finding, Source
from zoo.data import check as generic
from zoo.errors import UserError, counted
from zoo_text import tokenizer as tokenizers
from zoo_text.data import Texts, labels_of
from zoo_text.spec import EmbedSpec

RARE = 0.1
"""A label that is a typing error of another is at most this share as frequent."""
SEPARATORS = "|;,"
"""What may stand between labels in a cell."""
REPLACEMENT = "\ufffd"
CONTROL = re.compile("[\u0080-\u0084\u0086-\u009f]")
"""Characters of Windows-1252 that was once read as Latin-1; U+0085 is a line's end to some."""
MOJIBAKE = re.compile("Ã[\u0080-\u00bf]|â[\u0080-\u0082€‚]|Â[\u00a0-\u00bf]")
"""UTF-8 that was once read as Latin-1 or Windows-1252."""


class Entry(NamedTuple):
    """A text and where it stands."""

    split: str
    id: str
    text: str


def check(source: Source, embed: EmbedSpec) -> list[Finding]:
    """Everything found, what is worst first."""
    entries = [
        Entry(split, *pair)
        for split, dataset in source.splits.items()
        if isinstance(dataset, Texts)
        for pair in zip(dataset.ids, dataset.texts, strict=True)
    ]
    findings = [Finding("reading", note, severity="note") for note in source.notes]
    findings += generic.check(source)
    findings += [*_encoding(entries), *_near_leaks(entries), *_labels(source), *_long(entries, embed)]
    return generic.by_severity(findings)


def _encoding(entries: Sequence[Entry]) -> Iterator[Finding]:
    lost = [each.id for each in entries if REPLACEMENT in each.text]
    if lost:
        yield Finding("encoding", "characters were lost (U+FFFD) when the text was converted", lost, "warning")
    twice = [each.id for each in entries if MOJIBAKE.search(each.text)]
    if twice:
        yield Finding("encoding", "UTF-8 was read as Latin-1 once ('Ã©' for 'é'); convert it again", twice, "warning")
    if control := [each.id for each in entries if CONTROL.search(each.text) and not MOJIBAKE.search(each.text)]:
        message = "control characters, as where Windows-1252 was read as Latin-1; convert it again, or replace them"
        yield Finding("encoding", message, control, "warning")


def _near_leaks(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Texts of different splits that differ in case, punctuation or blanks only. Equal ones are another finding."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for each in entries:
        if key := _without_punctuation(each.text.casefold()):
            groups[key].append(each)
    near = [
        each.id
        for same in groups.values()
        if len({each.split for each in same}) > 1 and len({each.text.strip() for each in same}) > 1
        for each in same
    ]
    if near:
        message = f"{counted(len(near), 'text')} equal across splits but for case and punctuation; training keeps them"
        yield Finding("leak", message, near, "warning")


def _without_punctuation(text: str) -> str:
    kept = (each if unicodedata.category(each)[0] not in "PZC" else " " for each in text)
    return " ".join("".join(kept).split())


def _labels(source: Source) -> Iterator[Finding]:
    counts = label_counts(source)
    for rare, count in sorted(counts.items()):
        for other, more in counts.items():
            if rare != other and rare.casefold() == other.casefold() and (count, rare) < (more, other):
                yield Finding("label case", f"'{rare}' ({count}) and '{other}' ({more}) differ by case only")
            elif count <= RARE * more and _mistyped(rare, other):
                message = f"'{rare}' ({count}) may be a typing error of '{other}' ({more})"
                yield Finding("label typo", message, severity="warning")
    if found := joined_labels(source):
        yield Finding("several labels", found, severity="warning")


def label_counts(source: Source) -> Mapping[str, int]:
    """How many texts each class has, in all splits."""
    classes, counts = source.info["classes"], Counter[str]()
    for dataset in source.splits.values():
        targets: Sequence[Any] = dataset.targets if isinstance(dataset, Texts) else ()
        for target in targets:
            counts.update(classes[each] for each in (target if isinstance(target, list) else [target]))
    return counts


def joined_labels(source: Source) -> str | None:
    """A word on labels that another is part of, by the separator that parts the most."""
    if source.info["multi_label"]:
        return None
    labels = set(source.info["classes"])
    joined = {
        separator: [label for label in sorted(labels) if _is_joined(labels_of(label, separator), separator, labels)]
        for separator in SEPARATORS
    }
    separator = max(SEPARATORS, key=lambda each: len(joined[each]))
    if found := joined[separator]:
        return (
            f"{counted(len(found), 'label')} such as '{found[0]}' may be several; those of a table are parted by "
            f'--set "data.label_separator={separator}"; leave it where each is one'
        )
    return None


def _is_joined(parts: Sequence[str], separator: str, labels: Collection[str]) -> bool:
    """Some part is a label of its own; all are where a comma parts them, as it does within many a name."""
    known = [part in labels for part in parts]
    return len(parts) > 1 and (all(known) if separator == "," else any(known))


def _mistyped(name: str, other: str) -> bool:
    """One or, in longer names, two letters apart; names with digits are told apart on purpose."""
    if len(name) < 4 or any(letter.isdigit() for letter in name + other):
        return False
    return Levenshtein.distance(name.casefold(), other.casefold()) <= (1 if len(name) < 8 else 2)


def _long(entries: Sequence[Entry], embed: EmbedSpec) -> Iterator[Finding]:
    """Texts that lose their end, by the tokenizer that a training would learn from all of them."""
    if not entries:
        return
    texts = [each.text for each in entries]
    try:
        tokenizer = tokenizers.make(embed, texts)
    except UserError as error:
        yield Finding("tokenizer", str(error))
        return
    tokenizer.no_truncation()
    lengths = tokenizers.count_tokens(tokenizer, texts)
    long = [each.id for each, length in zip(entries, lengths, strict=True) if length > embed.max_tokens]
    if long:
        message = (
            f"{counted(len(long), 'text')} longer than embed.max_tokens {embed.max_tokens}, up to {max(lengths)} "
            "tokens; the end is cut off"
        )
        yield Finding("over-long", message, long, "warning")
