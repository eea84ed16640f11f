"""Published weights of the text encoders of CLIP and SigLIP; `zoo_vit` has those of pictures.

CLIP: Radford et al. 2021, arXiv:2103.00020; SigLIP: Zhai et al. 2023, arXiv:2303.15343; SigLIP 2: Tschannen et al.
2025, arXiv:2502.14786, whose encoder of texts is the same. CLIP's reads no later token, and the token that ends a text
stands for it. SigLIP's was trained on texts filled up to one length with a token that counts, and the last stands for
the text: so they are filled up here too, each for itself, and a text is read alone as it is among others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zoo.errors import UserError
from zoo.specs import RunSpec
from zoo.weights import Published, Row, Table, read_json
from zoo.weights.configuration import core_settings, of_tower, require_whole, tower_rows
from zoo.weights.processors import TOKENIZER_CONFIG
from zoo_text import tokenizer as tokenizers
from zoo_text.weights import Encoder

WRONG_EOS = 2
"""The end-of-text token in CLIP's first configurations, which is none; the highest id of a text is meant."""
IGNORED = (
    r".*\.position_ids",  # counted, not learnt
    r"vision_model\..*",
    r"visual_projection\..*",
    r"logit_(scale|bias)",  # with which the two encoders are compared
)
CLIP_DEFAULTS = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}  # fmt: skip
SIGLIP_DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
    "pad_token_id": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TextTower:
    """The encoder of texts of one that was trained with an encoder of pictures.

    Args:
        encoder: Its rows and what its part of the configuration says.
        alone, both: `model_type` of publications of it, and of both encoders.
        defaults: Of its part of the configuration.
        projection: The layer over what is pooled.
        fills_up: Texts are filled up to the longest length.
    """

    encoder: Encoder
    alone: tuple[str, ...]
    both: tuple[str, ...]
    defaults: Mapping[str, Any]
    projection: str
    fills_up: bool = False
    task: str = "text-classification"

    @property
    def name(self) -> str:
        return self.encoder.name

    def recognises(self, published: Published) -> bool:
        kind = published.config.get("model_type")
        held = any(name.startswith(self.encoder.prefix) for name in published.tensors)
        return kind in self.alone or (kind in self.both and held)

    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: The core cannot be so, or the configuration says too little.
        """
        if published.config["model_type"] in self.both:
            config = of_tower(published, "text_config", self.defaults)
        else:
            config = {**self.defaults, **published.config}
        settings = dict(self.encoder.settings(replace(published, config=config)))
        if self.fills_up:
            settings["embed.pad_token"] = _pad_token(published, config)
        return settings | self._projected(published, settings["core.dim"])

    def _projected(self, published: Published, dim: int) -> dict[str, Any]:
        tensors = Table((), prefix=self.encoder.prefix).named(published.tensors)
        layer = tensors.get(f"{self.projection}.weight")
        if layer is None:
            return {"head.pooler": None}
        width, has_bias = len(layer), f"{self.projection}.bias" in tensors
        return {
            "head.pooler": "linear",
            "head.pooler_dim": None if width == dim else width,
            "head.pooler_bias": has_bias,
            "head.pooler_norm": False,
        }

    def info(self, published: Published) -> Mapping[str, Any]:
        """The tokenizer.

        Raises:
            UserError: There is none, or it is broken.
        """
        unsaid = replace(published, config={})  # CLIP's first configurations call ordinary tokens special
        return {"tokenizer": self.encoder.info(unsaid)["tokenizer"]}

    def table(self, spec: RunSpec) -> Table:
        return Table(self.encoder.rows, IGNORED, self.encoder.prefix)


def _pad_token(published: Published, config: Mapping[str, Any]) -> int:
    """By the tokenizer, where it says it: the configuration of SigLIP 2 has that of SigLIP.

    Raises:
        UserError: There is none.
    """
    said, file = published.folder / TOKENIZER_CONFIG, published.folder / tokenizers.FILE
    name = read_json(said).get("pad_token") if said.is_file() else None
    name = name.get("content") if isinstance(name, dict) else name
    found = config["pad_token_id"]
    if isinstance(name, str) and file.is_file():
        found = tokenizers.read(str(file)).token_to_id(name)
    if type(found) is not int or found < 0:
        raise UserError(
            f"nothing in '{published.folder}' says with which token texts are filled up\n"
            f"put the {TOKENIZER_CONFIG} that was published with the weights beside them"
        )
    return found


def _text_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    require_whole(config, ["vocab_size", "max_position_embeddings"])
    return {
        **core_settings(config),
        "embed.vocab_size": config["vocab_size"],
        "embed.max_tokens": config["max_position_embeddings"],
        "embed.position": "learned",
        "embed.first_position": 0,
        "embed.num_types": 0,
        "embed.token_dim": None,
        "embed.pad_token": None,
        "embed.norm": False,
    }


def clip_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    eos = config["eos_token_id"]
    if type(eos) is not int or eos < 0:
        raise ValueError(f"eos_token_id {eos!r} is no token")
    end = {"head.pool": "eos", "head.eos_token": None if eos == WRONG_EOS else eos}
    return {**_text_settings(config), "core.causal": True, **end}


def siglip_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**_text_settings(config), "head.pool": "last"}


def _rows(projection: str) -> tuple[Row, ...]:
    return (
        Row("embed.table", "text_model.embeddings.token_embedding"),
        Row("embed.position", "text_model.embeddings.position_embedding"),
        *tower_rows("text_model"),
        Row("core.norm", "text_model.final_layer_norm"),
        Row("head.pooler", projection),
    )


CLIP = TextTower(
    Encoder("clip-text", "text_model.", _rows("text_projection"), clip_shape),
    ("clip_text_model",),
    ("clip",),
    CLIP_DEFAULTS,
    "text_projection",
)
SIGLIP = TextTower(
    Encoder("siglip-text", "text_model.", _rows("text_model.head"), siglip_shape),
    ("siglip_text_model", "siglip2_text_model"),
    ("siglip", "siglip2"),
    SIGLIP_DEFAULTS,
    "text_model.head",
    fills_up=True,
)
TOWERS = (CLIP, SIGLIP)
