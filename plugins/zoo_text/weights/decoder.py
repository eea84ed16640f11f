"""What families of decoders share: the head by which they write, and what ends a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.specs import RunSpec
from zoo.weights import Published, Row, Table
from zoo_text.spec import CausalHeadSpec
from zoo_text.weights.encoder import Encoder

IGNORED_BUFFERS = (r".*\.attn\.(masked_)?bias", r".*rotary_emb\.inv_freq")
"""Masks and wavelengths that older publications hold: counted, not learnt."""
OF_WRITERS = (*IGNORED_BUFFERS, r"lm_head\..*")
"""Published tensors that a text classifier has no use for."""
AS_DECODERS: Mapping[str, Any] = {
    "core.norm_position": "pre",
    "core.first_norm": True,
    "core.final_norm": True,
    "core.causal": True,
    "embed.first_position": 0,
    "embed.num_types": 0,
    "embed.token_dim": None,
    "embed.norm": False,
    "head.pool": "last",
    "head.pooler": None,
    "head.classifier_bias": False,
}
"""What a spec says of every one of them."""


@dataclass(frozen=True)
class Decoder:
    """A family with the head that it was pretrained by, causal language modelling.

    Args:
        body: The family as a classifier has it.
        tied: Whether the head's table is that of the first room, where the configuration does not say.
    """

    body: Encoder
    tied: bool
    task: str = "causal-lm"

    @property
    def name(self) -> str:
        return self.body.name

    def recognises(self, published: Published) -> bool:
        return self.body.recognises(published)

    def settings(self, published: Published) -> Mapping[str, Any]:
        """As the classifier's, but for the head's.

        Raises:
            UserError: The rooms cannot be so, or the configuration says too little.
        """
        of_body = self.body.settings(published).items()
        rest = {key: value for key, value in of_body if not key.startswith("head.")}
        tied = bool(published.config.get("tie_word_embeddings", self.tied))
        return {**rest, "head.tied": tied, "head.bias": "lm_head.bias" in published.tensors}

    def of_their_head(self, published: Published) -> Mapping[str, Any]:
        return self.settings(published)

    def info(self, published: Published) -> Mapping[str, Any]:
        """The tokenizer, and what begins and ends a text, where the configuration says it."""
        begin, end = (published.config.get(f"{each}_token_id") for each in ("bos", "eos"))
        ends = [each for each in (end if isinstance(end, list) else [end]) if type(each) is int]
        said = {"begin": begin if type(begin) is int else None, "ends": ends or None}
        tokenizer = self.body.info(published)["tokenizer"]
        return {"tokenizer": tokenizer, **{key: value for key, value in said.items() if value is not None}}

    def table(self, spec: RunSpec) -> Table:
        body = [row for row in self.body.rows if not row.ours.startswith("head.")]
        tied = CausalHeadSpec.model_validate(spec.head).tied
        again = (r"lm_head\.weight",) if tied else ()  # the table of tokens again
        head = (Row("head.bias", "lm_head.bias"), *(() if tied else (Row("head.table", "lm_head"),)))
        return Table((*body, *head), (*IGNORED_BUFFERS, r"score\..*", *again), self.body.prefix)
