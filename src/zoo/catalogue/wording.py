"""What pydantic found wrong with a value, in our words: what it is, what is allowed, what was perhaps meant."""

import re
from collections.abc import Iterable
from typing import Any, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from zoo.errors import did_you_mean
from zoo.specs import SCHEMA_VERSION

Keys = tuple[str | int, ...]
"""Where a value stands: the keys and positions that lead to it."""


def dotted(keys: Iterable[str | int]) -> str:
    return ".".join(map(str, keys))


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_BOUNDS = {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}


def error_keys(details: ErrorDetails) -> tuple[Keys, bool]:
    """The keys of an error, and whether it is of the last key rather than its value."""
    keys = details["loc"]
    if keys and keys[-1] == "[key]":
        return keys[:-1], True
    return keys, details["type"] in {"extra_forbidden", "missing"}


def worded(details: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with a value, what is allowed and, where one comes near, what was meant."""
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    keys, at_key = error_keys(details)
    key = str(keys[-1]) if keys else ""
    if keys == ("schema_version",):
        return _explain_version(kind, given)
    if kind == "extra_forbidden":
        allowed = allowed_keys(model, keys[:-1])
        return f"unknown key '{key}'{did_you_mean(key, allowed) or '; allowed: ' + ', '.join(allowed)}"
    if kind == "missing":
        return f"'{key}' is missing"
    if kind in _WANTED:
        return f"expected {_WANTED[kind]}, got {said(given)}{_remedy(kind, given)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind]} {next(iter(context.values())):g}, got {given}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        allowed += ["null"] if _is_optional(model, keys) else []
        return f"{said(given)} is not one of {', '.join(allowed)}{did_you_mean(str(given), allowed)}"
    if kind == "too_short" and not given:
        return "expected a value at least, got none"
    if kind == "string_pattern_mismatch" and at_key:
        return f"'{key}' is not a name: small letters, digits, '.', '_', '-' only (a recipe is MODEL/RECIPE)"
    if kind == "string_pattern_mismatch":
        return f"{said(given)} does not match {context['pattern']}"
    if kind == "value_error":
        return str(context["error"])
    message = details["msg"]
    return f"{message[0].lower()}{message[1:]}, got {said(given)}"


def _explain_version(kind: str, given: Any) -> str:
    if kind == "missing":
        return f"'schema_version' is missing; write 'schema_version: {SCHEMA_VERSION}' at the top"
    if isinstance(given, int) and given > SCHEMA_VERSION:
        return f"{given} is newer than {SCHEMA_VERSION}, which this zoo reads; run 'pip install -U attention-zoo'"
    return f"{said(given)} is not {SCHEMA_VERSION}, which this zoo reads; write 'schema_version: {SCHEMA_VERSION}'"


def said(value: Any) -> str:
    """A value as a message names it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
        case dict():
            return "a mapping"
        case _:
            return "a list"


def as_yaml(value: Any) -> str:
    """A value as YAML has it, and a command takes it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(as_yaml(each) for each in cast('list[Any]', value))}]"
        case _:
            return str(value)


def _remedy(kind: str, given: Any) -> str:
    if kind == "string_type" and isinstance(given, int | float):
        return f"; quote it: '{said(given)}'"
    if kind == "bool_type" and isinstance(given, str) and given.lower() in {"yes", "no", "on", "off", "y", "n"}:
        return f"; write {'true' if given.lower() in {'yes', 'on', 'y'} else 'false'}"
    if kind in {"int_type", "float_type"} and isinstance(given, str):
        plain = given.replace("_", "").replace(",", "")
        if re.fullmatch(r"[-+]?\d+" if kind == "int_type" else r"[-+]?[\d.]+([eE][-+]?\d+)?", plain):
            return f"; write {plain} without quotes or separators"
    if kind in {"tuple_type", "list_type"} and isinstance(given, str | int | float) and not isinstance(given, bool):
        return f"; write [{given}]"
    return ""


def allowed_keys(model: type[BaseModel], keys: Keys) -> list[str]:
    """The keys of the mapping at `keys` inside a `model`; empty where any key is allowed."""
    inner = _spec_at(model, keys)
    return [] if inner is None else list(inner.model_fields)


def _is_optional(model: type[BaseModel], keys: Keys) -> bool:
    """Whether null is allowed at `keys`."""
    owner = _spec_at(model, keys[:-1])
    field = owner.model_fields.get(str(keys[-1])) if owner else None
    return field is not None and type(None) in get_args(field.annotation)


def _spec_at(annotation: Any, keys: Keys) -> type[BaseModel] | None:
    """The model that `keys` lead to, through fields, mappings, lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not keys:
            return annotation
        field_info = annotation.model_fields.get(str(keys[0]))
        return _spec_at(field_info.annotation, keys[1:]) if field_info else None
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is dict:
        return _spec_at(arguments[1], keys[1:]) if keys else None
    if origin in {list, tuple}:
        return _spec_at(arguments[0], keys[1:]) if keys else None
    return next((found for each in arguments if (found := _spec_at(each, keys)) is not None), None)
