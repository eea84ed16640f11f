"""Tensors from files that nobody has reason to trust: safetensors, or a pickle of tensors that runs no code.

A folder holds them as the Hugging Face Hub does: `config.json` beside `model.safetensors`, or beside its shards and
their index, or beside `pytorch_model.bin`.
"""

import pickle
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import UserError, counted, listing
from zoo.files import read_json, user_path

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
        """Where whatever else was published with the tensors stands."""
        return self.place if self.place.is_dir() else self.place.parent


def read_published(place: str | Path) -> Published:
    """A checkpoint of a file or a folder.

    Raises:
        UserError: There is none, it is broken, or it is a pickle of more than tensors.
    """
    place = user_path(place)
    if not place.exists():
        raise UserError(f"there is no file or folder '{place}'\nname a .safetensors file, or a folder that holds one")
    tensors: dict[str, Tensor] = {}
    if place.is_file():
        tensors = read_tensors(place)
    else:
        files, listed = _files(place)
        for file in files:
            tensors |= read_tensors(file)
        if lost := [name for name in listed if name not in tensors]:
            raise UserError(f"'{place}' lacks what its index lists: {listing(lost, 3)}\ncopy or download it anew")
    published = Published(place, tensors, {})
    config = published.folder / "config.json"
    return replace(published, config=read_json(config)) if config.exists() else published


def _files(folder: Path) -> tuple[list[Path], Collection[str]]:
    """The files that hold a folder's weights, and the tensors that an index says are in them."""
    for name in INDICES:
        if (folder / name).exists():
            weight_map = read_json(folder / name).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise UserError(f"'{folder / name}' has no weight_map\ncopy or download it anew")
            parts = sorted({Path(str(part)).name for part in weight_map.values()})  # never out of the folder
            if absent := [part for part in parts if not (folder / part).is_file()]:
                raise UserError(
                    f"'{folder / name}' lists files that are not beside it: {listing(absent, 3)}\n"
                    "copy or download them too"
                )
            return [folder / part for part in parts], weight_map
    found = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if found is None:
        raise UserError(f"'{folder}' holds no weights\nname a folder with one of: {', '.join((*NAMES, *INDICES))}")
    return [found], ()


def read_tensors(file: Path) -> dict[str, Tensor]:
    """What one file holds.

    Raises:
        UserError: It is broken, or a pickle of more than tensors.
    """
    if file.suffix == ".safetensors":
        content = _opened(file, load_file, file)
    elif file.suffix in PICKLES:
        content = _opened(file, torch.load, file, map_location="cpu", weights_only=True)
    else:
        raise UserError(f"'{file}' is no file of weights\nname a .safetensors file, or one of {', '.join(PICKLES)}")
    for key in ("state_dict", "model"):  # where a trainer kept them
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = isinstance(content, dict) and all(isinstance(each, Tensor) for each in content.values())
    if not named or not content or not all(map(_is_plain, content.items())):
        raise UserError(f"'{file}' holds something other than named tensors of plain numbers\nname a file of weights")
    return dict(content)


def _is_plain(named: tuple[Any, Tensor]) -> bool:
    name, tensor = named
    return isinstance(name, str) and tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _opened(file: Path, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the message below says
            return read(*arguments, **options)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{file}' is no pickle of tensors alone: it holds code, or is a page or a pointer to the file; it was not "
            "loaded\ndownload it anew, or name a .safetensors file"
        ) from error
    except Exception as error:  # what a damaged file makes the readers raise has no end
        why = str(error).partition("\n")[0] or type(error).__name__
        size = file.stat().st_size if file.exists() else 0
        if not size:
            raise UserError(f"'{file}' cannot be read: it has 0 bytes\ncopy or download it anew") from error
        raise UserError(
            f"'{file}' cannot be read: {why}\nit has {counted(size, 'byte')}, and is cut short or another kind "
            "of file: copy or download it anew"
        ) from error
