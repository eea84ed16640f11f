"""Where a model of transformers lies: in a folder, the mirror, or the Hugging Face Hub's cache. Torch-free."""

import os
import re
from pathlib import Path
from typing import Any

from zoo.data.places import mirror_folder
from zoo.errors import UserError
from zoo.files import read_json, user_path

CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
EXAMPLES = Path(__file__).with_name("examples")
"""Small models without weights, to try the bridge on."""


def place_of(name: str) -> Path | None:
    """The folder of a model on this machine; None where it is not here."""
    if re.fullmatch(r"[a-z0-9-]+", name) and (EXAMPLES / name).is_dir():
        return EXAMPLES / name
    for folder in (user_path(name), mirror_folder(name), _in_cache(name)):
        if folder is not None and (folder / CONFIG).is_file():
            return folder.resolve()
    return None


def is_address(name: str) -> bool:
    """Whether the Hub could have a model of this name."""
    return re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) is not None and not user_path(name).is_dir()


def config_of(folder: Path) -> dict[str, Any]:
    """
    Raises:
        UserError: It holds no settings by name, or names no model.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise UserError(f"'{folder / CONFIG}' names no model_type: it is none of transformers'\nname another folder")
    return config


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZERS)


def fetch(name: str) -> None:
    """Bring a model's configuration and vocabulary here, and no weights.

    Raises:
        UserError: They cannot be had.
    """
    if place_of(name) is None and is_address(name):
        from zoo.weights.hub import DESCRIPTIONS, VOCABULARIES, fetched

        folder = fetched(name, files=(*DESCRIPTIONS, *VOCABULARIES))
        if not (folder / CONFIG).is_file():
            raise UserError(
                f"'{name}' of the Hugging Face Hub has no {CONFIG}: it is none of transformers'\n"
                "name another model; 'zoo list hf/*' shows some"
            )


def _in_cache(name: str) -> Path | None:
    """The newest folder of a model in the Hub's cache, as `huggingface_hub` lays it out."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    head = cache / "refs" / "main"
    return cache / "snapshots" / head.read_text().strip() if head.is_file() else None
