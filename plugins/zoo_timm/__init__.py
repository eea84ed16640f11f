"""A bridge to every model of timm: the manifest. Read on in spec, index, model, task, weights."""

from zoo.contract import API_VERSION, Bridge, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="timm-image-classification",
                task="zoo_timm.task:CLASSIFICATION",
                embed="zoo_timm.spec:EmbedSpec",
                head="zoo_timm.spec:HeadSpec",
                inputs=("embed.image_size", "embed.channels"),
                resizable=(
                    "embed.image_size",
                    "embed.crop_fraction",
                    "embed.crop_mode",
                    "embed.interpolation",
                    "embed.resizer",
                ),
                like="image-classification",
                network=True,
                description="image classification by a model of timm",
            ),
        ),
        families=("zoo_timm.weights:TimmNetwork",),
        bridges=(
            Bridge(
                prefix="timm",
                offered="zoo_timm.index:offered",
                model="zoo_timm.index:model",
                refresh="zoo_timm.refresh:refresh",
                examples={"timm-image-classification": "test_resnet"},
            ),
        ),
    )
