"""A bridge to the models of transformers: the manifest. Read on in spec, index, places, network, the tasks, weights."""

from zoo.contract import API_VERSION, Bridge, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="hf-text-classification",
                task="zoo_transformers.text:CLASSIFICATION",
                embed="zoo_transformers.spec:TextEmbedSpec",
                head="zoo_transformers.spec:TextHeadSpec",
                inputs=("embed.max_tokens",),
                resizable=("embed.max_tokens",),
                like="text-classification",
                network=True,
                description="text classification by a model of transformers",
            ),
            TaskEntry(
                name="hf-image-classification",
                task="zoo_transformers.image:CLASSIFICATION",
                embed="zoo_transformers.spec:ImageEmbedSpec",
                head="zoo_transformers.spec:ImageHeadSpec",
                inputs=("embed.image_size", "embed.channels"),
                resizable=("embed.crop_fraction", "embed.crop_mode", "embed.interpolation", "embed.resizer"),
                like="image-classification",
                network=True,
                description="image classification by a model of transformers",
            ),
            TaskEntry(
                name="hf-speech-to-text",
                task="zoo_transformers.speech:RECOGNITION",
                embed="zoo_transformers.spec:SpeechEmbedSpec",
                head="zoo_transformers.spec:SpeechHeadSpec",
                inputs=("embed.sample_rate_hz",),
                like="speech-to-text",
                network=True,
                description="speech to text by a CTC model of transformers",
            ),
        ),
        families=tuple(f"zoo_transformers.weights:{name}" for name in ("TEXTS", "PICTURES", "RECORDINGS")),
        bridges=(
            Bridge(
                prefix="hf",
                offered="zoo_transformers.index:offered",
                model="zoo_transformers.index:model",
                refresh="zoo_transformers.refresh:refresh",
                fetch="zoo_transformers.places:fetch",
                examples={
                    "hf-text-classification": "tiny-bert",
                    "hf-image-classification": "tiny-vit",
                    "hf-speech-to-text": "tiny-wav2vec2",
                },
            ),
        ),
    )
