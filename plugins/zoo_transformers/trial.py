"""Which kinds of transformers' models our rooms hold: each is made small, with random numbers, and what the rooms give
for a batch is held against what transformers' own model gives for each item alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.core import Layout, Model
from zoo_transformers import speech
from zoo_transformers.image import Pixels, as_pixels
from zoo_transformers.index import LEFT_OUT
from zoo_transformers.network import REFUSED, create, library, quiet, rooms
from zoo_transformers.spec import IMAGE, SPEECH, TEXT, reach, stride
from zoo_transformers.text import Tokens, as_rows

TOLERANCE = 1e-4
LARGEST = 100_000_000
"""Parameters: a configuration that cannot be made small is not tried."""
NUM_LABELS, VOCABULARY = 3, 120
MAPPINGS = {
    TEXT: "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    IMAGE: "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    SPEECH: "MODEL_FOR_CTC_MAPPING_NAMES",
}
WIDTHS = "hidden_size d_model n_embd dim embedding_size emb_dim embed_dim embedding_dim word_embed_proj_dim"
DEPTHS = "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers"
HEADS = "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads"
MLPS = "intermediate_size ffn_dim d_ff hidden_dim encoder_ffn_dim decoder_ffn_dim n_inner"
SIZES = "max_position_embeddings=64 n_positions=64 vocab_size=120 num_key_value_heads=2 head_dim=8 d_kv=8 d_head=8"
SIZES += " rotary_dim=4 num_local_experts=2 num_experts=2 num_experts_per_tok=1"
SIZES += " num_conv_pos_embedding_groups=4 pooler_hidden_size=32"
SMALL: dict[str, int] = {
    name: size for names, size in ((WIDTHS, 32), (DEPTHS, 2), (HEADS, 4), (MLPS, 64)) for name in names.split()
} | {name: int(size) for name, _, size in (each.partition("=") for each in SIZES.split())}
"""What makes a configuration small, under the names that are in use."""


def kinds_of(task: str) -> list[str]:
    """Those that transformers has a class for."""
    from transformers.models.auto import modeling_auto

    return list(getattr(modeling_auto, MAPPINGS[task]))


def tried(task: str, kind: str) -> str | None:
    """Why a kind is nothing for a task; None where all is well."""
    torch.manual_seed(0)
    try:
        with quiet(), torch.no_grad():
            ours, theirs = TRIALS[task](kind, small(kind))
    except Exception as error:  # whatever a model raises that is fed otherwise than it wants
        return f"{type(error).__name__}: {error}"
    if ours.shape != theirs.shape:
        return f"scores of {list(ours.shape)}, not {list(theirs.shape)}"
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    return None if difference <= TOLERANCE else f"scores differ by {difference:.1e}"


def small(kind: str) -> dict[str, Any]:
    """A small configuration of a kind."""
    found: dict[str, Any] = library().CONFIG_MAPPING[kind]().to_dict()
    found |= {key: value for key, value in SMALL.items() if isinstance(found.get(key), int)}
    if isinstance(found.get("num_heads"), list):  # of stages, whose widths must be multiples
        found["embed_dim"] = library().CONFIG_MAPPING[kind]().embed_dim
    for key in ("out_features", "out_indices", "stage_names"):
        found.pop(key, None)
    found |= {key: 1 for key in found if key.endswith("_token_id") and isinstance(found[key], int) and found[key] > 99}
    if isinstance(found.get("layer_types"), list):
        found["layer_types"] = found["layer_types"][:2]
    if kind == "gpt_neo":
        found |= {"attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]}
    if kind in kinds_of(SPEECH):
        found |= {"conv_dim": [16] * len(found.get("conv_dim", ()))}
    left_out = (*LEFT_OUT, *REFUSED)
    return {key: value for key, value in found.items() if key not in left_out and not key.startswith("_")}


def _twice(task: str, kind: str, options: Mapping[str, Any], **ours: Any) -> tuple[Any, Any]:
    """Two equal models, in evaluation mode."""
    with torch.device("meta"):
        number = sum(each.numel() for each in create(task, kind, options, NUM_LABELS, **ours).parameters())
    if number > LARGEST:
        raise ValueError(f"with {number:,} parameters it cannot be made small")
    one, other = (create(task, kind, options, NUM_LABELS, **ours).eval() for _ in range(2))
    other.load_state_dict(one.state_dict())
    return one, other


def _text(kind: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    whole, other = _twice(TEXT, kind, options, vocab_size=VOCABULARY)
    model = Model(Tokens(other.config.pad_token_id), *rooms(other, as_rows)).eval()
    tokens = torch.randint(5, 100, (14,))
    end = getattr(other.config, "eos_token_id", None)
    tokens[[4, 13]] = end if isinstance(end, int) else 2  # some read what stands at the end
    alone = [whole(input_ids=part[None]).logits for part in tokens.split([5, 9])]
    return model({"tokens": tokens, "layout": Layout.from_lengths([5, 9])}).logits, torch.cat(alone)


def _image(kind: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    whole, other = _twice(IMAGE, kind, options, num_channels=3)
    side = options.get("image_size", 224)
    pictures = torch.randn(2, 3, *(side if isinstance(side, list | tuple) else (side, side)))
    model = Model(Pixels(3), *rooms(other, as_pixels)).eval()
    return model({"image": pictures}).logits, torch.cat([whole(pixel_values=each[None]).logits for each in pictures])


def _speech(kind: str, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    whole, other = _twice(SPEECH, kind, options, vocab_size=VOCABULARY, pad_token_id=0)
    model = speech.take_apart(other, options, normalise=False).eval()
    lengths = [4, 9]
    counts = [stride(options) * (length - 1) + reach(options) for length in lengths]
    recordings = [torch.randn(count) for count in counts]
    inputs = {
        "samples": torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True),
        "num_samples": torch.tensor(counts),
        "layout": Layout.from_lengths(lengths),
        "num_tokens": sum(lengths),
    }
    return model(inputs).logits, torch.cat([whole(input_values=each[None]).logits[0] for each in recordings])


TRIALS: Mapping[str, Callable[[str, Mapping[str, Any]], tuple[Tensor, Tensor]]] = {
    TEXT: _text,
    IMAGE: _image,
    SPEECH: _speech,
}
