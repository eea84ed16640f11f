"""A Whisper of random numbers, as transformers publishes it and as it is in our rooms; and sound to be heard."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn

from zoo.core import Model
from zoo.registry.resolution import Layer, nested, resolve
from zoo.testing.of_weights import randomise
from zoo.weights import Published, Table, from_published
from zoo_speech.seq2seq.spec import cost
from zoo_speech.seq2seq.task import SpeechSeq2Seq
from zoo_speech.seq2seq.tokens import Tokens, numbers
from zoo_speech.seq2seq.whisper import WHISPER

PLACES = 50
"""Of the encoder: a window of one second."""
SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
NUM_TEXT = 256


def make_tokenizer(num_places: int = PLACES) -> Tokenizer:
    """As Whisper's: bytes, special tokens, times."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={each: i for i, each in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
    times = [AddedToken(f"<|{i * 0.02:.2f}|>", special=False, normalized=False) for i in range(num_places + 1)]
    tokenizer.add_tokens(times)
    return tokenizer


def generation_of(tokenizer: Tokenizer) -> dict[str, Any]:
    number = tokenizer.token_to_id
    return {
        "decoder_start_token_id": number("<|startoftranscript|>"),
        "eos_token_id": number("<|endoftext|>"),
        "pad_token_id": number("<|endoftext|>"),
        "bos_token_id": number("<|endoftext|>"),
        "no_timestamps_token_id": number("<|notimestamps|>"),
        "lang_to_id": {"<|en|>": number("<|en|>"), "<|de|>": number("<|de|>")},
        "task_to_id": {"transcribe": number("<|transcribe|>"), "translate": number("<|translate|>")},
        "is_multilingual": True,
        "suppress_tokens": [1, 2, 7, *range(NUM_TEXT + 1, NUM_TEXT + 9)],
        "begin_suppress_tokens": [220, number("<|endoftext|>")],
        "max_initial_timestamp_index": 20,
    }


CONFIG = {
    "d_model": 48,
    "encoder_layers": 3,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 96,
    "decoder_layers": 3,
    "decoder_attention_heads": 3,
    "decoder_ffn_dim": 96,
    "num_mel_bins": 80,
    "max_source_positions": PLACES,
    "max_target_positions": 40,
    "vocab_size": NUM_TEXT + len(SPECIAL) + PLACES + 1,
    "pad_token_id": NUM_TEXT,
    "bos_token_id": NUM_TEXT,
    "eos_token_id": NUM_TEXT,
    "decoder_start_token_id": NUM_TEXT + 1,
}


def publish(place: Path, **options: Any) -> nn.Module:
    """A folder as the Hub has it, of random numbers."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(options.get("max_source_positions", PLACES))
    config = transformers.WhisperConfig(**(CONFIG | options))
    reference = transformers.WhisperForConditionalGeneration(config)
    randomise(reference.get_encoder())
    randomise(reference.get_decoder())
    reference.save_pretrained(place)
    tokenizer.save(str(place / "tokenizer.json"))
    (place / "generation_config.json").write_text(json.dumps(generation_of(tokenizer)))
    return reference.eval()


def peer(dtype: torch.dtype, **options: Any) -> tuple[nn.Module, Published]:
    """A model of transformers' with random weights, and what its file on the Hub would hold."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(**(CONFIG | options), attn_implementation="sdpa")
    reference = transformers.WhisperForConditionalGeneration(config).to(dtype).eval()
    randomise(reference)
    reference.tie_weights()
    tensors = {name: each for name, each in reference.state_dict().items() if name != "proj_out.weight"}
    return reference, Published(Path(), tensors, config.to_dict())


def ours(source: Published, dtype: torch.dtype) -> tuple[Model, Table]:
    settings = {**WHISPER.settings(source), "data.name": "nowhere"}
    spec = resolve("whisper", WHISPER.task, [Layer("weights", nested(settings))]).spec
    model, table = SpeechSeq2Seq.build(spec).to(dtype).eval(), WHISPER.table(spec)
    placed = from_published(model, source.tensors, table)
    assert not placed.new
    assert not placed.left_out
    model.load_state_dict(placed.tensors)
    assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
    return model, table


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that change, in noise: what is said of them does not come to rest."""
    rng = np.random.default_rng(seed)
    count = round(16_000 * seconds)
    pieces = count // 800 + 1
    pitch, loudness = (np.repeat(rng.uniform(*span, pieces), 800)[:count] for span in ((100, 7000), (-3, -0.3)))
    tones = np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) * 10**loudness
    return (tones + rng.normal(0, 1e-3, count)).astype(np.float32)


def writers(seed: int, **options: Any) -> tuple[nn.Module, Model, Tokens]:
    """A peer that writes text and times in turn, ours with the same weights, and its tokens."""
    reference, source = peer(torch.float64)
    torch.manual_seed(seed)
    randomise(reference)
    with torch.no_grad():  # of scores nearly alike the many times together are always the likeliest
        reference.get_decoder().layer_norm.weight.mul_(6)
        reference.get_decoder().embed_positions.weight.mul_(6)
        reference.get_encoder().conv1.weight.mul_(3)
    reference.tie_weights()
    tokenizer = make_tokenizer()
    told = generation_of(tokenizer) | options
    reference.generation_config = transformers.GenerationConfig(**told)
    source = Published(source.place, reference.state_dict(), source.config)
    model, _ = ours(source, torch.float64)
    return reference, model, tokens_of(tokenizer, told)


def tokens_of(tokenizer: Tokenizer, told: dict[str, Any]) -> Tokens:
    return Tokens({"tokenizer": tokenizer.to_str(), "generation": numbers(Path("generation_config.json"), told)})
