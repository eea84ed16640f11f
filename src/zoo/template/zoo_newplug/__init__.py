"""The manifest of the plugin `newplug`. Heavy code is named here, not imported: `zoo list` stays light."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="newplug",
                task="zoo_newplug.task:MostFrequent",
                embed="zoo_newplug.spec:EmbedSpec",
                head="zoo_newplug.spec:HeadSpec",
                augment="zoo_newplug.spec:AugmentSpec",
                cost="zoo_newplug.spec:cost",
                description="which symbol of a sequence is the most frequent",
            ),
        ),
        datasets={"newplug-generated": "zoo_newplug.data:load_generated"},
    )
