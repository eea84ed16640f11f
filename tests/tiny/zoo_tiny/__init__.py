"""The task of conftest.py, as a plugin."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    entry = TaskEntry(
        name="sums", task="zoo_tiny.task:Sums", head="zoo_tiny.spec:HeadSpec", augment="zoo_tiny.spec:AugmentSpec"
    )
    return Manifest(API_VERSION, tasks=[entry], datasets={"sums": "zoo_tiny.task:load"})
