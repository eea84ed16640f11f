"""Texts to token ids and back: Hugging Face `tokenizers`, learnt from the training split or given.

WordPiece: Schuster and Nakajima 2012; byte-pair encoding of bytes: Sennrich et al. 2015, arXiv:1508.07909, Radford et
al. 2019. A learnt tokenizer keeps Unicode whole but for canonical composition (NFC) and, if asked, case: accents stay,
and byte-pair encoding knows every character.
"""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

# Set before the library's threads start: loader workers are forked, and it would say so on every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from zoo.errors import UserError
from zoo.files import user_path
from zoo_text.spec import EmbedSpec

PAD, UNKNOWN, CLASS, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", SEPARATOR)
"""Names of what ends a text, as they are in use."""
FILE = "tokenizer.json"
KINDS = ("wordpiece", "bpe")
SPARE = 1024
"""Rows that published tables have beyond the tokenizer's ids, at most: they are rounded up, or left for new tokens."""
MIN_FREQUENCY = 2
"""Times that a pair of pieces must occur to become one."""


def make(embed: EmbedSpec, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer that a spec asks for, learnt from these texts or given.

    Raises:
        UserError: The given one is missing or something else.
    """
    if embed.tokenizer not in KINDS:
        return read(embed.tokenizer)
    return learn(embed.tokenizer, texts, max_vocab_size=embed.max_vocab_size, lowercase=embed.lowercase)


def learn(kind: str, texts: Sequence[str], *, max_vocab_size: int, lowercase: bool) -> Tokenizer:
    """A tokenizer of these texts, which puts them between [CLS] and [SEP].

    Args:
        kind: `wordpiece` or `bpe`.
    """
    normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    if kind == "wordpiece":
        vocabulary = _word_pieces(normalizer, texts, max_vocab_size)
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = _words()
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.normalizer = normalizer
        tokenizer.add_special_tokens(list(SPECIAL))
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.normalizer = normalizer
        trainer = trainers.BpeTrainer(
            vocab_size=max_vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
            min_frequency=MIN_FREQUENCY,
        )
        tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLASS} $A {SEPARATOR}",
        special_tokens=[(each, tokenizer.token_to_id(each)) for each in (CLASS, SEPARATOR)],
    )
    return tokenizer


def _words() -> pre_tokenizers.PreTokenizer:
    """Words and punctuation apart, as BERT has them, and each Han character a word."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"), pre_tokenizers.BertPreTokenizer()]
    )


def size(tokenizer: Tokenizer) -> int:
    """Rows of a table with a row for each id; ids may have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def num_rows(tokenizer: Tokenizer, given: int | None) -> int:
    """Rows of the table of tokens: one for each id; a trained table may have more.

    Raises:
        UserError: It has fewer, or many more.
    """
    needed = size(tokenizer)
    if given is not None and needed > given:
        raise UserError(
            f"the tokenizer gives {needed:,} ids, but the weights have vectors for {given:,}\n"
            f"put the {FILE} and the config.json (vocab_size) that were published with the weights beside them"
        )
    if given is not None and given - needed > SPARE:
        raise UserError(
            f"the tokenizer has {needed:,} tokens, but the weights have vectors for {given:,}: they are not of one "
            f"publication\nput the {FILE} that was published with the weights beside them"
        )
    return given or needed


def _word_pieces(normalizer: normalizers.Normalizer, texts: Sequence[str], max_size: int) -> dict[str, int]:
    """The vocabulary of a WordPiece tokenizer, the same whenever it is learnt.

    The library gives ids to characters within words in the order of a hash, and ids break the ties between merges. Here
    those characters are told beforehand, as special tokens, which only the vocabulary keeps.
    """
    counts = Counter(letter for text in texts for letter in normalizer.normalize_str(text) if not letter.isspace())
    most = sorted(counts, key=lambda letter: (-counts[letter], letter))[: max_size // 4]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max_size,
        special_tokens=[*SPECIAL, *(f"##{letter}" for letter in sorted(most))],
        initial_alphabet=sorted(most),
        limit_alphabet=len(most),
        show_progress=False,
        min_frequency=MIN_FREQUENCY,
    )
    learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    learner.normalizer, learner.pre_tokenizer = normalizer, _words()
    learner.train_from_iterator(texts, trainer)
    return learner.get_vocab()


def read(path: str, *, of_weights: bool = False) -> Tokenizer:
    """A `tokenizer.json`, as Hugging Face has them, with its own special tokens.

    Args:
        of_weights: It was published with weights; else the user names it.

    Raises:
        UserError: It is missing or something else.
    """
    file: Path = user_path(path)
    if not file.is_file():
        raise UserError(
            f"embed.tokenizer: '{path}' is neither {' nor '.join(KINDS)}, nor a file\nname the path of a tokenizer.json"
        )
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        if of_weights:
            raise UserError(f"'{path}' is no tokenizer.json: {error}\ncopy or download it anew") from error
        raise UserError(f"embed.tokenizer: '{path}' is no tokenizer.json: {error}\nname another file") from error


def stored(text: str, max_tokens: int) -> Tokenizer:
    """The tokenizer that a run stores, set to cut texts off and to pad none."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def mask_id(tokenizer: Tokenizer) -> int | None:
    """The id of the mask token, by the names that are in use."""
    return next((found for name in (MASK, "<mask>") if (found := tokenizer.token_to_id(name)) is not None), None)


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = True) -> list[int]:
    """Of each text, special ones included or not."""
    return [len(each.ids) for each in tokenizer.encode_batch_fast(list(texts), add_special_tokens=special)]


class Bounds(NamedTuple):
    """What stands around a text.

    Args:
        begin: Before its first token.
        ends: Each of them ends a text; the first is what is put there.
        begun: Whether the tokenizer itself puts `begin` there.
    """

    begin: int
    ends: tuple[int, ...]
    begun: bool


def bounds(tokenizer: Tokenizer, begin: int | None = None, ends: Sequence[int] = ()) -> Bounds:
    """What begins and ends a text, as the tokenizer has it.

    A text ends with what was published as the model's end, else with what the tokenizer puts there, else with the token
    that is called so. It begins with what the tokenizer puts there, else with what was published as the beginning, else
    with what ends the text before: GPT-2's are both ``<|endoftext|>``, ours ``[CLS]`` and ``[SEP]``.

    Args:
        begin, ends: As published; what the tokenizer has not counts for nothing.

    Raises:
        UserError: It has no such token.
    """
    encoded = tokenizer.encode("a")
    special = encoded.special_tokens_mask
    before = list(takewhile(lambda i: special[i], range(len(special))))
    after = [i for i in range(len(special)) if special[i] and i not in before]
    named = [found for name in ENDS if (found := tokenizer.token_to_id(name)) is not None]
    first = [each for each in (begin,) if each is not None and tokenizer.id_to_token(each) is not None]
    known = [each for each in ends if tokenizer.id_to_token(each) is not None]
    last = known or [encoded.ids[i] for i in after[-1:]] or named[:1]
    if not last:
        raise UserError(
            f"the tokenizer has no token that ends a text, such as {' or '.join(ENDS[:3])}\n"
            "name another with embed.tokenizer, or let one be learnt"
        )
    return Bounds(encoded.ids[before[-1]] if before else (*first, last[0])[0], tuple(last), bool(before))


def filled_up(tokens: Int[np.ndarray, " n"], embed: EmbedSpec) -> Int[np.ndarray, " m"]:
    """A text's tokens as the model reads them: with `embed.pad_token`, as many as `embed.max_tokens` whatever others
    have."""
    if embed.pad_token is None:
        return tokens
    return np.pad(tokens, (0, max(0, embed.max_tokens - len(tokens))), constant_values=embed.pad_token)


def lengths(tokenizer: Tokenizer, texts: Sequence[str], embed: EmbedSpec) -> list[int]:
    """Tokens of each text that the model reads."""
    if embed.pad_token is not None:
        return [embed.max_tokens] * len(texts)
    return count_tokens(tokenizer, texts)
