"""The registry: every model, recipe and dataset by name, and the spec that a command means.

Read on in `names` (what there is), `resolution` (layers of settings to one spec), `checking` (what is wrong with a
catalogue), `registration` (what a notebook brings), `run_spec` (the file in a run folder). All torch-free.
"""

from zoo.registry.checking import check
from zoo.registry.names import (
    Registry,
    built_in_catalogue,
    gather,
    is_address,
    list_models,
    offered,
    open_registry,
    read_alike,
)
from zoo.registry.registration import register
from zoo.registry.resolution import Resolved, revise, settle
from zoo.registry.run_spec import read_run_spec, write_run_spec

__all__ = [
    "Registry",
    "Resolved",
    "built_in_catalogue",
    "check",
    "gather",
    "is_address",
    "list_models",
    "offered",
    "open_registry",
    "read_alike",
    "read_run_spec",
    "register",
    "revise",
    "settle",
    "write_run_spec",
]
