"""Weights that are named rather than pointed at: in the mirror folder, or fetched from the Hugging Face Hub.

``ZOO_MIRROR/OWNER/NAME`` is looked at first. `huggingface_hub` keeps what it fetches in its own cache, goes on with
what was cut short, and stays off the network where ``HF_HUB_OFFLINE`` says so.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from zoo.data.places import mirror_folder, wrong_mirror
from zoo.errors import UserError
from zoo.files import user_path
from zoo.specs import WeightsSpec

HUB = "hf:"
DESCRIPTIONS = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "1_Pooling/config.json", "adapter_config.json"),
)
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "*.model")
FILES = (*DESCRIPTIONS, *VOCABULARIES, "*.safetensors", "model.safetensors.index.json")
"""What is fetched: no pickles, and no code."""


def locate(weights: WeightsSpec) -> Path:
    """Where published weights lie on this machine, fetched if need be: a folder, or the file that a hash is of.

    Raises:
        UserError: They cannot be fetched, or are not those of the catalogue.
    """
    if not weights.source.startswith(HUB):
        folder = user_path(weights.source)
    else:
        name = weights.source.removeprefix(HUB)
        # What lies in the mirror says no revision; a hash tells all the same.
        mirrored = mirror_folder(name) if weights.sha256 or not weights.revision else None
        folder = mirrored or fetched(name, weights.revision)
    if weights.sha256 is None:
        return folder
    file = folder / "model.safetensors" if folder.is_dir() else folder
    _refuse_others(file, weights.sha256)
    return file  # and no other of the folder


def local_folder(name: str, revision: str | None = None) -> Path | None:
    """Where ``OWNER/NAME`` lies on this machine, if it does: in the mirror, or in the Hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return None
    if (mirrored := mirror_folder(name)) is not None:
        return mirrored
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def name_on_hub(place: Path) -> tuple[str, str | None] | None:
    """``OWNER/NAME``, and the revision where it is known, of what lies in the Hub's cache or in the mirror."""
    if cached := re.search(r"/models--([^/]+)/snapshots/([0-9a-f]{40})", place.as_posix()):
        return cached[1].replace("--", "/"), cached[2]
    folder = (place if place.is_dir() else place.parent).absolute()
    for name in ("/".join(folder.parts[-2:]), folder.name):
        mirrored = mirror_folder(name)
        if mirrored is not None and mirrored.absolute() == folder and not name.startswith("/"):
            return name, None
    return None


def parse_address(source: str) -> WeightsSpec:
    """``hf:OWNER/NAME``, with ``@REVISION`` where wanted, as a catalogue would say it.

    Raises:
        UserError: It is no such name.
    """
    name, _, revision = source.partition("@")
    if not re.fullmatch(rf"{HUB}[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"'{source}' is no name of the Hugging Face Hub\nwrite {HUB}OWNER/NAME")
    return WeightsSpec.model_validate({"source": name, "revision": revision or None, "license": "unknown"})


def fetched(name: str, revision: str | None = None, files: Sequence[str] = FILES) -> Path:
    """The folder of a publication on the Hugging Face Hub, brought here unless it is.

    Args:
        files: Names and patterns of what is wanted of it.

    Raises:
        UserError: It cannot be had.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except HFValidationError as error:
        raise UserError(f"'{HUB}{name}' is no name of the Hugging Face Hub\nwrite {HUB}OWNER/NAME") from error
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise UserError(
            f"the Hugging Face Hub shows no '{name}'{at} to you\n"
            "mind the spelling; for what is not open to all, run 'hf auth login'"
        ) from error
    except Exception as error:  # of whichever library carries the bytes
        why = str(error).partition("\n")[0].partition(". ")[0][:160] or type(error).__name__
        if isinstance(error, LocalEntryNotFoundError):  # whose own words are many
            silent = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "there was no answer"
            why = f"{silent}, and the Hub's cache has it not"
        raise UserError(
            f"cannot fetch '{name}' from the Hugging Face Hub: {why}\ncheck the network and HF_HUB_OFFLINE, or set "
            f"ZOO_MIRROR to a folder that holds it as '{name}/'{wrong_mirror()}"
        ) from error


def _refuse_others(file: Path, sha256: str) -> None:
    if not file.is_file():
        raise UserError(f"there is no '{file}', which the catalogue names\ncopy or fetch it anew")
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"'{file}' is not what the catalogue names: its SHA-256 is {found}, not {sha256}\ncopy or fetch it anew, "
            "or point at the folder itself if it is what you want"
        )
