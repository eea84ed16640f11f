"""A tokenizer of another publication is told by its special tokens, and a true one that differs is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_transformers import publish_text, trained
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from zoo.errors import UserError
from zoo.weights.processors import require_own_tokenizer

BERTS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTAS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
T5S = ("<pad>", "</s>", "<unk>")
BIGBIRDS = ("<pad>", "</s>", "<s>", "<unk>")
WORDS = [f"word{i}" for i in range(40)]


def written(*pieces: str) -> str:
    """A tokenizer.json whose ids are in this order; what is in brackets is special."""
    made = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token=pieces[0]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([AddedToken(each, special=True) for each in pieces if each[0] in "[<"])
    return made.to_str()


@pytest.mark.parametrize(
    ("tokenizer", "named", "config", "message"),
    [
        (
            (*WORDS, *BERTS),
            {},
            {"pad_token_id": 0},
            r"its pad token '\[PAD\]' is 40, .* pad_token_id 0, which is 'word0'",
        ),
        (("[UNK]", "[PAD]", "[CLS]"), {}, {"pad_token_id": 0}, r"its pad token '\[PAD\]' is 1, .* which is '\[UNK\]'"),
        (("[CLS]", "[PAD]", "[SEP]"), {}, {"pad_token_id": 0}, r"'\[PAD\]' is 1, .* which is '\[CLS\]'"),
        (("!fill", *WORDS), {"pad_token": "!fill"}, {"pad_token_id": 3}, r"'!fill' is 0, .* which is 'word2'"),
        ((*ROBERTAS, *WORDS), {"pad_token": "[PAD]"}, {"pad_token_id": 0}, r"'<pad>' is 1, .* which is '<s>'"),
        ((*T5S, *WORDS), {}, {"bos_token_id": 1, "eos_token_id": 2}, r"its eos token '</s>' is 1, .* which is '<unk>'"),
        (
            ("<e>", *WORDS),
            {"eos_token": {"content": "<e>"}},
            {"eos_token_id": [4, 5]},
            r"'<e>' is 0, .* eos_token_id 4",
        ),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(
    tokenizer: tuple[str, ...], named: Any, config: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    with pytest.raises(UserError, match=message) as told:
        require_own_tokenizer(written(*tokenizer), config, tmp_path)
    assert str(told.value).partition("\n")[2].startswith("put the tokenizer that was published with the weights")


@pytest.mark.parametrize(
    ("tokenizer", "named", "config"),
    [
        ((*BERTS, *WORDS), {}, {"pad_token_id": 0}),
        ((*BERTS, *WORDS), {}, {"pad_token_id": None}),
        ((*BERTS, *WORDS), {}, {"pad_token_id": 0, "bos_token_id": 7, "eos_token_id": 9}),  # of its class, not its own
        ((*BERTS, *WORDS), {}, {"pad_token_id": 50283}),  # of its class, and no token at all
        ((*ROBERTAS, *WORDS), {}, {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}),
        ((*WORDS, "<|endoftext|>"), {"bos_token": "<|endoftext|>"}, {"bos_token_id": 40, "eos_token_id": 40}),
        ((*ROBERTAS, *WORDS), {"eos_token": "</s>"}, {"eos_token_id": [9, 2]}),  # Llama's, one of several
        ((*ROBERTAS, *WORDS), {"bos_token": None}, {"bos_token_id": 9}),  # Qwen's begins with none
        ((*BIGBIRDS, *WORDS), {}, {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
        (("<|end|>", "<|im_end|>"), {"eos_token": "<|im_end|>", "pad_token": "<|end|>"}, {"eos_token_id": 0}),
        (("<|end|>", "<|fill|>"), {"eos_token": "<|end|>", "pad_token": "<|fill|>"}, {"pad_token_id": 0}),
    ],
)
def test_a_true_publication_is_taken(tokenizer: tuple[str, ...], named: Any, config: Any, tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    require_own_tokenizer(written(*tokenizer), config, tmp_path)


@pytest.mark.parametrize("bridged", [True, False])
def test_it_is_told_before_a_training_begins(bridged: bool, tmp_path: Path, reviews: str) -> None:
    folder = tmp_path / "model"
    publish_text(folder)
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "tokenizer.json").write_text(written(*sorted(vocabulary, key=lambda each: -vocabulary[each])))
    sizes = {"core.dim": 32, "core.depth": 2, "core.num_heads": 2, "core.mlp_dim": 48}
    name, settings = (f"hf/{folder}", {}) if bridged else ("text-micro", sizes)
    with pytest.raises(UserError, match=r"its pad token '\[PAD\]' is 35, and config\.json has pad_token_id 0"):
        trained(name, reviews, tmp_path / "run", weights=folder, settings=settings)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_the_tokens_that_its_configuration_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"cls_token": "[CLS]", "pad_token": "[FILL]"}))
    require_own_tokenizer(written(*BERTS, *WORDS), {}, tmp_path)  # what fills up need not be there
    with pytest.raises(UserError, match=r"tokenizer.json in '.*' is another model's: it has no '\[CLS\]', which the"):
        require_own_tokenizer(written(*ROBERTAS, *WORDS), {"model_type": "bert"}, tmp_path)
    require_own_tokenizer(written(*ROBERTAS, *WORDS), {"model_type": "gpt2"}, tmp_path)  # which reads none
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": ["x"]}))
    require_own_tokenizer(written(*ROBERTAS, *WORDS), {"model_type": "gpt2"}, tmp_path)


def test_a_tokenizer_that_begins_no_text_is_refused_where_the_weights_read_the_beginning(tmp_path: Path) -> None:
    require_own_tokenizer(written(*BERTS, *WORDS), {"model_type": "gpt2"}, tmp_path)
    with pytest.raises(UserError, match="puts no token before a text, where a 'bert' has one to read"):
        require_own_tokenizer(written(*BERTS, *WORDS), {"model_type": "bert"}, tmp_path)
    behind = Tokenizer.from_str(written(*BERTS, *WORDS))
    behind.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
    with pytest.raises(UserError, match="puts no token before a text"):
        require_own_tokenizer(behind.to_str(), {"model_type": "bert"}, tmp_path)


def test_a_bert_may_have_the_tokens_of_another_family_where_both_say_so(tmp_path: Path) -> None:
    own = Tokenizer.from_str(written(*ROBERTAS, *WORDS))
    own.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    config = {"model_type": "bert", "pad_token_id": 0, "tokenizer_class": "XLMRobertaTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizerFast"}))
    require_own_tokenizer(own.to_str(), config, tmp_path)  # as multilingual E5 has them
    with pytest.raises(UserError, match="its pad token '<pad>' is 1, and"):
        require_own_tokenizer(own.to_str(), {**config, "tokenizer_class": "BertTokenizer"}, tmp_path)
