"""The models of timm by name, without timm: from an index that comes with the plugin, or from a newer one of this
machine, which ``zoo plugins refresh timm`` makes. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.contract import Offered
from zoo.errors import unknown
from zoo.plugins.indices import Index
from zoo.specs import ModelSpec
from zoo_timm.spec import TASK

INDEX = Index("timm", Path(__file__).with_name("index.json"), "architectures")


def architectures() -> Mapping[str, Any]:
    """``{name: {"parameters", "image_size", "tags": {tag: {"source", "license", "num_classes"}}}}``; the first tag is
    timm's default one."""
    return INDEX.entries()


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
