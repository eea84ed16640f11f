"""What a text classifier's first and last room and its augmentation are made from, and what they cost. Torch-free.

BERT: Devlin et al. 2018, arXiv:1810.04805; sequence pooling: Hassani et al. 2021, arXiv:2104.05704.
"""

from typing import Any, Literal

from pydantic import Field, field_validator

from zoo.cost import Cost, core_cost, linear, norm
from zoo.errors import UserError
from zoo.specs import Fraction, RunSpec, Spec


class EmbedSpec(Spec):
    """The first room: a text becomes tokens."""

    tokenizer: str = Field(
        "wordpiece", description="wordpiece or bpe, learnt from the training split, or the path of a tokenizer.json"
    )
    lowercase: bool = Field(True, description="a learnt tokenizer reads all letters as small ones")
    max_vocab_size: int = Field(8192, ge=300, le=1_000_000, description="pieces that a learnt tokenizer has, at most")
    vocab_size: int = Field(8192, ge=1, description="rows of the token table; the tokenizer decides")
    max_tokens: int = Field(128, ge=3, le=1_000_000, description="a longer text loses its end")
    position: Literal["learned", "sinusoidal", "none"] = Field(
        "learned", description="how a token knows its place; none where the core's attention is rotary"
    )
    first_position: int = Field(0, ge=0, le=1024, description="row of the first token's position; RoBERTa's is 2")
    num_types: int = Field(0, ge=0, description="rows of BERT's table of segments; the first is added to each token")
    token_dim: int | None = Field(
        None, gt=0, description="width of the tables, projected to the core's; equal when null"
    )
    norm: bool = Field(False, description="normalise what goes into the core, as BERT does")
    dropout: Fraction = Field(0.0, description="of what goes into the core")


class HeadSpec(Spec):
    """The last room: tokens become one score a class."""

    num_classes: int = Field(2, ge=2, description="classes")
    multi_label: bool = Field(False, description="a text may have several classes, or none; the data decides")
    pool: Literal["cls", "mean", "max", "seq"] = Field(
        "cls", description="the first token, the tokens' mean or maximum, or their learned weighting"
    )
    pooler: Literal["tanh", "relu", "gelu"] | None = Field(
        None, description="a linear layer and this over what was pooled, as BERT has tanh; none when null"
    )
    pooler_bias: bool = Field(True, description="the pooler's layer has a bias")
    pooler_norm: bool = Field(False, description="normalise what the pooler gives, as ModernBERT does")
    dropout: Fraction = Field(0.0, description="of what the classifier reads")

    @field_validator("pooler", mode="before")
    @classmethod
    def _as_it_was(cls, value: Any) -> Any:
        """Runs from before it could be anything but tanh have true or false."""
        return {True: "tanh", False: None}[value] if isinstance(value, bool) else value


class AugmentSpec(Spec):
    """What is done to training texts; nothing by default."""

    drop: Fraction = Field(0.0, description="share of the tokens left out (Iyyer et al. 2015)")
    mask: Fraction = Field(0.0, description="share of the tokens replaced by the tokenizer's mask token")


def rooms(spec: RunSpec) -> tuple[EmbedSpec, HeadSpec, AugmentSpec]:
    """The specs of what surrounds the core, once they fit it.

    Raises:
        UserError: They do not.
    """
    embed, head = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head)
    if spec.core.cross_attention:
        raise UserError("core.cross_attention: a text has no second sequence to attend to; leave it off")
    if spec.core.causal and head.pool == "cls":
        raise UserError("core.causal: the first token would see no other; leave it off, or set head.pool=mean")
    if head.multi_label and spec.train.label_smoothing:
        raise UserError("train.label_smoothing spreads one label over all classes; leave it out for multi-label data")
    return embed, head, AugmentSpec.model_validate(spec.augment)


def cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a text of `embed.max_tokens` tokens."""
    (embed, head, _), core = rooms(spec), spec.core
    num_tokens, dim, token_dim = embed.max_tokens, core.dim, embed.token_dim or core.dim
    positions = embed.first_position + embed.max_tokens if embed.position == "learned" else 0
    room = Cost((embed.vocab_size + embed.num_types + positions) * token_dim) + core_cost(core, num_tokens)
    if embed.norm:
        room += norm(num_tokens, token_dim, kind=core.norm, bias="norm" in core.bias)
    if embed.token_dim:
        room += linear(num_tokens, token_dim, dim)
    if head.pool == "seq":
        room += linear(num_tokens, dim, 1)
    if head.pooler:
        room += linear(1, dim, dim, bias=head.pooler_bias)
    if head.pooler and head.pooler_norm:
        room += norm(1, dim, kind=core.norm, bias="norm" in core.bias)
    return room + linear(1, dim, head.num_classes)
