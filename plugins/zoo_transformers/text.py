"""Text classification by a model of transformers: all is the other task's, `text-classification`, but for the model and
the tokenizer that was published with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from zoo.contract import Variant
from zoo.core import Layout, Model, Stream
from zoo.core.pack import to_padded
from zoo.errors import UserError
from zoo.specs import RunSpec, network_of
from zoo.weights.processors import without_tokenizer
from zoo_transformers.index import most_tokens
from zoo_transformers.network import create, library, quiet, rooms
from zoo_transformers.places import has_tokenizer
from zoo_transformers.spec import TEXT, TextEmbedSpec, TextHeadSpec, as_text, folder_of


def build(spec: RunSpec) -> Model:
    """A network of transformers in our rooms, with random weights.

    Raises:
        UserError: Texts may be longer than the network reads.
    """
    whole, embed = create_text(spec), TextEmbedSpec.model_validate(spec.embed)
    if (most := most_tokens(whole.config.to_dict())) is not None and embed.max_tokens > most:
        raise UserError(
            f"embed.max_tokens: the model has positions for {most} tokens, not {embed.max_tokens}\n"
            f"set embed.max_tokens={most} or less"
        )
    return Model(Tokens(whole.config.pad_token_id), *rooms(whole, as_rows))


def published(spec: RunSpec, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tokenizer that lies in the folder which `embed.tokenizer` names, where none is known."""
    folder = None if "tokenizer" in info else folder_of(TextEmbedSpec.model_validate(spec.embed))
    return {} if folder is None else {"tokenizer": tokenizer_of(folder)}


class Tokens(nn.Module):
    """The first room: packed tokens as the rows of a table, which is what a network reads.

    Args:
        pad: The token that fills the rows.
    """

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, tokens: Int[Tensor, " n"], layout: Layout) -> Stream:
        ids = to_padded(tokens, layout)
        valid = layout.padding_mask(len(tokens))
        if valid is not None:
            ids = ids.masked_fill(~valid, self.pad)
        return Stream(ids, layout, {"raw": ids})


def as_rows(x: Tensor, layout: Layout) -> dict[str, Tensor]:
    """What a network reads of rows of tokens."""
    assert layout.lengths is not None
    valid = torch.arange(x.shape[1], device=x.device) < layout.lengths[:, None]
    return {"input_ids": x, "attention_mask": valid.long()}


def create_text(spec: RunSpec) -> Any:
    """transformers' own model, whole."""
    core, embed, head = (
        network_of(spec),
        TextEmbedSpec.model_validate(spec.embed),
        TextHeadSpec.model_validate(spec.head),
    )
    return create(TEXT, core.architecture, core.options, head.num_classes, vocab_size=embed.vocab_size)


def tokenizer_of(folder: Path) -> str:
    """The tokenizer that a folder holds, as a tokenizer.json has it.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    if not has_tokenizer(folder):
        raise without_tokenizer(folder)
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json")).to_str()
        with quiet():
            found = library().AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            return found.backend_tokenizer.to_str()
    except Exception as error:  # of whichever reader the files lead to
        raise UserError(
            f"'{folder}' holds no tokenizer that can be read: {' '.join(str(error).split())[:300]}\n"
            "put the tokenizer.json that was published with the model there"
        ) from error


CLASSIFICATION = Variant(as_text, build, published)
