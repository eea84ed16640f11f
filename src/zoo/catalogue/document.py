"""From a YAML file to values, each with its place; every error at once with its file, line and column.

YAML 1.2 core schema (yaml.org/spec/1.2.2, 10.3): `1e-3` is a number; `no`, `on` and `1_000` are text. And less than
YAML: one document; no anchors, aliases, merge keys or tags; every key is text and stands once; every number is finite.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo.catalogue.wording import Keys, dotted
from zoo.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 16

NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong in a file, or on the command line (line 0). `keys` lead to it; `plugin` is whose file it is."""

    file: str
    line: int
    column: int
    message: str
    keys: Keys = ()
    plugin: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" if place else self.message


@dataclass(slots=True)
class Document:
    """A YAML document as plain values, with the line and column (from 1) of every key and value."""

    file: str
    value: Any = None
    key_places: dict[Keys, tuple[int, int]] = field(default_factory=dict)
    value_places: dict[Keys, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, keys: Keys, message: str, *, at_key: bool = False) -> Problem:
        """A problem at these keys, or at the nearest that are in the file."""
        places = self.key_places if at_key else self.value_places
        near = keys
        while near and near not in places:
            near, places = near[:-1], self.key_places
        line, column = places.get(near, (1, 1) if self.value_places else (0, 0))
        return Problem(self.file, line, column, f"{dotted(keys)}: {message}" if keys else message, keys)


def raise_problems(problems: Iterable[Problem]) -> None:
    """All of them as one `UserError`, in the order of the file."""
    if listed := sorted(problems):
        raise UserError("\n".join(map(str, listed)))


def read(path: Path) -> Document:
    """The YAML document in a file; that it is missing, larger than 1 MB or not UTF-8 is a problem of it."""
    document = Document(str(path))
    content = b""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            message = f"larger than {MAX_BYTES:,} bytes; split it into catalogues of several plugins"
            document.problems.append(Problem(document.file, 0, 0, message))
            return document
        return parse(content.decode("utf-8-sig"), document.file)
    except OSError as error:
        document.problems.append(Problem(document.file, 0, 0, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        document.problems.append(Problem(document.file, line, column, "not UTF-8; save the file in that encoding"))
    return document


def parse(text: str, file: str) -> Document:
    """Plain values and where they stand; what is refused is in `problems`."""
    document = Document(file)
    try:
        _Composer(document, text).compose()
    except yaml.reader.ReaderError as error:
        before = text[: text.find(chr(error.character))]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        document.problems.append(
            Problem(file, line, column, f"character {error.character:#06x} is not allowed in YAML")
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = ", ".join(filter(None, [error.context, error.problem]))
        document.problems.append(Problem(file, line, column, f"not YAML: {message}"))
    return document


class _Composer:
    """Events of libyaml's parser → values. Our own, since yaml's composer hides aliases, duplicates and places."""

    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=loader)

    def compose(self) -> None:
        next(self.events)  # the stream's start
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return
        self.document.value = self.node((), next(self.events))
        next(self.events)  # the document's end
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self.refuse((), after, "a second document; a catalogue is one, without '---' inside")

    def refuse(self, keys: Keys, event: yaml.Event, message: str) -> None:
        self.document.problems.append(Problem(self.document.file, *_place(event), message, keys))

    def node(self, keys: Keys, event: yaml.Event) -> Any:
        if len(keys) > MAX_DEPTH:
            mark: Any = event.start_mark  # libyaml's and yaml's own are alike, but of two classes
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=mark)
        self.document.value_places[keys] = _place(event)
        if isinstance(event, yaml.AliasEvent):
            return self.refuse(keys, event, f"alias '*{event.anchor}' is not allowed; write the value out")
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.anchor:
            self.refuse(keys, event, f"anchor '&{event.anchor}' is not allowed; write each value where it is used")
        if event.tag is not None:
            self.refuse(keys, event, f"tag '{event.tag}' is not allowed; write plain YAML")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(keys, event)
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(keys)
        items: list[Any] = []
        while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node((*keys, len(items)), item))
        return items

    def mapping(self, keys: Keys) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(keys, event)
            if key in entries:
                line, _ = self.document.key_places[*keys, key]
                self.refuse((*keys, key), event, f"key '{key}' stands twice; first in line {line}")
            if key is None or key in entries:
                self.node((*keys, "?"), next(self.events))
            else:
                self.document.key_places[*keys, key] = _place(event)
                entries[key] = self.node((*keys, key), next(self.events))
        return entries

    def key(self, keys: Keys, event: yaml.Event) -> str | None:
        key = self.node((*keys, "?"), event)
        if isinstance(event, yaml.AliasEvent):
            return None
        if not isinstance(key, str):
            remedy = f"; quote it: '{event.value}'" if isinstance(event, yaml.ScalarEvent) else ""
            return self.refuse(keys, event, f"a key must be text{remedy}")
        if key == "<<":
            return self.refuse(keys, event, "merge key '<<' is not allowed; write the values out")
        return key

    def scalar(self, keys: Keys, event: yaml.ScalarEvent) -> str | int | float | bool | None:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if NULL.match(text):
            return None
        if BOOL.match(text):
            return text in {"true", "True", "TRUE"}
        if INT.match(text):
            if len(text) > 40:
                return self.refuse(keys, event, f"a number of {len(text)} digits; at most 40 are read")
            return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
        if FLOAT.match(text):
            number = float(text) if text[-1] in "0123456789." else math.inf
            if math.isinf(number):
                return self.refuse(keys, event, f"'{text}' is not a finite number")
            return number
        return text


def _place(event: yaml.Event) -> tuple[int, int]:
    """Line and column, from 1."""
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1, mark.column + 1
