"""Where pictures come from: scikit-learn's digits, torchvision's sets, an archive of JPEGs, any class folders.

Nothing is downloaded here: `zoo data fetch` does that, or a mirror folder holds it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from zoo.contract import Dataset, Item, Source
from zoo.data.fetch import contents
from zoo.data.folder import read_class_folders
from zoo.data.places import make_cache_folder, require
from zoo.data.splits import Subset
from zoo.errors import UserError
from zoo.files import user_path
from zoo.specs import DataSpec
from zoo_vit.pictures import SUFFIXES, decode

Array: TypeAlias = UInt8[np.ndarray, "n c h w"]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class ArrayPictures:
    """Pictures of one size, in memory or mapped from a file; an item's input is its pixels."""

    lengths: Sequence[float] | None = None

    def __init__(self, name: str, images: Array, targets: Sequence[int]) -> None:
        self.images, self.targets = images, targets
        self.ids: Sequence[str] = [f"{name}-{i:05d}" for i in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        # A copy: the array may be mapped from a file, and tensors over what cannot be written warn.
        return Item(self.ids[index], np.array(self.images[index]), self.targets[index])

    def fingerprint(self, index: int) -> str:
        image = self.images[index]
        return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()


# ---------------------------------------------------------------- loaders, by dataset


def load_digits(data: DataSpec) -> Source:
    """1,797 handwritten digits, 8×8 grey, from scikit-learn; their 17 levels of grey are spread over 8 bits."""
    from sklearn.datasets import load_digits as read

    bunch: Any = read()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return Source({"train": ArrayPictures("digits", images, bunch.target.tolist())}, {"classes": list("0123456789")})


def load_mnist(data: DataSpec) -> Source:
    """MNIST's idx files, wherever below the dataset's folder they lie."""
    folder = require("mnist")

    def part(name: str, prefix: str) -> ArrayPictures:
        images, labels = (_idx(folder, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        return ArrayPictures(name, images[:, None], labels.tolist())

    return Source({"train": part("train", "train"), "test": part("test", "t10k")}, {"classes": list("0123456789")})


def load_cifar10(data: DataSpec) -> Source:
    return _load_cifar("cifar10", "CIFAR10")


def load_cifar100(data: DataSpec) -> Source:
    return _load_cifar("cifar100", "CIFAR100")


def load_cifar10_jpeg(data: DataSpec) -> Source:
    """CIFAR-10 as JPEG files, decoded once into the cache folder."""
    splits, classes = decoded(require("cifar10-jpeg"), channels=3)
    return Source(splits, {"classes": classes})


def load_imagenet(data: DataSpec) -> Source:
    """ImageNet-1k as unpacked folders, `train/WNID/*` and `val/WNID/*`; the latter is what the field tests on."""
    source = read_class_folders(require("imagenet"), SUFFIXES)
    if "validation" not in source.splits or "test" in source.splits:
        return source
    return Source({"train": source.splits["train"], "test": source.splits["validation"]}, source.info)


def load_folder(data: DataSpec) -> Source:
    """Any folder of class folders."""
    return read_class_folders(user_path(data.name), SUFFIXES)


def _load_cifar(name: str, torchvision_name: str) -> Source:
    import torchvision.datasets

    root = require(name)

    def part(split: str) -> tuple[ArrayPictures, list[str]]:
        try:
            read = getattr(torchvision.datasets, torchvision_name)(root, train=split == "train", download=False)
        except RuntimeError as error:
            raise UserError(f"the files of '{name}' in '{root}' are incomplete or damaged; fetch it again") from error
        return ArrayPictures(split, np.ascontiguousarray(read.data.transpose(0, 3, 1, 2)), read.targets), read.classes

    (train, classes), (test, _) = part("train"), part("test")
    return Source({"train": train, "test": test}, {"classes": classes})


def _idx(folder: Path, name: str) -> np.ndarray:
    """An array of bytes in the idx format: two zero bytes, the type (8), the number of axes, each axis, big-endian."""
    found = next(iter(sorted(folder.rglob(name))), None)
    if found is None:
        raise UserError(f"'{folder}' has no file '{name}'; it is incomplete: fetch it again")
    content = found.read_bytes()
    num_axes = content[3]
    shape = tuple(np.frombuffer(content, ">i4", num_axes, offset=4).tolist())
    if content[:3] != b"\0\0\x08" or len(content) != 4 + 4 * num_axes + int(np.prod(shape)):
        raise UserError(f"'{found}' is no idx file of bytes, or is cut short; fetch it again")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)


# ---------------------------------------------------------------- pictures decoded once


def decoded(folder: Path, channels: int) -> tuple[dict[str, Dataset], list[str]]:
    """The splits `split/class/picture` of small pictures of one size, and their classes.

    They are decoded once, into the cache folder, and kept with a hash: a damaged copy is made again.
    """
    with contents(folder) as members:
        names = sorted(name for name in members if name.lower().endswith(SUFFIXES))
        key = hashlib.sha256(json.dumps([str(folder), channels, _stamp(folder), names]).encode()).hexdigest()[:16]
        paths = [PurePosixPath(name).parts[-3:] for name in names]
        classes = sorted({label for _, label, _ in paths})
        home = make_cache_folder("decoded") / f"{folder.name}-{key}"
        if not _whole(home):
            with ThreadPoolExecutor() as pool:
                # A zip is read by one thread at a time; decoding lets go of the interpreter lock.
                images = np.stack(list(pool.map(lambda name: _decode(members[name], name, channels), names)))
            _keep(home, images)
    images = np.load(home / "images.npy", mmap_mode="r")
    splits: dict[str, Dataset] = {}
    for split in sorted({split for split, _, _ in paths}):
        where = [i for i, path in enumerate(paths) if path[0] == split]
        splits[split] = ArrayPictures(
            split, images[where[0] : where[-1] + 1], [classes.index(paths[i][1]) for i in where]
        )
    return splits, classes


def _decode(opened: Any, name: str, channels: int) -> UInt8[np.ndarray, "c h w"]:
    try:
        with opened() as file:
            return decode(file, channels)
    except Exception as error:  # decoders raise whatever a malformed file leads them to
        raise UserError(f"cannot read the picture '{name}': {error}; fetch the dataset again") from error


def _stamp(folder: Path) -> list[list[int]]:
    """Changes when the archive does."""
    return [[path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(folder.iterdir()) if path.is_file()]


def _whole(home: Path) -> bool:
    images, written = home / "images.npy", home / "sha256"
    if not (images.is_file() and written.is_file()):
        return False
    with images.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == written.read_text()


def _keep(home: Path, images: Array) -> None:
    """Write beside, then rename: another process sees all or nothing. Two may write at once, each in a folder of its
    own; the last wins, with the same bytes."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        np.save(Path(folder, "images.npy"), images)
        with open(Path(folder, "images.npy"), "rb") as file:
            Path(folder, "sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())
        for name in ("images.npy", "sha256"):
            os.replace(Path(folder, name), home / name)


# ---------------------------------------------------------------- what a model must know of its data


def normalisation(train: Subset, channels: int) -> Mapping[str, Any]:
    """Mean and deviation of each channel, from 0 to 1: the training split's where it is an array, else ImageNet's."""
    if isinstance(train.dataset, ArrayPictures) and train.dataset.images.shape[1] == channels:
        images = train.dataset.images[train.indices]
        count = images.size / channels
        levels = np.stack([np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(channels)])
        values = np.arange(256) / 255
        mean = levels @ values / count
        std = np.sqrt((levels @ values**2 / count - mean**2).clip(1 / 255**2))
        return {"mean": mean.round(6).tolist(), "std": std.round(6).tolist()}
    mean, std = (IMAGENET[key] if channels == 3 else [sum(IMAGENET[key]) / 3] * channels for key in ("mean", "std"))
    return {"mean": list(mean), "std": list(std)}
