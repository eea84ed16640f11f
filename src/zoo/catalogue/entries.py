"""From values to validated entries, of a catalogue or any other spec, and all that is wrong; the schema for editors."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.catalogue.document import Document, Problem, read
from zoo.catalogue.wording import error_keys, worded
from zoo.specs import SCHEMA_VERSION, Catalogue, CoreSpec, TrainSpec

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What could be read of a catalogue. Entries with a problem are left out of `catalogue`."""

    catalogue: Catalogue
    document: Document
    problems: tuple[Problem, ...]


def load(path: Path) -> Loaded:
    """Read a catalogue: whatever is wrong, even that there is no such file, is in `problems`."""
    document = read(path)
    catalogue, found = validate(Catalogue, document)
    problems = tuple(sorted([*document.problems, *found]))
    if problems or catalogue is None:
        catalogue = Catalogue.model_validate({**_sound(document.value, problems), "schema_version": SCHEMA_VERSION})
    return Loaded(catalogue, document, problems)


def validate(model: type[_Model], document: Document) -> tuple[_Model | None, list[Problem]]:
    """The document as a `model`, or None and why not."""
    if document.value is None and document.problems:
        return None, []
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        known = {problem.keys for problem in document.problems}
        found = [(*error_keys(details), worded(details, model)) for details in error.errors(include_url=False)]
        return None, [
            document.problem(keys, message, at_key=at_key) for keys, at_key, message in found if keys not in known
        ]


def _sound(value: Any, problems: Iterable[Problem]) -> dict[str, Any]:
    """The entries without a problem; none, if something is wrong above the entries."""
    spoiled = {problem.keys[:2] for problem in problems}
    if any(len(keys) < 2 for keys in spoiled):
        return {}
    return {
        kind: {name: entry for name, entry in entries.items() if (kind, name) not in spoiled}
        for kind, entries in value.items()
        if kind != "schema_version"
    }


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a catalogue; `embed`, `head`, `augment` and `decode` are the task's to say, and left open."""
    schema = Catalogue.model_json_schema()
    definitions = schema["$defs"]
    for room, spec_class in {"core": CoreSpec, "train": TrainSpec}.items():
        partial = spec_class.model_json_schema()
        partial.pop("required", None)
        definitions[f"{room.title()}Overrides"] = partial
    definitions["ModelSpec"]["properties"]["train"] = {"$ref": "#/$defs/TrainOverrides"}
    recipe = definitions["RecipeSpec"]["properties"]
    recipe["core"], recipe["train"] = {"$ref": "#/$defs/CoreOverrides"}, {"$ref": "#/$defs/TrainOverrides"}
    recipe["data"] = {"anyOf": [{"type": "string", "description": "a dataset's name"}, recipe["data"]]}
    for name, definition in definitions.items():
        definition["title"] = name
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A catalogue of zoo"}
