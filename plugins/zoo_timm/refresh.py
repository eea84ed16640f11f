"""The index made anew, of the timm that is installed."""

from typing import Any

from zoo.errors import counted
from zoo_timm.index import INDEX, architectures


def refresh() -> str:
    """Write the index into the cache folder.

    Parameters are counted of architectures that no index had before: counting takes as long as making the model.
    """
    index = make({name: facts["parameters"] for name, facts in architectures().items()})
    INDEX.write(index)
    number = len(index["architectures"])
    return f"{counted(number, 'architecture')} of timm {index['timm']}, in '{INDEX.cached}'"


def make(counts: dict[str, int | None]) -> dict[str, Any]:
    """The index of the timm that is installed.

    Args:
        counts: Parameters of architectures, as far as they are known.
    """
    import timm

    found: dict[str, Any] = {}
    tagged: dict[str, list[str]] = {}
    for name in timm.list_pretrained():
        architecture, _, tag = name.partition(".")
        tagged.setdefault(architecture, []).append(tag)
    for name in sorted(timm.list_models()):
        config: Any = timm.get_pretrained_cfg(name)
        if config is None:
            continue
        known = sorted(
            filter(None, tagged.get(name, [])), key=lambda tag, first=config.tag: tag != first
        )  # else in timm's order
        parameters = counts[name] if counts.get(name) else _count(name)
        if parameters is None:  # it scores no classes
            continue
        found[name] = {
            "parameters": parameters,
            "image_size": config.input_size[-1],
            "tags": {tag: _card(timm.get_pretrained_cfg(f"{name}.{tag}")) for tag in known},
        }
    return INDEX.document(timm.__version__, found)


def _card(config: Any) -> dict[str, Any]:
    """Where weights are published, if as a folder of the Hub."""
    return {"source": None if config.hf_hub_filename else config.hf_hub_id, "license": config.license}


def _count(name: str) -> int | None:
    """Parameters as published; None where it is no classifier."""
    import timm
    import torch

    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    if not hasattr(network, "get_classifier"):
        return None
    return sum(each.numel() for each in network.parameters())


if __name__ == "__main__":  # the one that comes with the plugin
    INDEX.write(make({}), INDEX.packaged)
