"""Text classification: the manifest. Read on in spec, data, tokenizer, model, task."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="text-classification",
                task="zoo_text.task:TextClassification",
                embed="zoo_text.spec:EmbedSpec",
                head="zoo_text.spec:HeadSpec",
                augment="zoo_text.spec:AugmentSpec",
                cost="zoo_text.spec:cost",
                data=("text_column", "label_column", "label_separator"),
                description="which of the known classes a text belongs to, or which several of them",
            ),
        ),
        datasets={
            "wordnet-definitions": "zoo_text.data:load_wordnet_definitions",
            "movie-reviews": "zoo_text.data:load_movie_reviews",
        },
    )
