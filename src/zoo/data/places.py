"""Where datasets lie on this machine: a mirror folder, read-only, and a cache folder. Light enough to list by."""

import os
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import UserError


def cache_folder() -> Path:
    """``ZOO_CACHE``, or the user's cache folder; it need not be there yet."""
    asked = os.environ.get("ZOO_CACHE")
    return Path(asked) if asked else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"


def make_cache_folder(name: str) -> Path:
    """A folder of this name in the cache folder, made when missing.

    Raises:
        UserError: It cannot be written.
    """
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder '{folder}' cannot be made: {error.strerror}; set ZOO_CACHE to another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"the cache folder '{folder}' cannot be written; set ZOO_CACHE to another")
    return folder


def mirror_folder(name: str) -> Path | None:
    """``ZOO_MIRROR/name``, where it is."""
    mirror = os.environ.get("ZOO_MIRROR")
    folder = Path(mirror, name) if mirror else None
    return folder if folder and folder.is_dir() else None


def wrong_mirror() -> str:
    """A clause on a ``ZOO_MIRROR`` that is no folder; empty where there is none to tell."""
    mirror = os.environ.get("ZOO_MIRROR")
    return f" (ZOO_MIRROR is '{mirror}', which is no folder)" if mirror and not Path(mirror).is_dir() else ""


def package_file(package: str, path: str) -> Path:
    """A file within an installed package, which is not imported."""
    spec = find_spec(package)
    assert spec is not None, f"{package} is installed with the zoo"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0], path)


def locate(name: str) -> Path | None:
    """The folder of a dataset on this machine, in the mirror or fetched; None when it isn't here."""
    fetched = cache_folder() / "datasets" / name
    return mirror_folder(name) or (fetched if fetched.is_dir() else None)


def require(name: str) -> Path:
    """The folder of a dataset.

    Raises:
        UserError: It isn't here.
    """
    folder = locate(name)
    if folder is None:
        raise UserError(
            f"the dataset '{name}' is not on this machine{wrong_mirror()}; run 'zoo data fetch {name}', "
            f"or set ZOO_MIRROR to a folder that holds it as '{name}/'"
        )
    return folder
