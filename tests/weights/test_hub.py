"""Weights by name: from the mirror, from the Hub's cache, and what is said where they cannot be had."""

import hashlib
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import WeightsSpec
from zoo.weights.hub import locate, parse_address
from zoo.weights.start import place_of

NAMED = parse_address("hf:someone/something@0123")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)


def mirrored(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> Path:
    folder = mirror / "someone" / "something"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"numbers")
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    return folder


def test_the_mirror_comes_first_and_is_held_against_the_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = mirrored(monkeypatch, tmp_path)
    assert locate(parse_address("hf:someone/something")) == folder
    right = NAMED.model_copy(update={"sha256": hashlib.sha256(b"numbers").hexdigest()})
    (folder / "model.safetensors.index.json").write_text("{}")  # never looked at
    assert locate(right) == folder / "model.safetensors"
    wrong = NAMED.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(
        UserError, match=r"model.safetensors' is not what the catalogue names: its SHA-256 is .*, not 00"
    ):
        locate(wrong)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"there is no .*model.safetensors', which the catalogue names\ncopy or fetch"):
        locate(right)


def test_the_hub_is_asked_for_the_revision_and_for_no_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    asked = {}

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert locate(NAMED) == tmp_path
    assert (asked["name"], asked["revision"]) == ("someone/something", "0123")
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in asked["patterns"])


@pytest.mark.usefixtures("offline")
def test_what_cannot_be_fetched_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"cannot fetch 'someone/something' .*\ncheck the network and HF_HUB_OFFLINE, or"
    ):
        locate(NAMED)
    for wrong in ("hf:", "hf:a/b/c", "hf:a b"):
        with pytest.raises(UserError, match=f"'{wrong}' is no name of the Hugging Face Hub\nwrite hf:OWNER/NAME"):
            parse_address(wrong)

    def missing(name: str, **options: object) -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(
        UserError, match=r"shows no 'someone/something' at 0123 to you\nmind the spelling; .*hf auth login"
    ):
        locate(NAMED)


def test_a_command_names_weights_of_its_model_or_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = mirrored(monkeypatch, tmp_path)
    assert place_of("hf:someone/something", "text-micro") == folder
    with monkeypatch.context() as without_network:
        without_network.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(
            UserError, match="cannot fetch 'someone/something'"
        ):  # of the mirror's, no revision is known
            place_of("hf:someone/something@0123", "text-micro")
    assert place_of(str(tmp_path / "elsewhere"), "text-micro") == tmp_path / "elsewhere"
    assert "all-minilm-l6-v2" in open_registry().models["text-minilm-l6"].weights
    (tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2").mkdir(parents=True)
    with pytest.raises(UserError, match=r"there is no '.*model.safetensors', which the catalogue names"):
        place_of("all-minilm-l6-v2", "text-minilm-l6")


def test_every_weight_of_the_catalogue_is_pinned() -> None:
    named = {
        f"{model}/{name}": weights
        for model, spec in open_registry().models.items()
        for name, weights in spec.weights.items()
    }
    assert named
    loose = [
        name
        for name, each in named.items()
        if not isinstance(each, WeightsSpec) or None in (each.revision, each.sha256)
    ]
    assert not loose
