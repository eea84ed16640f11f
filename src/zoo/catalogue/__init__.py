"""The reader of catalogues: YAML → values (`document`) → validated entries (`entries`), in our words (`wording`)."""

from zoo.catalogue.document import (
    BOOL,
    FLOAT,
    INT,
    MAX_BYTES,
    NULL,
    Document,
    Problem,
    parse,
    raise_problems,
    read,
)
from zoo.catalogue.entries import Loaded, json_schema, load, validate
from zoo.catalogue.wording import Keys, dotted, error_keys, said, worded

__all__ = [
    "BOOL",
    "FLOAT",
    "INT",
    "MAX_BYTES",
    "NULL",
    "Document",
    "Keys",
    "Loaded",
    "Problem",
    "dotted",
    "error_keys",
    "json_schema",
    "load",
    "parse",
    "raise_problems",
    "read",
    "said",
    "validate",
    "worded",
]
