"""Data of any kind by a user's word for it: a dataset's name, or a place."""

from collections.abc import Callable
from pathlib import Path

from zoo import plugins, registry
from zoo.contract import Source
from zoo.errors import unknown
from zoo.files import user_path
from zoo.specs import DataSpec


def folder_of(data: DataSpec) -> Path | None:
    """The folder that the data is, where it is one and no dataset's name."""
    path = user_path(data.name)
    return path if data.name not in registry.open_registry().datasets and path.is_dir() else None


def open_source(data: DataSpec, at_place: Callable[[DataSpec], Source], places: str) -> Source:
    """A dataset by name, or what lies at a path or another address.

    Args:
        at_place: Reads what is no dataset of the registry.
        places: What that may be, for the message.

    Raises:
        UserError: There is neither, or it cannot be read.
    """
    known = registry.open_registry().datasets
    if data.name in known:
        return plugins.dataset_loader(data.name)(data)
    if any(mark in data.name for mark in "/\\:") or user_path(data.name).exists():
        return at_place(data)
    raise unknown("dataset or place", data.name, known, f"run 'zoo data list', or give {places}")
