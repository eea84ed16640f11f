"""Published weights of recognisers that hear waveforms: what transformers and torchaudio call what is ours.

wav2vec 2.0: Baevski et al. 2020, arXiv:2006.11477; HuBERT: Hsu et al. 2021, arXiv:2106.07447.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.errors import UserError
from zoo.specs import RunSpec
from zoo.weights import Published, Row, Table, read_json
from zoo.weights.configuration import activation, read_settings
from zoo.weights.processors import heard_of, read_processor
from zoo_speech.writing import PUBLISHED, in_word

SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
)
CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride")
ALL_BIASES = ["q", "k", "v", "out", "mlp", "norm"]
VOCABULARY, SPELLING = "vocab.json", "tokenizer_config.json"
WEIGHT_NORM = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
"""Kernels of positions as torch kept them before it had parametrisations."""
REFUSED = {
    "add_adapter": "an adapter after the encoder",
    "adapter_attn_dim": "adapters of languages in each block",
    "conv_pos_batch_norm": "a batch norm before the convolution of positions",
    "use_weighted_layer_sum": "a head that weighs the layers",
}
"""Keys of a configuration that say of a model what ours cannot be."""
IGNORED = (
    r"(wav2vec2|hubert)\.masked_spec_embed",  # stands for masked frames in pretraining; ours are zero
    # of the task that encoders are pretrained by, which no recogniser reads
    r"(.*\.)?(quantizer|project_q|project_hid|label_embs_concat|final_proj)(\..*)?",
    r"(.*\.)?(projector|classifier)\..*",  # of a head that names a whole recording
)
"""Published tensors that a recogniser has no use for."""


def rows(features: str, project: str, encoder: str, head: str) -> tuple[Row, ...]:
    """The families differ in what they call the rooms, and in nothing within them."""
    layer, kernel = f"{encoder}.layers.{{}}", f"{encoder}.pos_conv_embed.conv"
    return (
        Row("embed.features.{}.conv", f"{features}.conv_layers.{{}}.conv"),
        Row("embed.features.{}.norm", f"{features}.conv_layers.{{}}.layer_norm"),
        Row("embed.feature_norm", f"{project}.layer_norm"),
        Row("embed.project", f"{project}.projection"),
        Row("embed.position.length", f"{kernel}.parametrizations.weight.original0"),
        Row("embed.position.direction", f"{kernel}.parametrizations.weight.original1"),
        Row("embed.position.bias", f"{kernel}.bias"),
        Row("embed.norm", f"{encoder}.layer_norm"),  # before the blocks, or
        Row("core.norm", f"{encoder}.layer_norm"),  # after them
        Row("core.blocks.{}.attention.qkv", tuple(f"{layer}.attention.{each}_proj" for each in "qkv")),
        Row("core.blocks.{}.attention.out", f"{layer}.attention.out_proj"),
        Row("core.blocks.{}.norm1", f"{layer}.layer_norm"),
        Row("core.blocks.{}.mlp.fc1", f"{layer}.feed_forward.intermediate_dense"),
        Row("core.blocks.{}.mlp.fc2", f"{layer}.feed_forward.output_dense"),
        Row("core.blocks.{}.norm2", f"{layer}.final_layer_norm"),
        Row("head.classifier", head, predicts=True),
    )


# ---------------------------------------------------------------- transformers


@dataclass(frozen=True)
class Transformers:
    """A family of transformers', encoder alone or with a head for CTC.

    Args:
        model_type: As `config.json` has it.
    """

    model_type: str
    task: str = "speech-to-text"

    @property
    def name(self) -> str:
        return self.model_type

    def recognises(self, published: Published) -> bool:
        return published.config.get("model_type") == self.model_type

    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: The rooms cannot be so, or what was published says too little.
        """
        config = published.config
        if odd := [what for key, what in REFUSED.items() if config.get(key)]:
            raise UserError(
                f"the weights '{published.place}' have {' and '.join(odd)}, which ours cannot be\nname others"
            )
        if config.get("feat_extract_activation", "gelu") != "gelu":
            raise UserError(
                f"the weights' feat_extract_activation is '{config['feat_extract_activation']}', which the first room "
                "has not\nname weights with gelu"
            )
        for key in SIZES:
            _require_counts(published, key, [config.get(key)])
        for key in CONVOLUTIONS:
            _require_counts(published, key, config.get(key))
        head = _rows_of_head(published.tensors, "lm_head")
        shape = read_settings(published, {"hidden_act": "gelu", **config}, _shape)
        return {**shape, **_preprocessing(published), **(_head(published, head) if head else {})}

    def info(self, published: Published) -> Mapping[str, Any]:
        """The symbols, where the weights have a head for them.

        Raises:
            UserError: The vocabulary is missing, broken or another's.
        """
        head = _rows_of_head(published.tensors, "lm_head")
        return {"symbols": symbols(published, head)} if head else {}

    def table(self, spec: RunSpec) -> Table:
        prefix = f"{self.model_type}."
        own = rows(f"{prefix}feature_extractor", f"{prefix}feature_projection", f"{prefix}encoder", "lm_head")
        return Table(own, IGNORED, prefix, WEIGHT_NORM)


def _shape(config: Mapping[str, Any]) -> dict[str, Any]:
    norm = config.get("feat_extract_norm", "group")
    if norm not in ("group", "layer"):
        raise UserError(f"the weights' feat_extract_norm is '{norm}', which is neither group nor layer\nname others")
    return {
        **_layout(bool(config.get("do_stable_layer_norm")), config["hidden_size"], config["intermediate_size"]),
        "core.depth": config["num_hidden_layers"],
        "core.num_heads": config["num_attention_heads"],
        "core.norm_eps": config.get("layer_norm_eps", 1e-5),
        "core.activation": activation(config, "hidden_act"),
        "embed.conv_dims": list(config["conv_dim"]),
        "embed.conv_kernels": list(config["conv_kernel"]),
        "embed.conv_strides": list(config["conv_stride"]),
        "embed.conv_bias": bool(config.get("conv_bias")),
        "embed.conv_norm": norm,
        "embed.feature_norm": bool(config.get("feat_proj_layer_norm", True)),
        "embed.position_kernel": config["num_conv_pos_embeddings"],
        "embed.position_groups": config["num_conv_pos_embedding_groups"],
    }


def _layout(stable: bool, dim: int, hidden: int) -> dict[str, Any]:
    """What all have, and where the norms stand: before each branch and after all, or after each and before all."""
    return {
        "core.dim": dim,
        "core.mlp_dim": None if hidden == 4 * dim else hidden,
        "core.norm": "layernorm",
        "core.norm_position": "pre" if stable else "post",
        "core.final_norm": stable,
        "core.bias": ALL_BIASES,
        "embed.norm": not stable,
        "embed.front": "waveform",
        "embed.position": "conv",
    }


def _preprocessing(published: Published) -> dict[str, Any]:
    return heard_of(read_processor(published.folder, "feature_extractor"), published.folder)


def _require_counts(published: Published, key: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not all(type(each) is int and each > 0 for each in values) or not values:
        raise UserError(
            f"the config.json of '{published.place}' has no {key} of whole numbers above 0\ncopy or download it anew"
        )


# ---------------------------------------------------------------- torchaudio


@dataclass(frozen=True)
class Torchaudio:
    """wav2vec 2.0 and HuBERT as torchaudio has them: tensors alone, without a configuration.

    Sizes are those of the tensors. What these cannot tell, the model that is asked for says: the number of heads and
    the strides. Where norms stand follows from those of the convolutions, as in all that torchaudio offers, and so does
    whether recordings are normalised.
    """

    name: str = "torchaudio-wav2vec2"
    task: str = "speech-to-text"

    def recognises(self, published: Published) -> bool:
        wanted = ("feature_extractor.conv_layers.0.conv.weight", "encoder.transformer.layers.0.attention.q_proj.weight")
        return "model_type" not in published.config and published.tensors.keys() >= set(wanted)

    def settings(self, published: Published) -> Mapping[str, Any]:
        """What the weights decide of a spec, by dotted key.

        Raises:
            UserError: A tensor that a size is read from is not there.
        """
        tensors = published.tensors
        named = Table((), older=WEIGHT_NORM).named(tensors)
        count = _count(named, "feature_extractor.conv_layers.{}.conv.weight")
        convolutions = [_shape_of(published, named, f"feature_extractor.conv_layers.{i}.conv.weight") for i in count]
        each_normed = "feature_extractor.conv_layers.1.layer_norm.weight" in named
        kernel = "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"
        dim, per_group, places = _shape_of(published, named, kernel)
        hidden = "encoder.transformer.layers.0.feed_forward.intermediate_dense.weight"
        head = _rows_of_head(tensors, "aux")
        return {
            **_layout(each_normed, dim, _shape_of(published, named, hidden)[0]),
            "core.depth": len(_count(named, "encoder.transformer.layers.{}.attention.q_proj.weight")),
            "core.norm_eps": 1e-5,
            "core.activation": "gelu",
            "embed.conv_dims": [shape[0] for shape in convolutions],
            "embed.conv_kernels": [shape[2] for shape in convolutions],
            "embed.conv_bias": "feature_extractor.conv_layers.0.conv.bias" in named,
            "embed.conv_norm": "layer" if each_normed else "group",
            "embed.feature_norm": True,
            "embed.position_kernel": places,
            "embed.position_groups": dim // per_group,
            "embed.sample_rate_hz": 16_000,
            "embed.normalise": each_normed,
            **(_head(published, head) if head else {}),
        }

    def info(self, published: Published) -> Mapping[str, Any]:
        """The symbols, where a vocab.json lies beside the weights: they themselves say nothing of theirs.

        Raises:
            UserError: It is broken or another's.
        """
        head = _rows_of_head(published.tensors, "aux")
        return {"symbols": symbols(published, head)} if head and _has_vocabulary(published) else {}

    def table(self, spec: RunSpec) -> Table:
        own = rows("feature_extractor", "encoder.feature_projection", "encoder.transformer", "aux")
        return Table(own, older=WEIGHT_NORM)


def _count(tensors: Mapping[str, Tensor], name: str) -> range:
    """Numbers from 0 on by which there is such a tensor."""
    return range(next(i for i in range(len(tensors) + 1) if name.format(i) not in tensors))


def _shape_of(published: Published, tensors: Mapping[str, Tensor], name: str) -> Sequence[int]:
    wanted = 2 if name.endswith("dense.weight") else 3
    if name not in tensors or tensors[name].ndim != wanted:
        raise UserError(
            f"the weights '{published.place}' lack '{name}', or it is no matrix\ncopy or download them anew"
        )
    return tensors[name].shape


# ---------------------------------------------------------------- symbols


def _rows_of_head(tensors: Mapping[str, Tensor], name: str) -> int:
    """Symbols that a head scores; 0 where there is none."""
    weight = tensors.get(f"{name}.weight")
    return 0 if weight is None or weight.ndim != 2 else len(weight)


def _has_vocabulary(published: Published) -> bool:
    return (published.folder / VOCABULARY).is_file()


def _head(published: Published, size: int) -> dict[str, Any]:
    """What a published head decides: how many symbols, which, and how transcriptions are written for them."""
    found: dict[str, Any] = {"head.num_symbols": size}
    if not _has_vocabulary(published):
        return found
    characters = "".join(symbols(published, size)["texts"])
    small, large = characters != characters.upper(), characters != characters.lower()
    # An apostrophe within a word is kept anyhow.
    marks = {each for each in characters if not in_word(each) and each not in " '"}
    return {
        **found,
        "head.symbols": PUBLISHED,
        "head.lowercase": small and not large,
        "head.uppercase": large and not small,
        "head.punctuation": bool(marks),
    }


def symbols(published: Published, size: int) -> dict[str, Any]:
    """What each row of a published head writes, and which is CTC's blank; as `Alphabet` takes it.

    Special tokens, and rows that the vocabulary does not name, write nothing.

    Raises:
        UserError: The vocabulary is missing, broken or another's.
    """
    file, remedy = published.folder / VOCABULARY, "put the one that was published with the weights beside them"
    if not file.is_file():
        raise UserError(
            f"'{published.folder}' has no {VOCABULARY}: what the head's numbers mean is not known\n{remedy}"
        )
    numbers, said = read_json(file), published.folder / SPELLING
    spelling = read_json(said) if said.is_file() else {}
    blank = published.config.get("pad_token_id", 0)
    if not all(type(number) is int for number in numbers.values()):
        raise UserError(
            f"'{file}' is no table of tokens and numbers, or one of several languages\n"
            "copy it anew, or name other weights"
        )
    unique = len(set(numbers.values())) == len(numbers)
    if not unique or type(blank) is not int or not {*numbers.values(), blank} <= set(range(size)):
        raise UserError(
            f"'{file}' is not of these weights, whose head has {size} numbers, the blank's {blank!r}\n{remedy}"
        )
    special = {_content(spelling.get(f"{kind}_token")) for kind in ("pad", "unk", "bos", "eos")}
    between = _content(spelling.get("word_delimiter_token", "|"))
    texts = [""] * size
    for token, number in numbers.items():
        if token == between:
            texts[number] = " "
        elif number != blank and token not in special and not (token[:1] + token[-1:] in ("<>", "[]") and token[1:]):
            texts[number] = token.lower() if spelling.get("do_lower_case") else token
    if long := [text for text in texts if len(text) > 1]:
        raise UserError(
            f"'{file}' has symbols of several characters, such as '{long[0]}', which ours cannot be\n"
            "name weights that write characters"
        )
    return {"texts": texts, "blank": blank}


def _content(token: Any) -> Any:
    """A token as a tokenizer's settings have it: itself, or what describes it."""
    return token.get("content") if isinstance(token, Mapping) else token


WAV2VEC2, HUBERT, TORCHAUDIO = Transformers("wav2vec2"), Transformers("hubert"), Torchaudio()
