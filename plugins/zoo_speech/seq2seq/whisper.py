"""Whisper's published weights: what transformers calls what is ours.

Radford et al. 2022, arXiv:2212.04356. The first room's table of places is fixed, and kept as it was published; scores
are by the table of tokens, so `proj_out` is that again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.errors import UserError, listing
from zoo.specs import RunSpec
from zoo.weights import Published, Row, Table, read_json
from zoo.weights.configuration import activation, read_settings, refuse_no_count
from zoo_speech.seq2seq import tokens as tokenizers

PREFIX = "model."
SIZES = (
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "decoder_layers",
    "decoder_attention_heads", "decoder_ffn_dim", "num_mel_bins", "max_source_positions", "max_target_positions",
    "vocab_size",
)  # fmt: skip


def _block(ours: str, theirs: str) -> Iterator[Row]:
    """What blocks of both sides have."""
    attention = tuple(f"{theirs}.layers.{{}}.self_attn.{each}_proj" for each in "qkv")
    yield Row(f"{ours}.blocks.{{}}.norm1", f"{theirs}.layers.{{}}.self_attn_layer_norm")
    yield Row(f"{ours}.blocks.{{}}.attention.qkv", attention)
    yield Row(f"{ours}.blocks.{{}}.attention.out", f"{theirs}.layers.{{}}.self_attn.out_proj")
    yield Row(f"{ours}.blocks.{{}}.norm2", f"{theirs}.layers.{{}}.final_layer_norm")
    yield Row(f"{ours}.blocks.{{}}.mlp.fc1", f"{theirs}.layers.{{}}.fc1")
    yield Row(f"{ours}.blocks.{{}}.mlp.fc2", f"{theirs}.layers.{{}}.fc2")
    yield Row(f"{ours}.norm", f"{theirs}.layer_norm")


_CROSS = "model.decoder.layers.{}.encoder_attn"
ROWS = (
    Row("embed.conv1", "model.encoder.conv1"),
    Row("embed.conv2", "model.encoder.conv2"),
    Row("embed.position", "model.encoder.embed_positions.weight"),
    *_block("core", "model.encoder"),
    Row("head.table", "model.decoder.embed_tokens"),
    Row("head.position", "model.decoder.embed_positions"),
    Row("head.decoder.blocks.{}.cross_norm", "model.decoder.layers.{}.encoder_attn_layer_norm"),
    Row("head.decoder.blocks.{}.cross_attention.q", f"{_CROSS}.q_proj"),
    Row("head.decoder.blocks.{}.cross_attention.kv", (f"{_CROSS}.k_proj", f"{_CROSS}.v_proj")),
    Row("head.decoder.blocks.{}.cross_attention.out", f"{_CROSS}.out_proj"),
    *_block("head.decoder", "model.decoder"),
)


class Whisper:
    """`WhisperForConditionalGeneration` of transformers, of any size and number of languages."""

    name = "whisper"
    task = "speech-seq2seq"

    @staticmethod
    def recognises(published: Published) -> bool:
        return published.config.get("model_type") == "whisper"

    @staticmethod
    def settings(published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: The rooms cannot be so, the configuration says too little, or a part of the decoder is missing.
        """
        config, place = published.config, published.place
        for key in SIZES:
            refuse_no_count(published, key)
        if config.get("scale_embedding") or not config.get("tie_word_embeddings", True):
            raise UserError(
                f"the decoder of '{place}' scales its table of tokens or has another to score by, which ours cannot\n"
                "name weights whose decoder reads and scores by one table"
            )
        _require_decoder(published)
        return read_settings(published, {"activation_function": "gelu", **config}, _shape)

    @staticmethod
    def info(published: Published) -> Mapping[str, Any]:
        """The tokenizer, and the numbers of special tokens.

        Raises:
            UserError: One of them is missing, broken, or of another publication.
        """
        file = published.folder / tokenizers.GENERATION_FILE
        if not file.is_file():
            raise UserError(
                f"'{published.folder}' has no {file.name}: what begins and ends a transcription stands there\n"
                f"put the {file.name} that was published with the weights beside them"
            )
        return tokenizers.read(published.folder, read_json(file))

    @staticmethod
    def table(spec: RunSpec) -> Table:
        return Table(
            ROWS, (r"proj_out\.weight",), PREFIX, tied={"proj_out.weight": "model.decoder.embed_tokens.weight"}
        )


def _shape(config: Mapping[str, Any]) -> dict[str, Any]:
    dim, hidden = config["d_model"], config["encoder_ffn_dim"]

    def unless(key: str, usual: str) -> int | None:
        return None if config[key] == config[usual] else config[key]

    return {
        "core.dim": dim,
        "core.depth": config["encoder_layers"],
        "core.num_heads": config["encoder_attention_heads"],
        "core.mlp_dim": None if hidden == 4 * dim else hidden,
        "core.norm_eps": 1e-5,
        "core.activation": activation(config, "activation_function"),
        "core.bias": ["q", "v", "out", "mlp", "norm"],
        "embed.num_mels": config["num_mel_bins"],
        "embed.max_tokens": config["max_source_positions"],
        "embed.padded": True,
        "head.vocab_size": config["vocab_size"],
        "head.max_tokens": config["max_target_positions"],
        "head.depth": unless("decoder_layers", "encoder_layers"),
        "head.num_heads": unless("decoder_attention_heads", "encoder_attention_heads"),
        "head.mlp_dim": unless("decoder_ffn_dim", "encoder_ffn_dim"),
    }


def _require_decoder(published: Published) -> None:
    """A head may begin with new numbers, but half a decoder is a mistake.

    Raises:
        UserError: Some part of it is not there.
    """
    modules = {name.removeprefix(PREFIX).rpartition(".")[0] for name in published.tensors}
    missing: list[str] = []
    for row in ROWS:
        if row.ours.startswith("head."):
            theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
            layers = range(published.config["decoder_layers"] if "{}" in theirs[0] else 1)
            names = [each.format(layer).removeprefix(PREFIX) for layer in layers for each in theirs]
            missing += [name for name in names if name not in modules]
    if missing:
        raise UserError(
            f"the weights '{published.place}' lack parts of the decoder: {listing(missing, 3)}\n"
            "name weights that were published whole"
        )


WHISPER = Whisper()
