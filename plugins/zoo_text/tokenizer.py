"""Texts to token ids and back: Hugging Face `tokenizers`, learnt from the training split or given.

WordPiece: Schuster and Nakajima 2012; byte-pair encoding of bytes: Sennrich et al. 2015, arXiv:1508.07909, Radford et
al. 2019. A learnt tokenizer keeps Unicode whole but for canonical composition (NFC) and, if asked, case: accents stay,
and byte-pair encoding knows every character.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# Set before the library's threads start: loader workers are forked, and it would say so on every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from zoo.errors import UserError
from zoo.files import user_path
from zoo_text.spec import EmbedSpec

PAD, UNKNOWN, CLASS, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
KINDS = ("wordpiece", "bpe")
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


def read(path: str) -> Tokenizer:
    """A `tokenizer.json`, as Hugging Face has them, with its own special tokens.

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


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Of each text, special ones included."""
    return [len(each.ids) for each in tokenizer.encode_batch_fast(list(texts))]
