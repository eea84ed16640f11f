"""Trainings that begin with weights, as cheap as they can be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from zoo.core import Model
from zoo.run import Run
from zoo.training import train
from zoo_text import tokenizer as tokenizers

STILL = {"train.lr": 1e-300, "train.weight_decay": 0.0, "train.steps": 1, "train.precision": "fp32"}
"""A training that leaves the weights as they are."""
WORDS = {"fruit": ("apple", "plum", "pear"), "tool": ("hammer", "saw", "drill"), "animal": ("cat", "newt", "owl")}


def begun(name: str, data: Path, weights: Path | None, out: Path, *, task: str | None = None, **settings: Any) -> Run:
    said = STILL | {key.replace("__", "."): value for key, value in settings.items()}
    return train(name, task=task, data=str(data), weights=weights, settings=said, out=out, show_progress=False)


def table_of(path: Path, *classes: str) -> Path:
    rows = [
        f"{one} and {other} {i},{each}"
        for each in classes
        for one in WORDS[each]
        for other in WORDS[each]
        for i in range(4)
    ]
    path.write_text("\n".join(["text,label", *rows]))
    return path


def equal(ours: Model, wanted: Mapping[str, torch.Tensor], *rooms: str) -> bool:
    return all(
        torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items() if name.startswith(rooms)
    )


def publish_bert(folder: Path, words: str, *, spare: int = 0, **options: Any) -> Path:
    """A folder of transformers' BERT with the size of text-micro, as `save_pretrained` writes it.

    Args:
        words: That its tokenizer knows.
        spare: Rows of its table that no token has.
    """
    torch.manual_seed(0)
    tokenizer = tokenizers.learn("wordpiece", [words] * 4, max_vocab_size=300, lowercase=True)
    config = transformers.BertConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=384,
        vocab_size=tokenizers.size(tokenizer) + spare,
        max_position_embeddings=40,
        **options,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
