"""Tensors from files that nobody has reason to trust: safetensors, or a pickle of tensors that runs no code.

A folder holds them as the Hugging Face Hub does: `config.json` beside `model.safetensors`, or beside its shards and
their index, or beside `pytorch_model.bin`.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import UserError

NAMES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.bin")
"""In a folder, the first that is there."""
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint as somebody published it.

    Args:
        place: The file or folder.
        config: What stands in `config.json`; empty where there is none.
    """

    place: Path
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where what belongs to it lies, such as its tokenizer."""
        return self.place if self.place.is_dir() else self.place.parent


def read_published(place: Path) -> Published:
    """A checkpoint of a file or a folder.

    Raises:
        UserError: There is none, it is broken, or it is a pickle of more than tensors.
    """
    if not place.exists():
        raise UserError(f"there is no file or folder '{place}'\nname a .safetensors file, or a folder that holds one")
    files = [place] if place.is_file() else _files(place)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _read(file)
    folder = place if place.is_dir() else place.parent
    return Published(place, tensors, _read_json(folder / "config.json") if (folder / "config.json").exists() else {})


def _files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights."""
    for name in INDICES:
        if (folder / name).exists():
            weight_map = _read_json(folder / name).get("weight_map")
            if not isinstance(weight_map, dict):
                raise UserError(f"'{folder / name}' has no weight_map\ncopy the folder anew")
            parts = sorted({Path(str(part)).name for part in weight_map.values()})  # never out of the folder
            return [folder / part for part in parts]
    found = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if found is None:
        raise UserError(f"'{folder}' holds no weights\nname a folder with one of: {', '.join((*NAMES, *INDICES))}")
    return [found]


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix in PICKLES:
            return _tensors(file, torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{file}' is a pickle of more than tensors, which may run code; it was not loaded\n"
            "name a .safetensors file"
        ) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"'{file}' cannot be read: {why}\nit may be cut short: copy or download it anew") from error
    raise UserError(f"'{file}' is no file of weights\nname a .safetensors file, or one of {', '.join(PICKLES)}")


def _tensors(file: Path, content: Any) -> dict[str, Tensor]:
    """What a pickle holds, perhaps under a key of its trainer's."""
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(each, Tensor) for each in content.values()):
        raise UserError(f"'{file}' holds something other than named tensors\nname a file of weights")
    return dict(content)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {error}\ncopy or download it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no settings by name\ncopy or download it anew")
    return content
