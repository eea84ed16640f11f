"""Speech to text: the manifest. Read on in spec, audio, data, writing, model, decode, task."""

from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl


@hookimpl
def zoo_manifest() -> Manifest:
    return Manifest(
        api_version=API_VERSION,
        tasks=(
            TaskEntry(
                name="speech-to-text",
                task="zoo_speech.task:SpeechToText",
                embed="zoo_speech.spec:EmbedSpec",
                head="zoo_speech.spec:HeadSpec",
                augment="zoo_speech.spec:AugmentSpec",
                decode="zoo_speech.spec:DecodeSpec",
                cost="zoo_speech.spec:cost",
                data=("text_column", "holdout_group"),
                description="what is said in a recording",
            ),
        ),
        datasets={
            "morse": "zoo_speech.morse:load_morse",
            "spoken-digits": "zoo_speech.data:load_spoken_digits",
            "spoken-digit-strings": "zoo_speech.data:load_spoken_digit_strings",
            "asterisk-en": "zoo_speech.data:load_asterisk",
        },
    )
