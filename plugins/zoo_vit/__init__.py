"""Image classification with a vision transformer: the manifest. Read on in spec, data, model, task."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="image-classification",
                task="zoo_vit.task:ImageClassification",
                embed="zoo_vit.spec:EmbedSpec",
                head="zoo_vit.spec:HeadSpec",
                augment="zoo_vit.spec:AugmentSpec",
                cost="zoo_vit.spec:cost",
                description="which of the known classes a picture shows",
            ),
        ),
        datasets={
            "digits": "zoo_vit.data:load_digits",
            "mnist": "zoo_vit.data:load_mnist",
            "cifar10": "zoo_vit.data:load_cifar10",
            "cifar10-jpeg": "zoo_vit.data:load_cifar10_jpeg",
            "cifar100": "zoo_vit.data:load_cifar100",
            "imagenet": "zoo_vit.data:load_imagenet",
        },
    )
