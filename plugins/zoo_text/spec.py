"""What the first and last rooms of texts' tasks and their augmentation are made from, and what they cost. Torch-free.

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
    pad_token: int | None = Field(
        None, ge=0, description="id with which texts are filled up to max_tokens and which counts, as SigLIP is trained"
    )
    norm: bool = Field(False, description="normalise what goes into the core, as BERT does")
    dropout: Fraction = Field(0.0, description="of what goes into the core")


class HeadSpec(Spec):
    """The last room: tokens become one score a class."""

    num_classes: int = Field(2, ge=2, description="classes")
    multi_label: bool = Field(False, description="a text may have several classes, or none; the data decides")
    pool: Literal["cls", "mean", "max", "seq", "last", "eos"] = Field(
        "cls",
        description="the first token, the tokens' mean or maximum, their learned weighting, the last token, or the one "
        "that says the text has ended (CLIP)",
    )
    eos_token: int | None = Field(
        None, ge=0, description="id of the token that head.pool=eos reads first of; a text's highest when null"
    )
    pooler: Literal["tanh", "relu", "gelu", "linear"] | None = Field(
        None,
        description="a linear layer and this over what was pooled, as BERT has tanh; linear is the layer alone, as "
        "CLIP projects; none when null",
    )
    pooler_dim: int | None = Field(None, ge=1, description="width that the pooler gives; core.dim when null")
    pooler_bias: bool = Field(True, description="the pooler's layer has a bias")
    pooler_norm: bool = Field(False, description="normalise what the pooler gives, as ModernBERT does")
    dropout: Fraction = Field(0.0, description="of what the classifier reads")
    classifier_bias: bool = Field(True, description="the classifier has a bias")

    @field_validator("pooler", mode="before")
    @classmethod
    def _as_it_was(cls, value: Any) -> Any:
        """Runs from before it could be anything but tanh have true or false."""
        return {True: "tanh", False: None}[value] if isinstance(value, bool) else value


class AugmentSpec(Spec):
    """What is done to training texts; nothing by default."""

    drop: Fraction = Field(0.0, description="share of the tokens left out (Iyyer et al. 2015)")
    mask: Fraction = Field(0.0, description="share of the tokens replaced by the tokenizer's mask token")


class MaskedHeadSpec(Spec):
    """The last room of masked language modelling: masked tokens become one score a token of the vocabulary."""

    activation: Literal["gelu", "relu"] = Field("gelu", description="between the layer and the table of tokens")
    layer_bias: bool = Field(True, description="the layer has a bias")


class MaskingSpec(Spec):
    """Which tokens are to be told from the others (Devlin et al. 2018, section 3.1)."""

    share: Fraction = Field(0.15, gt=0, description="of a text's tokens; one at least")
    random: Fraction = Field(0.1, description="of these, replaced by any token")
    unchanged: Fraction = Field(0.1, description="of these, left as they are; the rest becomes the mask token")


class CausalHeadSpec(Spec):
    """The last room of causal language modelling: each token becomes one score a token that may follow it."""

    tied: bool = Field(True, description="scores are by the table that embeds tokens; by one of its own when false")
    bias: bool = Field(False, description="a learned number is added to each token's score")


class GenerateSpec(Spec):
    """How a text is continued."""

    max_new_tokens: int = Field(64, ge=1, le=1_000_000, description="tokens to write, at most")
    temperature: float = Field(0.0, ge=0, description="scores are divided by it before drawing; 0 takes the likeliest")
    top_k: int | None = Field(None, ge=1, description="draw among this many likeliest tokens; all when null")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="draw among the likeliest that together have this probability (Holtzman et al. 2019)",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of what is drawn")
    begin: bool = Field(
        True, description="put what begins a text before a prompt, also where the tokenizer itself puts nothing there"
    )


def rooms(spec: RunSpec) -> tuple[EmbedSpec, HeadSpec, AugmentSpec]:
    """The specs of what surrounds the core, once they fit it.

    Raises:
        UserError: They do not.
    """
    embed, head = EmbedSpec.model_validate(spec.embed), HeadSpec.model_validate(spec.head)
    if spec.core.cross_attention:
        raise UserError("core.cross_attention: a text has no second sequence to attend to; leave it off")
    if spec.core.causal and head.pool == "cls":
        raise UserError("core.causal: the first token would see no other; leave it off, or set head.pool=last")
    if head.multi_label and spec.train.label_smoothing:
        raise UserError("train.label_smoothing spreads one label over all classes; leave it out for multi-label data")
    if head.multi_label and spec.train.distill is not None:
        raise UserError("train.distill compares one distribution over all classes; leave it out for multi-label data")
    return embed, head, AugmentSpec.model_validate(spec.augment)


def masked_rooms(spec: RunSpec) -> tuple[EmbedSpec, MaskedHeadSpec, MaskingSpec]:
    """The specs of what surrounds the core in masked language modelling, once they fit it.

    Raises:
        UserError: They do not.
    """
    masking = MaskingSpec.model_validate(spec.augment)
    if spec.core.cross_attention:
        raise UserError("core.cross_attention: a text has no second sequence to attend to; leave it off")
    if spec.core.causal:
        remedy = (
            "leave it off"
            if spec.weights is None
            else "name weights of a model that reads both ways, or --task causal-lm"
        )
        raise UserError(f"core.causal: a masked token is told from what follows too\n{remedy}")
    if masking.random + masking.unchanged > 1:
        raise UserError("augment.random and augment.unchanged are shares of the same tokens; together 1 at most")
    return EmbedSpec.model_validate(spec.embed), MaskedHeadSpec.model_validate(spec.head), masking


def causal_rooms(spec: RunSpec) -> tuple[EmbedSpec, CausalHeadSpec, GenerateSpec]:
    """The specs of what surrounds the core in causal language modelling, and of what is written, once they fit it.

    Raises:
        UserError: They do not.
    """
    embed, head = EmbedSpec.model_validate(spec.embed), CausalHeadSpec.model_validate(spec.head)
    if spec.core.cross_attention:
        raise UserError("core.cross_attention: a text has no second sequence to attend to; leave it off")
    if not spec.core.causal:
        remedy = "set it: --set core.causal=true" if spec.weights is None else "name weights of a model that was so"
        raise UserError(f"core.causal: a token is told from those before it, so that none may see later ones\n{remedy}")
    if embed.pad_token is not None:
        raise UserError(
            "embed.pad_token: a text that goes on is not filled up to embed.max_tokens\n"
            "leave it off: --set embed.pad_token=null"
        )
    if head.tied and embed.token_dim not in (None, spec.core.dim):
        raise UserError("head.tied: the table of tokens is of embed.token_dim, not of core.dim\nset head.tied=false")
    return embed, head, GenerateSpec.model_validate(spec.decode)


def causal_cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a text of `embed.max_tokens` tokens."""
    (embed, head, _), core = causal_rooms(spec), spec.core
    room = _embed_cost(spec, embed) + core_cost(core, embed.max_tokens)
    scores = linear(embed.max_tokens, core.dim, embed.vocab_size, bias=head.bias)
    shared = embed.vocab_size * core.dim if head.tied else 0
    return room + Cost(scores.parameters - shared, scores.flops, scores.activations)


def masked_cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a text of `embed.max_tokens` tokens."""
    (embed, head, masking), core = masked_rooms(spec), spec.core
    num_masked, width = max(1, round(masking.share * embed.max_tokens)), embed.token_dim or core.dim
    room = _embed_cost(spec, embed) + core_cost(core, embed.max_tokens)
    room += linear(num_masked, core.dim, width, bias=head.layer_bias)
    room += norm(num_masked, width, kind=core.norm, bias="norm" in core.bias)
    scores = linear(num_masked, width, embed.vocab_size, bias=False)
    return room + Cost(embed.vocab_size, scores.flops, scores.activations)


def _embed_cost(spec: RunSpec, embed: EmbedSpec) -> Cost:
    core, num_tokens, token_dim = spec.core, embed.max_tokens, embed.token_dim or spec.core.dim
    positions = embed.first_position + embed.max_tokens if embed.position == "learned" else 0
    room = Cost((embed.vocab_size + embed.num_types + positions) * token_dim)
    if embed.norm:
        room += norm(num_tokens, token_dim, kind=core.norm, bias="norm" in core.bias)
    if embed.token_dim:
        room += linear(num_tokens, token_dim, core.dim)
    return room


def cost(spec: RunSpec) -> Cost:
    """Of the whole model, for a text of `embed.max_tokens` tokens."""
    (embed, head, _), core = rooms(spec), spec.core
    num_tokens, dim = embed.max_tokens, core.dim
    room = _embed_cost(spec, embed) + core_cost(core, num_tokens)
    if head.pool == "seq":
        room += linear(num_tokens, dim, 1)
    width = head.pooler_dim or dim if head.pooler else dim
    if head.pooler:
        room += linear(1, dim, width, bias=head.pooler_bias)
    if head.pooler and head.pooler_norm:
        room += norm(1, width, kind=core.norm, bias="norm" in core.bias)
    return room + linear(1, width, head.num_classes, bias=head.classifier_bias)
