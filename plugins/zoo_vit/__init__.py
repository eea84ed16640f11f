"""Image classification with a vision transformer: the manifest. Read on in spec, data, model, task."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl

SEEN = tuple(f"embed.{key}" for key in ("image_size", "crop_fraction", "crop_mode", "interpolation", "resizer"))
"""What of a picture the model sees: trained weights bring theirs, and can be adapted to others."""


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
                targets=("classes",),
                inputs=(*SEEN, "embed.channels"),
                resizable=SEEN,
                description="which of the known classes a picture shows",
            ),
            TaskEntry(
                name="masked-image",
                task="zoo_vit.masked:MaskedPatches",
                embed="zoo_vit.spec:EmbedSpec",
                head="zoo_vit.spec:MaskedHeadSpec",
                augment="zoo_vit.spec:MaskingSpec",
                cost="zoo_vit.spec:masked_cost",
                resizable=SEEN,
                description="which pixels of a picture were hidden: what is learnt without labels",
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
        families=(
            "zoo_vit.weights:TimmVit",
            *(f"zoo_vit.encoders:{name}" for name in ("VIT", "DEIT", "DINOV2", "DINOV2_REGISTERS", "CLIP", "SIGLIP")),
        ),
    )
