"""The plugin door: tasks, models, datasets and trackers, from whoever brings them.

Read on in `discovery` (who is there), `loading` (who is good), `session` (what a notebook brought), `lookup` (what is
asked), `bridging` (models of other libraries), `indices` (their names), `scaffold` (a new one). All torch-free:
manifests are imported at the first question, and what they name, ``"package.module:Name"``, when it is used.
"""

from zoo.plugins.bridging import Bridging, bridge_of, bridges, refresh
from zoo.plugins.discovery import unknown_blocks
from zoo.plugins.loading import Status
from zoo.plugins.lookup import (
    PluginRow,
    blaming,
    catalogues,
    cost,
    data_task,
    dataset_loader,
    families,
    missing,
    require,
    reset,
    revision,
    row,
    rows,
    stamps,
    task_class,
    task_entry,
    task_part,
    tasks,
    trackers,
)
from zoo.plugins.session import SESSION, registered

__all__ = [
    "SESSION",
    "Bridging",
    "PluginRow",
    "Status",
    "blaming",
    "bridge_of",
    "bridges",
    "catalogues",
    "cost",
    "data_task",
    "dataset_loader",
    "families",
    "missing",
    "refresh",
    "registered",
    "require",
    "reset",
    "revision",
    "row",
    "rows",
    "stamps",
    "task_class",
    "task_entry",
    "task_part",
    "tasks",
    "trackers",
    "unknown_blocks",
]
