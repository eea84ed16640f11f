"""Published weights of text encoders: what transformers calls what is ours, family by family.

Rows are those of a model for sequence classification. A publication of the encoder alone lacks its prefix and the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import UserError
from zoo.specs import RunSpec
from zoo.weights import Published, Row, Table

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
"""transformers' names of activations, in the core's words."""
ALL_BIASES = ["q", "k", "v", "out", "mlp", "norm"]
OLDER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
IGNORED = (
    r".*embeddings\.(position_ids|token_type_ids)",  # counted, not learnt
    r"roberta\.pooler\..*",  # its classifier has a pooler of its own
    # of the tasks that encoders are pretrained by, which no other task reads
    r"cls\..*",
    r"lm_head\..*",
    r"(generator|discriminator)_.*",
    r"vocab_.*",
    r"decoder\..*",
)
"""Published tensors that a text classifier has no use for."""


@dataclass(frozen=True)
class Encoder:
    """A family of transformers' text encoders.

    Args:
        model_type: As `config.json` has it.
        prefix: Before the encoder's names in a publication that has a head too.
        rows: The family's table.
        shape: Spec values of a configuration, by dotted key.
    """

    model_type: str
    prefix: str
    rows: tuple[Row, ...]
    shape: Callable[[Mapping[str, Any]], dict[str, Any]]
    task: str = "text-classification"

    def recognises(self, published: Published) -> bool:
        return published.config.get("model_type") == self.model_type

    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: The core cannot be so, or the configuration says too little.
        """
        try:
            return self.shape(published.config)
        except UserError:
            raise
        except (KeyError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else f"has a wrong value: {error}"
            raise UserError(f"the config.json of '{published.place}' {what}\ncopy or download it anew") from error

    def table(self, spec: RunSpec) -> Table:
        return Table(self.rows, IGNORED, self.prefix, OLDER)


def activation(config: Mapping[str, Any], key: str) -> str:
    """
    Raises:
        UserError: The core has no such activation.
    """
    name = config.get(key, "gelu")
    if name not in ACTIVATIONS:
        raise UserError(f"the weights' {key} is '{name}', which the core has not\nit has {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


# ---------------------------------------------------------------- BERT and its kin


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
        "core.activation": activation(config, "hidden_act"),
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


# ---------------------------------------------------------------- DistilBERT


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


# ---------------------------------------------------------------- ModernBERT


def modernbert_rows() -> tuple[Row, ...]:
    return (
        Row("embed.table", "model.embeddings.tok_embeddings"),
        Row("embed.norm", "model.embeddings.norm"),
        Row("core.blocks.{}.norm1", "model.layers.{}.attn_norm"),
        Row("core.blocks.{}.attention.qkv", "model.layers.{}.attn.Wqkv"),
        Row("core.blocks.{}.attention.out", "model.layers.{}.attn.Wo"),
        Row("core.blocks.{}.norm2", "model.layers.{}.mlp_norm"),
        Row("core.blocks.{}.mlp.fc1", "model.layers.{}.mlp.Wi"),
        Row("core.blocks.{}.mlp.fc2", "model.layers.{}.mlp.Wo"),
        Row("core.norm", "model.final_norm"),
        Row("head.pooler", "head.dense"),
        Row("head.norm", "head.norm"),
        Row("head.classifier", "classifier", predicts=True),
    )


def modernbert_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """Warner et al. 2024, arXiv:2412.13663: some blocks attend to all, the others to a window, each kind by its own
    base of rotary positions."""
    if activation(config, "hidden_activation") != "gelu" or config.get("classifier_activation", "gelu") != "gelu":
        raise UserError("the weights' activation is not gelu, which ModernBERT has\nname weights that have it")
    depth, every = config["num_hidden_layers"], config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or ["sliding_attention" if i % every else "full_attention" for i in range(depth)]
    ropes = config.get("rope_parameters") or {}
    if odd := {each.get("rope_type", "default") for each in ropes.values()} - {"default"}:
        raise UserError(
            f"the weights' rotary positions are scaled ({', '.join(sorted(odd))}), which the core's are not\n"
            "name weights without"
        )
    thetas = {
        kind: ropes.get(kind, {}).get("rope_theta") or config.get(key, default)
        for kind, key, default in (
            ("full_attention", "global_rope_theta", 160_000.0),
            ("sliding_attention", "local_rope_theta", 10_000.0),
        )
    }
    window = config.get("local_attention", 128)
    return {
        "core.dim": config["hidden_size"],
        "core.depth": depth,
        "core.num_heads": config["num_attention_heads"],
        "core.mlp_dim": config["intermediate_size"],
        "core.norm_eps": config.get("norm_eps", 1e-5),
        "core.first_norm": False,
        "core.activation": "geglu",
        "core.bias": [
            *(("q", "k", "v", "out") if config.get("attention_bias") else ()),
            *(("mlp",) if config.get("mlp_bias") else ()),
            *(("norm",) if config.get("norm_bias") else ()),
        ],
        "core.rotary_theta": [thetas[kind] for kind in kinds],
        "core.windows": [0 if kind == "full_attention" else window for kind in kinds],
        "embed.vocab_size": config["vocab_size"],
        "embed.max_tokens": config["max_position_embeddings"],
        "embed.position": "none",
        "embed.norm": True,
        "head.pool": config.get("classifier_pooling", "cls"),
        "head.pooler": "gelu",
        "head.pooler_bias": bool(config.get("classifier_bias")),
        "head.pooler_norm": True,
    }


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
MODERNBERT = Encoder("modernbert", "model.", modernbert_rows(), modernbert_shape)
FAMILIES = (BERT, ROBERTA, ELECTRA, DISTILBERT, MODERNBERT)
