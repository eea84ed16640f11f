"""Sequence tagging: the manifest."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="sequence-tagging",
                task="zoo_toy.task:SequenceTagging",
                embed="zoo_toy.spec:EmbedSpec",
                head="zoo_toy.spec:HeadSpec",
                augment="zoo_toy.spec:AugmentSpec",
                cost="zoo_toy.spec:cost",
                description="a tag for each symbol of a sequence",
            ),
        ),
        datasets={"highlow": "zoo_toy.data:load_highlow"},
    )
