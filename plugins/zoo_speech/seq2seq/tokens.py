"""Transcriptions as tokens, and what a model is told before it writes: its prompt. Both come with the weights.

A run stores them as `info`: ``tokenizer``, as a tokenizer.json has it, and ``generation``, numbers of special tokens.
Without weights both are learnt here: byte-pair encoding of bytes (Sennrich et al. 2015, arXiv:1508.07909), and no
languages, tasks or times, since transcriptions tell none.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Set before the library's threads start: loader workers are forked, and it would say so on every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from zoo.errors import UserError, did_you_mean, listing
from zoo_speech.seq2seq.spec import WritingSpec

START, END, NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
TOKENIZER_FILE = "tokenizer.json"
GENERATION_FILE = "generation_config.json"
INFO = ("tokenizer", "generation")
"""What a run stores."""


class Tokens:
    """A tokenizer, and the numbers of its special tokens.

    Args:
        info: As above.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.tokenizer = Tokenizer.from_str(info["tokenizer"])
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True  # what is transcribed so was said so
        special: Mapping[str, Any] = info["generation"]
        self.start: int = special["start"]
        self.end: int = special["end"]
        self.no_times: int | None = special["no_times"]
        self.languages: Mapping[str, int] = special["languages"]
        self.tasks: Mapping[str, int] = special["tasks"]
        self.suppressed: Sequence[int] = special["suppressed"]
        self.suppressed_first: Sequence[int] = special["suppressed_first"]
        self.latest_first_time: int | None = special["latest_first_time"]

    @property
    def first_time(self) -> int | None:
        """The token of the window's beginning, which all later ones follow; None where the model knows no times."""
        return None if self.no_times is None else self.no_times + 1

    def num_rows(self, given: int | None) -> int:
        """Rows of a table with one for each token.

        Args:
            given: Those that the weights have.

        Raises:
            UserError: They are too few.
        """
        ids = [*self.tokenizer.get_vocab().values(), *self.languages.values(), *self.tasks.values()]
        needed = max(*ids, self.start, self.end, self.no_times or 0) + 1
        if given is not None and needed > given:
            raise UserError(
                f"the tokenizer gives {needed:,} ids, but the weights have vectors for {given:,}\n"
                f"put the {TOKENIZER_FILE} that was published with the weights beside them"
            )
        return given or needed

    def spell(self, text: str) -> list[int]:
        """The tokens of a text, which begins with a blank, as published models have it."""
        return self.tokenizer.encode(f" {text}", add_special_tokens=False).ids

    def write(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones and times."""
        known = [each for each in tokens if self.first_time is None or each < self.first_time]
        return " ".join(self.tokenizer.decode(known, skip_special_tokens=True).split())

    def language(self, decode: WritingSpec) -> int | None:
        """The token of the language that is asked for; None where none is, or the model knows but one.

        Raises:
            UserError: The model does not know it.
        """
        asked = decode.language
        if asked is None:
            return None
        if not self.languages:
            raise UserError(f"decode.language '{asked}': the model knows no languages apart\nleave it out")
        found = self.languages.get(asked.strip("<|>").lower())
        if found is None:
            known = listing(sorted(self.languages), 12)
            raise UserError(
                f"decode.language: the model has no '{asked}'{did_you_mean(asked.lower(), self.languages)}\n"
                f"it knows {known}"
            )
        return found

    def prompt(self, language: int | None, task: str, *, times: bool) -> list[int]:
        """What stands before all that is written.

        Args:
            language: Its token; None where there is none, as for a model of one language.

        Raises:
            UserError: The model does not know the task, or no times.
        """
        if task == "translate" and task not in self.tasks:
            raise UserError("decode.task: the model cannot translate\nleave it out")
        if times and self.no_times is None:
            raise UserError("decode.timestamps: the model learnt no times\nleave it out")
        told = [] if language is None else [language]
        told += [self.tasks[task]] if task in self.tasks else []
        return [self.start, *told, *([] if times or self.no_times is None else [self.no_times])]


def learn(texts: Sequence[str], max_pieces: int) -> dict[str, Any]:
    """A tokenizer of transcriptions, as `info`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max_pieces,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator([f" {text}" for text in texts], trainer)
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in (END, START)])
    generation = {
        "start": tokenizer.token_to_id(START),
        "end": tokenizer.token_to_id(END),
        "no_times": None,
        "languages": {},
        "tasks": {},
        "suppressed": [],
        "suppressed_first": [],
        "latest_first_time": None,
    }
    return {"tokenizer": tokenizer.to_str(), "generation": generation}


def read(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What was published with weights, as `info`.

    Args:
        config: What stands in the generation_config.json.

    Raises:
        UserError: The tokenizer is missing, broken or of another publication, or the configuration says too little.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise UserError(
            f"'{folder}' has no {TOKENIZER_FILE}: the tokens of another mean nothing to the weights\n"
            f"put the {TOKENIZER_FILE} that was published with the weights beside them"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"'{file}' is no tokenizer.json: {error}\ncopy or download it anew") from error
    generation = numbers(folder / GENERATION_FILE, config)
    for token, key in ((START, "start"), (END, "end"), (NO_TIMES, "no_times")):
        found = tokenizer.token_to_id(token)
        if found != generation[key]:
            raise UserError(
                f"'{file}' has {token} as {found}, '{folder / GENERATION_FILE}' as {generation[key]}: they are not of "
                "one publication\nput both that were published with the weights beside them"
            )
    return {"tokenizer": tokenizer.to_str(), "generation": generation}


def numbers(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of special tokens, as `info` has them, from a generation_config.json.

    Raises:
        UserError: It says too little.
    """
    end = config.get("eos_token_id")
    languages, tasks = config.get("lang_to_id") or {}, config.get("task_to_id") or {}
    lists = [config.get(key) or [] for key in ("suppress_tokens", "begin_suppress_tokens")]
    if not all(isinstance(each, dict) for each in (languages, tasks)) or not all(
        isinstance(each, list) for each in lists
    ):
        raise _says_too_little(file)
    several = config.get("is_multilingual", bool(languages))
    found: dict[str, Any] = {
        "start": config.get("decoder_start_token_id"),
        "end": end[0] if isinstance(end, list) and end else end,
        "no_times": config.get("no_timestamps_token_id"),
        "languages": {str(key).strip("<|>"): value for key, value in languages.items()} if several else {},
        "tasks": dict(tasks) if several else {},
        "suppressed": lists[0],
        "suppressed_first": lists[1],
        "latest_first_time": config.get("max_initial_timestamp_index"),
    }
    numbers = [
        found["start"], found["end"], found["no_times"], *found["languages"].values(), *found["tasks"].values(),
        *found["suppressed"], *found["suppressed_first"],
        *([] if found["latest_first_time"] is None else [found["latest_first_time"]]),
    ]  # fmt: skip
    if any(type(each) is not int or each < 0 for each in numbers):
        raise _says_too_little(file)
    return found


def _says_too_little(file: Path) -> UserError:
    names = "decoder_start_token_id, eos_token_id, no_timestamps_token_id"
    return UserError(
        f"'{file}' does not say by whole numbers what begins and ends a transcription ({names}), or which tokens "
        "are languages, tasks or not to be written\ncopy or download it anew"
    )
