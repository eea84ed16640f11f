"""BERT and its kin: RoBERTa, ELECTRA, DistilBERT.

Devlin et al. 2018, arXiv:1810.04805; Liu et al. 2019, arXiv:1907.11692; Clark et al. 2020, arXiv:2003.10555; Sanh et
al. 2019, arXiv:1910.01108.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.weights import Row
from zoo.weights.configuration import activation
from zoo_text.weights.encoder import ALL_BIASES, Encoder, Pretrained, masked_rows


def bert_rows(prefix: str, *head: Row) -> tuple[Row, ...]:
    layer = f"{prefix}encoder.layer.{{}}"
    attention = tuple(f"{layer}.attention.self.{each}" for each in ("query", "key", "value"))
    return (
        Row("embed.table", f"{prefix}embeddings.word_embeddings"),
        Row("embed.types", f"{prefix}embeddings.token_type_embeddings.weight"),
        Row("embed.position", f"{prefix}embeddings.position_embeddings"),
        Row("embed.norm", f"{prefix}embeddings.LayerNorm"),
        Row("embed.project", f"{prefix}embeddings_project"),
        Row("core.blocks.{}.attention.qkv", attention),
        Row("core.blocks.{}.attention.out", f"{layer}.attention.output.dense"),
        Row("core.blocks.{}.norm1", f"{layer}.attention.output.LayerNorm"),
        Row("core.blocks.{}.mlp.fc1", f"{layer}.intermediate.dense"),
        Row("core.blocks.{}.mlp.fc2", f"{layer}.output.dense"),
        Row("core.blocks.{}.norm2", f"{layer}.output.LayerNorm"),
        *head,
    )


def bert_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError("the weights have relative positions, which the core has not\nname weights with absolute ones")
    if config.get("is_decoder"):
        raise UserError("the weights are a decoder's, which hides later tokens\nname weights of an encoder")
    dim, hidden = config["hidden_size"], config["intermediate_size"]
    return {
        "core.dim": dim,
        "core.depth": config["num_hidden_layers"],
        "core.num_heads": config["num_attention_heads"],
        "core.mlp_dim": None if hidden == 4 * dim else hidden,
        "core.norm_eps": config.get("layer_norm_eps", 1e-12),
        "core.norm_position": "post",
        "core.final_norm": False,
        "core.activation": activation({"hidden_act": "gelu", **config}, "hidden_act"),
        "core.bias": ALL_BIASES,
        "embed.vocab_size": config["vocab_size"],
        "embed.max_tokens": config["max_position_embeddings"],
        "embed.position": "learned",
        "embed.num_types": config.get("type_vocab_size", 2),
        "embed.norm": True,
        "head.pool": "cls",
        "head.pooler": "tanh",
    }


def roberta_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    first = config.get("pad_token_id", 1) + 1
    return {
        **bert_shape(config),
        "embed.first_position": first,
        "embed.max_tokens": config["max_position_embeddings"] - first,
    }


def electra_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("embedding_size", config["hidden_size"])
    projected = width != config["hidden_size"]
    return {**bert_shape(config), "embed.token_dim": width if projected else None, "head.pooler": "gelu"}


def distilbert_rows() -> tuple[Row, ...]:
    layer = "distilbert.transformer.layer.{}"
    return (
        Row("embed.table", "distilbert.embeddings.word_embeddings"),
        Row("embed.position", "distilbert.embeddings.position_embeddings"),
        Row("embed.norm", "distilbert.embeddings.LayerNorm"),
        Row("core.blocks.{}.attention.qkv", tuple(f"{layer}.attention.{each}_lin" for each in "qkv")),
        Row("core.blocks.{}.attention.out", f"{layer}.attention.out_lin"),
        Row("core.blocks.{}.norm1", f"{layer}.sa_layer_norm"),
        Row("core.blocks.{}.mlp.fc1", f"{layer}.ffn.lin1"),
        Row("core.blocks.{}.mlp.fc2", f"{layer}.ffn.lin2"),
        Row("core.blocks.{}.norm2", f"{layer}.output_layer_norm"),
        Row("head.pooler", "pre_classifier"),
        Row("head.classifier", "classifier", predicts=True),
    )


def distilbert_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    as_bert = {
        "hidden_size": config["dim"],
        "num_hidden_layers": config["n_layers"],
        "num_attention_heads": config["n_heads"],
        "intermediate_size": config["hidden_dim"],
        "hidden_act": config.get("activation", "gelu"),
        "type_vocab_size": 0,
    }
    return {**bert_shape({**config, **as_bert}), "head.pooler": "relu"}


_OWN_POOLER = (Row("head.pooler", "classifier.dense"), Row("head.classifier", "classifier.out_proj", predicts=True))
BERT = Encoder(
    "bert",
    "bert.",
    bert_rows("bert.", Row("head.pooler", "bert.pooler.dense"), Row("head.classifier", "classifier", predicts=True)),
    bert_shape,
)
ROBERTA = Encoder("roberta", "roberta.", bert_rows("roberta.", *_OWN_POOLER), roberta_shape)
ELECTRA = Encoder("electra", "electra.", bert_rows("electra.", *_OWN_POOLER), electra_shape)
DISTILBERT = Encoder("distilbert", "distilbert.", distilbert_rows(), distilbert_shape)

MASKED_BERT = Pretrained(
    BERT,
    masked_rows("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "cls.predictions.decoder",
    act="hidden_act",
)
MASKED_ROBERTA = Pretrained(
    ROBERTA, masked_rows("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"), "lm_head.decoder"
)
MASKED_ELECTRA = Pretrained(
    ELECTRA,
    masked_rows("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    "generator_lm_head",
)
MASKED_DISTILBERT = Pretrained(
    DISTILBERT,
    masked_rows("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    "vocab_projector",
    act="activation",
)
