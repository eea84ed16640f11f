"""Of strings: word and character error rates, by the Levenshtein distance that `rapidfuzz` computes.

Word error rate: (substitutions + deletions + insertions) / words of the references, over all of them together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from zoo.contract import Measures, Record, Statistic, Table
from zoo.metrics.intervals import mean

NUM_WORST = 20


class Edits(NamedTuple):
    """What turns a reference into a hypothesis, in words or characters, and how many of those the reference has."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """The fewest edits between two sequences, such as lists of words or strings of characters."""
    kinds = [edit.tag for edit in Levenshtein.editops(reference, hypothesis)]
    return Edits(kinds.count("replace"), kinds.count("delete"), kinds.count("insert"), len(reference))


def transcripts(records: Sequence[Record]) -> Measures:
    """Word and character error rate, with the shares of substitutions, deletions and insertions; whole ones right.

    Args:
        records: In any order; `prediction` and `target` are normalised strings.
    """
    records = sorted(records, key=lambda record: record.id)
    pairs = [(record.target, record.prediction) for record in records]
    words = [edits(target.split(), prediction.split()) for target, prediction in pairs]
    characters = [edits(target, prediction) for target, prediction in pairs]
    statistics: dict[str, Statistic] = {
        "wer": _rate(words, "errors"),
        "cer": _rate(characters, "errors"),
        **{f"word_{kind}": _rate(words, kind) for kind in ("substitutions", "deletions", "insertions")},
        "exact_match": mean(np.array([target == prediction for target, prediction in pairs])),
    }
    worst = sorted(range(len(records)), key=lambda i: (-words[i].errors, -characters[i].errors, records[i].id))
    rows = [(records[i].id, words[i].errors, *pairs[i]) for i in worst[:NUM_WORST] if characters[i].errors]
    return Measures(
        "wer",
        statistics,
        higher_is_better=False,
        tables={"worst": Table(("item", "word errors", "reference", "said by the model"), rows)},
    )


def _rate(counts: Sequence[Edits], kind: str) -> Statistic:
    found = np.array([getattr(each, kind) for each in counts], dtype=float)
    lengths = np.array([each.length for each in counts], dtype=float)
    return lambda weights: float(weights @ found / max(weights @ lengths, 1.0))
