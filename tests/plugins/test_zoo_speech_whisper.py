"""transformers' Whisper in our rooms: equal frames, scores, gradients and texts, short and long, and back unchanged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from tiny_whisper import CONFIG, NUM_TEXT, PLACES, generation_of, make_tokenizer, noise, ours, peer, writers

from zoo.contract import Item
from zoo.core import Layout, Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, record
from zoo_speech.audio import Sound
from zoo_speech.seq2seq.decoding import Progress, Transcriber
from zoo_speech.seq2seq.model import LogMelEmbed, table_of_places
from zoo_speech.seq2seq.spec import LogMelSpec
from zoo_speech.seq2seq.task import SpeechSeq2Seq, as_inputs
from zoo_speech.seq2seq.tokens import Tokens, numbers
from zoo_speech.seq2seq.whisper import WHISPER
from zoo_speech.seq2seq.windows import FromRecording, InMemory

VARIANTS: dict[str, dict[str, Any]] = {
    "whisper": {},
    "whisper with a smaller decoder": {"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64},
    "whisper of 128 bands": {"num_mel_bins": 128, "encoder_ffn_dim": 192, "decoder_ffn_dim": 192},
}


# ---------------------------------------------------------------- the first room


@pytest.mark.parametrize("num_mels", [80, 128])
def test_frames_are_those_of_the_feature_extractor(num_mels: int) -> None:
    extractor = transformers.WhisperFeatureExtractor(feature_size=num_mels)
    embed = LogMelEmbed(16, num_mels=num_mels, max_tokens=1500)
    recordings = [noise(3.3, 1), noise(0.01, 2), noise(30, 3), np.zeros(16_000, np.float32)]
    inputs = as_inputs(recordings, LogMelSpec(num_mels=num_mels))
    frames, counts = embed.frames(inputs["samples"], inputs["num_samples"])
    wanted = torch.from_numpy(extractor(recordings, sampling_rate=16_000)["input_features"])
    assert counts.tolist() == [3000] * 4
    torch.testing.assert_close(frames, wanted, atol=2e-5, rtol=1e-5)


def test_a_long_recording_s_frames_are_those_of_the_whole(tmp_path: Path) -> None:
    extractor, embed = transformers.WhisperFeatureExtractor(), LogMelEmbed(16, num_mels=80, max_tokens=1500)
    for samples in (noise(67.03, 1), noise(61.0, 2)[:-37]):
        wanted = extractor(samples, sampling_rate=16_000, truncation=False, padding="longest")["input_features"][0]
        soundfile.write(tmp_path / "long.wav", samples, 16_000, subtype="FLOAT")
        for recording in (tmp_path / "long.wav", Sound(samples, 16_000)):
            frames = FromRecording(recording, embed, torch.device("cpu"))
            assert frames.count == wanted.shape[1]
            for begin, end in ((0, 3000), (1, 2), (2999, 5999), (frames.count - 1000, frames.count), (3700, 3710)):
                found = frames.cut(begin, end)
                torch.testing.assert_close(found, torch.from_numpy(wanted[:, begin:end]), atol=2e-5, rtol=1e-5)


def test_a_long_file_at_another_rate_is_resampled_piece_by_piece_as_at_once(tmp_path: Path) -> None:
    embed = LogMelEmbed(16, num_mels=80, max_tokens=1500)
    samples = noise(70.0, 4)[: 44_100 * 25]
    soundfile.write(tmp_path / "long.wav", samples, 44_100, subtype="FLOAT")
    pieces = FromRecording(tmp_path / "long.wav", embed, torch.device("cpu"))
    whole = FromRecording(Sound(samples, 44_100), embed, torch.device("cpu"))
    assert pieces.count == whole.count
    for begin, end in ((0, 500), (500, 1700), (whole.count - 300, whole.count)):
        torch.testing.assert_close(pieces.cut(begin, end), whole.cut(begin, end), atol=2e-5, rtol=1e-5)


def test_places_are_those_that_a_new_model_of_transformers_has() -> None:
    config = transformers.WhisperConfig(**CONFIG)
    wanted = transformers.WhisperForConditionalGeneration(config).get_encoder().embed_positions.weight
    torch.testing.assert_close(table_of_places(PLACES, 48), wanted.detach(), atol=1e-6, rtol=0)


# ---------------------------------------------------------------- the whole model


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(
    variant: str,
    dtype: torch.dtype,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of frames that differ widely: of those of sound, with random weights, attention is nearly even, and its gradients
    nearly nothing."""
    reference, source = peer(dtype, **VARIANTS[variant])
    model, table = ours(source, dtype)
    lengths = (5, 12, 2)
    texts = [torch.randint(0, NUM_TEXT, (length,)) for length in lengths]
    frames = torch.randn(3, reference.config.num_mel_bins, 2 * PLACES, dtype=dtype)
    monkeypatch.setattr(model.embed, "frames", lambda samples, counts: (frames, counts))
    inputs = {
        "samples": torch.zeros(3, 16_000),
        "num_samples": torch.full((3,), 16_000),
        "layout": Layout.from_lengths([PLACES] * 3),
        "num_tokens": PLACES * 3,
        "said": torch.cat(texts),
        "said_layout": Layout.from_lengths(lengths),
    }
    found = parity(
        model,
        table,
        inputs,
        reference,
        lambda: torch.cat(
            [
                reference(input_features=own[None], decoder_input_ids=text[None]).logits[0]
                for own, text in zip(frames, texts, strict=True)
            ]
        ),
    )
    record(record_property, variant, f"transformers {transformers.__version__}, one text at a time", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_back_unchanged(variant: str) -> None:
    _, source = peer(torch.float32, **VARIANTS[variant])
    model, table = ours(source, torch.float32)
    check_there_and_back(model, table, source.tensors)


# ---------------------------------------------------------------- what is written


def extracted(recordings: Sequence[np.ndarray], **options: Any) -> torch.Tensor:
    extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    return extractor(list(recordings), sampling_rate=16_000, return_tensors="pt", **options)["input_features"].double()


@torch.no_grad()
def written(model: Model, tokens: Tokens, recordings: Sequence[np.ndarray], **options: Any) -> list[Progress]:
    spec = LogMelSpec(max_tokens=PLACES)
    inputs = as_inputs(recordings, spec)
    frames, _ = model.embed.frames(inputs["samples"], inputs["num_samples"])
    language = options.pop("language", None)
    heard = [Progress(InMemory(each), language and tokens.languages[language]) for each in frames]
    Transcriber(model, tokens, **({"task": "transcribe", "times": False} | options))(heard)
    return heard


def said_by(heard: Progress) -> list[int]:
    return [each for segment in heard.segments for each in segment.tokens]


@pytest.mark.parametrize("times", [False, True], ids=["text", "times"])
@pytest.mark.parametrize("language", ["de", None])
def test_writes_what_transformers_generates(language: str | None, times: bool) -> None:
    different: set[tuple[int, ...]] = set()
    num_segments = 0
    for seed in range(3):
        reference, model, tokens = writers(seed)
        recordings = [noise(seconds, 10 * seed + i) for i, seconds in enumerate((1.0, 0.6, 0.3))]
        told = {"language": language, "task": "transcribe", "return_timestamps": times, "return_segments": True}
        wanted = reference.generate(extracted(recordings), max_new_tokens=24, **told)
        found = written(model, tokens, recordings, language=language, times=times, max_new_tokens=24)
        for own, segments in zip(found, wanted["segments"], strict=True):
            require_equal(own, segments)
            different.add(tuple(said_by(own)))
            num_segments += len(segments)
    assert len(different) > 6
    assert num_segments > 9
    if times:
        assert all(each[0] > NUM_TEXT > each[1] for each in different)


def test_nothing_is_written_of_what_is_said_after_the_end() -> None:
    """Token for token as transformers, whose last windows begin in the silence up to the whole window."""
    settings = {**WHISPER.settings(peer(torch.float64)[1]), "data.name": "nowhere", "decode.language": "en"}
    settings |= {"decode.timestamps": True, "decode.max_new_tokens": 24}
    spec = resolve("whisper", WHISPER.task, [Layer("a test", nested(settings))]).spec
    tokenizer = make_tokenizer()
    info = {"tokenizer": tokenizer.to_str(), "generation": numbers(Path(), generation_of(tokenizer))}
    for key, wrong in (("lang_to_id", [1]), ("task_to_id", {"transcribe": "x"}), ("suppress_tokens", 5)):
        with pytest.raises(UserError, match="does not say by whole numbers"):
            numbers(Path("generation_config.json"), generation_of(tokenizer) | {key: wrong})
    task = SpeechSeq2Seq(spec, info)
    num_after = 0
    for seed in range(3):
        reference, model, tokens = writers(seed)
        recordings = [noise(seconds, 10 * seed + i) for i, seconds in enumerate((0.9, 0.6, 0.3))]
        told = {"language": "en", "task": "transcribe", "return_timestamps": True, "return_segments": True}
        wanted = reference.generate(extracted(recordings), max_new_tokens=24, **told)["segments"]
        samples = [task.transform(Item("a", Sound(each, 16_000), "yes"), None) for each in recordings]
        with torch.no_grad():
            records = task.generate(model, task.collate(samples, "abc"), None)
        for own, segments, sound in zip(records, wanted, recordings, strict=True):
            within = [each for each in segments if round(float(each["start"]), 3) < len(sound) / 16_000]
            num_after += len(segments) - len(within)
            assert own.prediction == tokens.write([i for each in within for i in each["tokens"].tolist()])
            assert len(own.columns["segments"]) == len(within) > 0
    assert num_after > 3


def require_equal(found: Progress, segments: Sequence[dict[str, Any]]) -> None:
    assert [segment.tokens for segment in found.segments] == [each["tokens"].tolist() for each in segments]
    for segment, each in zip(found.segments, segments, strict=True):
        assert (segment.start, segment.end) == pytest.approx((float(each["start"]), float(each["end"])))


def test_writes_as_much_as_there_are_places_where_no_limit_is_set() -> None:
    reference, model, tokens = writers(1, max_length=40)
    told = {"language": "en", "task": "translate"}
    wanted = reference.generate(extracted([noise(1, 3)]), return_segments=True, **told)
    (found,) = written(model, tokens, [noise(1, 3)], **told)
    require_equal(found, wanted["segments"][0])
    assert len(said_by(found)) == 40 - 4


def test_a_model_of_one_language_is_told_none() -> None:
    one = {"is_multilingual": False, "lang_to_id": None, "task_to_id": None}
    for times in (False, True):
        reference, model, tokens = writers(2, **one)
        assert tokens.prompt(None, "transcribe", times=times) == [257, *([] if times else [NUM_TEXT + 9])]
        del reference.generation_config.lang_to_id, reference.generation_config.task_to_id
        options = {"return_timestamps": times, "return_segments": True}
        wanted = reference.generate(extracted([noise(1, 3)]), max_new_tokens=24, **options)
        (found,) = written(model, tokens, [noise(1, 3)], times=times, max_new_tokens=24)
        require_equal(found, wanted["segments"][0])


def test_a_long_recording_goes_on_where_transformers_does(tmp_path: Path) -> None:
    """From a file, a window at a time, several recordings at once; transformers has the frames of each whole."""
    extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    num_windows = 0
    for seed in range(3):
        reference, model, tokens = writers(seed)
        found: list[Progress] = []
        wanted: list[Any] = []
        for i, seconds in enumerate((4.33, 2.7)):
            samples = noise(seconds, 10 * seed + i)
            soundfile.write(tmp_path / f"{i}.wav", samples, 16_000, subtype="FLOAT")
            found.append(Progress(FromRecording(tmp_path / f"{i}.wav", model.embed, torch.device("cpu")), 258))
            whole = extractor(samples, sampling_rate=16_000, truncation=False, padding="longest", return_tensors="pt")[
                "input_features"
            ].double()
            told = {"language": "en", "task": "transcribe", "return_timestamps": True, "return_segments": True}
            wanted.append(reference.generate(whole, max_new_tokens=24, **told)["segments"][0])
        with torch.no_grad():
            Transcriber(model, tokens, task="transcribe", times=True, max_new_tokens=24)(found)
        for own, segments in zip(found, wanted, strict=True):
            require_equal(own, segments)
            num_windows += len(segments)
    assert num_windows > 3 * (5 + 3)
