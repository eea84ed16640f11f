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
                targets=("classes", "multi_label"),
                inputs=("embed.max_tokens", "embed.pad_token"),
                resizable=("embed.max_tokens",),
                description="which of the known classes a text belongs to, or which several of them",
            ),
            TaskEntry(
                name="masked-lm",
                task="zoo_text.masked:MaskedLanguageModelling",
                embed="zoo_text.spec:EmbedSpec",
                head="zoo_text.spec:MaskedHeadSpec",
                augment="zoo_text.spec:MaskingSpec",
                cost="zoo_text.spec:masked_cost",
                data=("text_column",),
                inputs=("embed.max_tokens", "embed.pad_token", "augment.share"),
                resizable=("embed.max_tokens",),
                description="which tokens of a text were hidden: what an encoder learns before all else",
            ),
            TaskEntry(
                name="causal-lm",
                task="zoo_text.causal:CausalLanguageModelling",
                embed="zoo_text.spec:EmbedSpec",
                head="zoo_text.spec:CausalHeadSpec",
                decode="zoo_text.spec:GenerateSpec",
                cost="zoo_text.spec:causal_cost",
                data=("text_column",),
                inputs=("embed.max_tokens",),
                resizable=("embed.max_tokens",),
                description="which token of a text follows those before it: what a decoder learns, and writes by",
            ),
        ),
        datasets={
            "wordnet-definitions": "zoo_text.data:load_wordnet_definitions",
            "movie-reviews": "zoo_text.data:load_movie_reviews",
        },
        families=(
            *(
                f"zoo_text.weights:{head}{name}"
                for heads, names in (
                    (("", "MASKED_"), ("BERT", "ROBERTA", "ELECTRA", "DISTILBERT", "MODERNBERT")),
                    (("", "CAUSAL_"), ("GPT2", "LLAMA", "MISTRAL", "QWEN2", "QWEN3")),
                )
                for head in heads
                for name in names
            ),
            "zoo_text.towers:CLIP",
            "zoo_text.towers:SIGLIP",
        ),
    )
