"""The spec that a run was made from, as a file."""

from __future__ import annotations

from pathlib import Path

import yaml

from zoo.catalogue import BOOL, FLOAT, INT, NULL, raise_problems, read, validate
from zoo.files import write_atomically
from zoo.specs import RunSpec


def read_run_spec(path: Path) -> RunSpec:
    """The spec that a run was made from.

    Raises:
        UserError: The file is missing or is no such spec: every error with its line and column.
    """
    document = read(path)
    spec, found = validate(RunSpec, document)
    raise_problems([*document.problems, *found])
    assert spec is not None
    return spec


def write_run_spec(spec: RunSpec, path: Path) -> None:
    """Write it whole or not at all, in the order of `RunSpec`'s fields."""
    text = yaml.dump(  # pyright: ignore[reportUnknownMemberType]  # its stubs are ahead of the checker's own
        spec.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120
    )
    write_atomically(path, text)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1, which yaml writes, takes for text and YAML 1.2, which we read, for something else."""


def _text(_: _Dumper, value: str) -> yaml.ScalarNode:
    """Escaped where a character does not print: outside of double quotes YAML folds line ends of any kind."""
    style = None if value.isprintable() else '"'
    if any(pattern.match(value) for pattern in (NULL, BOOL, INT, FLOAT)):
        style = "'"
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
