"""Small folders as transformers itself writes them, with random numbers, and trainings that begin with them."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from zoo.run import Run

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
WORDS = [*"abcdefghijklmnopqrstuvwxyz", "good", "bad", "film", "a1", "b2", "c3"]
SETTINGS = {"train.batch_size": 8, "train.device": "cpu"}
KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 66},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {"pooler_hidden_size": 32, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"global_attn_every_n_layers": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "qwen2": {"num_key_value_heads": 1},
}


# ---------------------------------------------------------------- folders as transformers writes them


def tokenizer() -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def config_of(kind: str, **options: Any) -> Any:
    ids = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    texts = {"vocab_size": len(WORDS) + 4, "max_position_embeddings": 64, **ids, **SMALL, **KINDS.get(kind, {})}
    return transformers.AutoConfig.for_model(kind, **{**texts, **options})


def publish_text(folder: Path, kind: str = "bert", maker: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    maker = maker or transformers.AutoModelForSequenceClassification
    model = maker.from_config(config_of(kind, **options)).eval()
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return model


def publish_image(folder: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=16, patch_size=4, **{**SMALL, **options})
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    reading = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
    reading |= {"size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(reading))
    return model


def publish_speech(folder: Path, kind: str = "wav2vec2", **options: Any) -> Any:
    torch.manual_seed(0)
    names = ["<s>", "<pad>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVKQJXZ'"]
    own = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "layerdrop": 0.0}
    own |= {"vocab_size": len(names), "pad_token_id": 1, **SMALL, **options}
    maker = {"wav2vec2": transformers.Wav2Vec2ForCTC, "hubert": transformers.HubertForCTC}[kind]
    model = maker(maker.config_class(**own)).eval()
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    return model


def trained(name: str, data: str, out: Path, **asked: Any) -> Run:
    settings = {**SETTINGS, **asked.pop("settings", {})}
    return zoo.train(name, data=data, steps=2, settings=settings, out=out, **asked)
