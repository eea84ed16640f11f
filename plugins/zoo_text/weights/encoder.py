"""What families of texts' models share: their configuration read, their tokenizer, and what no model of ours needs.

Rows are those of a model for sequence classification. A publication of the encoder alone lacks its prefix and the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import UserError
from zoo.specs import RunSpec
from zoo.weights import Published, Row, Table, read_json
from zoo.weights.configuration import read_settings, refuse_no_count
from zoo.weights.processors import longest_of, require_own_tokenizer, without_tokenizer
from zoo_text import tokenizer as tokenizers

SIZES = {
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"),
    *("max_position_embeddings", "embedding_size", "dim", "n_layers", "n_heads", "hidden_dim"),
    *("n_embd", "n_layer", "n_head", "n_positions"),
}
MAY_BE_NULL = {"num_key_value_heads", "head_dim", "n_inner"}
POOLS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
"""sentence-transformers' ways from tokens to a text."""
ALL_BIASES = ["q", "k", "v", "out", "mlp", "norm"]
OF_HEADS: Mapping[str, Any] = {
    "head.pooler_dim": None,
    "head.pooler_bias": True,
    "head.pooler_norm": False,
    "head.classifier_bias": True,
}
"""How transformers' classifiers are made, where a family's are not otherwise."""
OLDER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
TIED = {"cls.predictions.decoder.bias": "cls.predictions.bias", "lm_head.decoder.bias": "lm_head.bias"}
"""One tensor under two names, of which a file may have either."""
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

OF_CLASSIFIERS = (
    r".*embeddings\.(position_ids|token_type_ids)",
    # the table of tokens again
    r"(cls\.predictions\.decoder|lm_head\.decoder|vocab_projector|generator_lm_head|decoder)\.weight",
    # of other tasks
    r"cls\.seq_relationship\..*",
    r"(.*\.)?pooler\..*",
    r"(pre_)?classifier\..*",
    r"discriminator_.*",
)
"""Published tensors that the head of masked language modelling has no use for."""


@dataclass(frozen=True)
class Encoder:
    """A family of transformers' models that read texts.

    Args:
        model_type: As `config.json` has it.
        prefix: Before the encoder's names in a publication that has a head too.
        rows: The family's table.
        shape: Spec values of a configuration, by dotted key.
        ignored: Published tensors that a classifier has no use for.
    """

    model_type: str
    prefix: str
    rows: tuple[Row, ...]
    shape: Callable[[Mapping[str, Any]], dict[str, Any]]
    ignored: tuple[str, ...] = IGNORED
    task: str = "text-classification"

    @property
    def name(self) -> str:
        return self.model_type

    def recognises(self, published: Published) -> bool:
        return published.config.get("model_type") == self.model_type

    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: The core cannot be so, or the configuration says too little.
        """
        for key in (SIZES | MAY_BE_NULL) & published.config.keys():
            if published.config[key] is not None or key not in MAY_BE_NULL:
                refuse_no_count(published, key)
        shape = read_settings(published, published.config, self.shape)
        shape["embed.max_tokens"] = longest_of(published.folder, shape["embed.max_tokens"])
        tokenizer = str(published.folder / tokenizers.FILE)
        return {**shape, "embed.tokenizer": tokenizer, **_pooling(published), **_num_classes(published)}

    def of_their_head(self, published: Published) -> Mapping[str, Any]:
        """As transformers' classifier reads a text, whatever sentence-transformers makes of it."""
        return {**OF_HEADS, **read_settings(published, published.config, self.shape)}

    def info(self, published: Published) -> Mapping[str, Any]:
        """The tokenizer, and the classes where the weights have a classifier of named ones.

        Raises:
            UserError: There is no tokenizer, or it is broken, or another model's.
        """
        file = published.folder / tokenizers.FILE
        if not file.is_file():
            raise without_tokenizer(published.folder)
        found = published.config.get("id2label")
        names = {str(key): str(name) for key, name in found.items()} if isinstance(found, dict) else {}
        classes = [names[key] for key in sorted(names, key=int)] if all(map(str.isdecimal, names)) else []
        several = published.config.get("problem_type") == "multi_label_classification"
        targets = {"classes": classes, "multi_label": several} if classes else {}
        tokenizer = tokenizers.read(str(file), of_weights=True).to_str()
        require_own_tokenizer(tokenizer, published.config, published.folder)
        return {"tokenizer": tokenizer, **targets}

    def table(self, spec: RunSpec) -> Table:
        return Table(self.rows, self.ignored, self.prefix, OLDER)


@dataclass(frozen=True)
class Pretrained:
    """A family with the head that it was pretrained by, masked language modelling.

    Args:
        head: Its rows.
        scores: The layer that scores tokens, whose weight is the table of tokens again.
        act: The configuration's key of the head's activation; None is GELU always.
        layer_bias: Whether the head's layer has a bias, by the configuration.
    """

    encoder: Encoder
    head: tuple[Row, ...]
    scores: str
    act: str | None = None
    layer_bias: Callable[[Mapping[str, Any]], bool] = lambda config: True
    task: str = "masked-lm"

    @property
    def name(self) -> str:
        return self.encoder.name

    def recognises(self, published: Published) -> bool:
        return self.encoder.recognises(published)

    def settings(self, published: Published) -> Mapping[str, Any]:
        """As the encoder's, but for the head's.

        Raises:
            UserError: The rooms cannot be so, or the configuration says too little.
        """
        config = published.config
        if not config.get("tie_word_embeddings", True) or not config.get("decoder_bias", True):
            raise UserError(
                f"the head of '{published.place}' has a table of tokens of its own, or no bias, which ours cannot be\n"
                "name weights whose head has that of the first room"
            )
        named = config.get(self.act, "gelu") if self.act else "gelu"
        if named not in ("gelu", "relu"):
            raise UserError(f"the head's activation is '{named}', which ours cannot be\nname weights with gelu or relu")
        of_encoder = self.encoder.settings(published).items()
        rest = {key: value for key, value in of_encoder if not key.startswith("head.")}
        return {**rest, "head.activation": named, "head.layer_bias": self.layer_bias(config)}

    def of_their_head(self, published: Published) -> Mapping[str, Any]:
        return self.settings(published)

    def info(self, published: Published) -> Mapping[str, Any]:
        return {"tokenizer": self.encoder.info(published)["tokenizer"]}

    def table(self, spec: RunSpec) -> Table:
        rows = (*(row for row in self.encoder.rows if not row.ours.startswith("head.")), *self.head)
        names = {row.ours: str(row.theirs) for row in rows}
        tied = {f"{self.scores}.weight": f"{names['embed.table']}.weight", f"{self.scores}.bias": names["head.bias"]}
        return Table(rows, OF_CLASSIFIERS, self.encoder.prefix, OLDER | TIED, tied=tied)


def _num_classes(published: Published) -> dict[str, Any]:
    ends = ("classifier.weight", "classifier.out_proj.weight", "score.weight")
    widths = [len(tensor) for name, tensor in published.tensors.items() if name.endswith(ends)]
    return {"head.num_classes": widths[0]} if widths and widths[0] > 1 else {}  # one number is no class


def _pooling(published: Published) -> dict[str, Any]:
    """What a publication for sentence-transformers makes of its tokens: not what BERT's own head does."""
    file = published.folder / "1_Pooling" / "config.json"
    modes = read_json(file) if file.is_file() else {}
    pool = next((ours for theirs, ours in POOLS.items() if modes.get(theirs)), None)
    return {"head.pool": pool, "head.pooler": None} if pool else {}


def masked_rows(layer: str, norm: str, bias: str) -> tuple[Row, ...]:
    """The head of masked language modelling, by the names of its parts."""
    return Row("head.dense", layer), Row("head.norm", norm), Row("head.bias", bias)
