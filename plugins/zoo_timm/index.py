"""The models of timm by name, without timm: from an index that comes with the plugin, or from a newer one of this
machine, which ``zoo plugins refresh timm`` makes. Torch-free."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.contract import Offered
from zoo.data.places import cache_folder
from zoo.errors import UserError, unknown
from zoo.specs import ModelSpec
from zoo_timm.spec import TASK

PACKAGED = Path(__file__).with_name("index.json")
FORMAT = 1


def cached() -> Path:
    """Where a newer index lies, if any."""
    return cache_folder() / "indices" / "timm.json"


def architectures() -> Mapping[str, Any]:
    """``{name: {"parameters", "image_size", "tags": {tag: {"source", "license", "num_classes"}}}}``; the first tag is
    timm's default one."""
    path = cached() if cached().is_file() else PACKAGED
    return _read(path, path.stat().st_mtime_ns)["architectures"]


@lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> Mapping[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, not {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the index '{path}' cannot be read: {error}\ndelete it, or run 'zoo plugins refresh timm'"
        ) from error
    return index


def offered() -> Mapping[str, Offered]:
    """Every architecture, and each with each of its tags."""
    found: dict[str, Offered] = {}
    for name, facts in architectures().items():
        found[name] = Offered(TASK, facts["parameters"], "of timm")
        for tag in facts["tags"]:
            found[f"{name}.{tag}"] = Offered(TASK, facts["parameters"], "of timm, with weights", is_variant=True)
    return found


def model(name: str) -> ModelSpec:
    """A model of timm: ``resnet18``, or ``resnet18.a1_in1k``, whose weights of that tag are the `pretrained` ones.

    Raises:
        UserError: The index has no such model.
    """
    architecture, _, tag = name.partition(".")
    facts = architectures().get(architecture)
    if facts is None or (tag and tag not in facts["tags"]):
        names = [each for each in offered() if bool(tag and facts) == ("." in each)]
        known = {f"timm/{each}" for each in names}
        remedy = "run 'zoo list timm/*', or 'zoo plugins refresh timm' where timm is newer than the index"
        raise unknown("model", f"timm/{name}", known, remedy)
    cards = {each: card for each, card in facts["tags"].items() if card["source"]}
    weights = {each: _weights(card) for each, card in cards.items()}
    if chosen := cards.get(tag) if tag else next(iter(cards.values()), None):
        weights = {"pretrained": _weights(chosen), **weights}
    return ModelSpec.model_validate(
        {
            "task": TASK,
            "description": f"{architecture} of timm",
            "core": {"architecture": architecture},
            "embed": {"image_size": facts["image_size"]},
            "weights": weights,
        }
    )


def _weights(card: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": f"hf:{card['source']}", "license": card["license"] or "unknown"}
