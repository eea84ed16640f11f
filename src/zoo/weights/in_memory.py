"""Modules that transformers, from version 5 on, calls otherwise in memory than in files; and so does PEFT."""

import re
from collections.abc import Mapping, Sequence

from zoo.weights.files import Published

OF_ATTENTION = {
    "attention.attention.query": ["attention.q_proj"],
    "attention.attention.key": ["attention.k_proj"],
    "attention.attention.value": ["attention.v_proj"],
    "attention.output.dense": ["attention.o_proj"],
}
OF_VIT = {
    "encoder.layer": ["layers"],
    **OF_ATTENTION,
    "intermediate.dense": ["mlp.fc1"],
    "output.dense": ["mlp.fc2"],
}
OF_DINO = {
    **OF_ATTENTION,
    "mlp.weights_in": ["mlp.gate_proj", "mlp.up_proj"],
    "mlp.weights_out": ["mlp.down_proj"],
}
IN_MEMORY: Mapping[str, Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(("vit", "deit"), OF_VIT),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), OF_DINO),
}
"""By `model_type`. Several are equal parts of what is one in files, one after another along the first axis."""


def names_in_memory(name: str, published: Published) -> list[str]:
    """What PEFT calls a published tensor or module, or each part of it."""
    names = [name]
    for old, new in _table(published).items():
        names = list(dict.fromkeys(_renamed(each, old, part) for each in names for part in new))
    return names


def name_in_file(name: str, published: Published) -> tuple[str, int, int]:
    """What a file calls what PEFT does, which part of it that is, and of how many. What PEFT called so before
    transformers 5, it calls so still."""
    part, count = 0, 1
    for old, new in reversed(list(_table(published).items())):
        for i, each in enumerate(new):
            found = _renamed(name, each, old)
            if found != name and len(new) > 1:
                part, count = i, len(new)
            name = found
    return name, part, count


def _table(published: Published) -> Mapping[str, Sequence[str]]:
    return IN_MEMORY.get(str(published.config.get("model_type")), {})


def _renamed(name: str, old: str, new: str) -> str:
    return re.sub(rf"(^|\.){re.escape(old)}\.", rf"\g<1>{new}.", f"{name}.").removesuffix(".")
