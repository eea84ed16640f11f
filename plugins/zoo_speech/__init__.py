"""Speech to text: the manifest. Read on in spec, audio, data, writing, model, wav2vec2, decode, task."""

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
                targets=("alphabet", "pieces"),
                inputs=(
                    *("embed.front", "embed.sample_rate_hz", "embed.hop_ms", "embed.subsampling", "embed.num_stacked"),
                    *("embed.conv_kernels", "embed.conv_strides"),
                ),
                description="what is said in a recording",
            ),
            TaskEntry(
                name="masked-audio",
                task="zoo_speech.masked:MaskedFrames",
                embed="zoo_speech.spec:EmbedSpec",
                head="zoo_speech.spec:MaskedHeadSpec",
                augment="zoo_speech.spec:MaskingSpec",
                cost="zoo_speech.spec:masked_cost",
                data=("text_column", "holdout_group"),
                targets=("clusters",),
                description="which stretches of a recording were hidden: what is learnt from sound alone",
            ),
            TaskEntry(
                name="speech-seq2seq",
                task="zoo_speech.seq2seq.task:SpeechSeq2Seq",
                embed="zoo_speech.seq2seq.spec:LogMelSpec",
                head="zoo_speech.seq2seq.spec:WriterSpec",
                augment="zoo_speech.seq2seq.spec:AlteringSpec",
                decode="zoo_speech.seq2seq.spec:WritingSpec",
                cost="zoo_speech.seq2seq.spec:cost",
                data=("text_column", "holdout_group"),
                reads=("speech-to-text",),
                inputs=("embed.max_tokens", "embed.padded"),
                resizable=("embed.max_tokens", "embed.padded"),
                description="what was said, written token by token",
            ),
        ),
        datasets={
            "morse": "zoo_speech.morse:load_morse",
            "spoken-digits": "zoo_speech.data:load_spoken_digits",
            "spoken-digit-strings": "zoo_speech.data:load_spoken_digit_strings",
            "asterisk-en": "zoo_speech.data:load_asterisk",
        },
        families=(
            *(f"zoo_speech.wav2vec2.weights:{name}" for name in ("WAV2VEC2", "HUBERT", "TORCHAUDIO")),
            "zoo_speech.seq2seq.whisper:WHISPER",
        ),
    )
