"""Speech written token by token: its task, and the walk as a user, from published weights to subtitles."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from tiny_whisper import (
    PLACES,
    generation_of,
    make_tokenizer,
    noise,
    publish,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zoo.cli import main
from zoo.contract import Item, Record
from zoo.core import Layout
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import RunSpec
from zoo.testing import of_task
from zoo_speech import audio
from zoo_speech.audio import Sound
from zoo_speech.seq2seq.model import LogMelEmbed
from zoo_speech.seq2seq.spec import LogMelSpec, WritingSpec, cost
from zoo_speech.seq2seq.task import SpeechSeq2Seq, as_inputs
from zoo_speech.seq2seq.tokens import Tokens, learn, numbers
from zoo_speech.seq2seq.windows import FromRecording

# ---------------------------------------------------------------- the task


def learnt(**settings: Any) -> tuple[RunSpec, dict[str, Any]]:
    """A model without weights, of a window of a second, and its tokenizer."""
    small = {"core.dim": 32, "core.num_heads": 2, "core.depth": 2, "embed.max_tokens": PLACES}
    asked = small | {key.replace("__", "."): each for key, each in settings.items()}
    info = learn(["yes no", "no <|endoftext|>"], 300)
    spec = open_registry().resolve("whisper-micro", settings=asked | {"head.vocab_size": Tokens(info).num_rows(None)})
    return spec.spec, info


def test_a_learnt_tokenizer_writes_what_it_spells() -> None:
    tokens = Tokens(learn(["yes no", "Ja: nein!"], 300))
    assert tokens.write(tokens.spell("Yes, né <|endoftext|> 🦜")) == "Yes, né <|endoftext|> 🦜"
    assert tokens.prompt(None, "transcribe", times=False) == [tokens.start]
    assert tokens.write([*tokens.spell("no"), tokens.end]) == "no"
    with pytest.raises(UserError, match="learnt no times"):
        tokens.prompt(None, "transcribe", times=True)
    with pytest.raises(UserError, match="cannot translate"):
        tokens.prompt(None, "translate", times=False)
    with pytest.raises(UserError, match="knows no languages apart"):
        tokens.language(WritingSpec(language="en"))


def test_the_prompt_is_not_scored() -> None:
    spec, own = learnt()
    told = {"tokenizer": make_tokenizer().to_str(), "generation": numbers(Path(), generation_of(make_tokenizer()))}
    for info, prompt in ((own, 1), (told, 4)):
        decode = {"language": "en"} if prompt > 1 else {}
        task = SpeechSeq2Seq(spec.model_copy(update={"decode": decode}), info)
        samples = [task.transform(Item(text, Sound(noise(0.5), 16_000), text), None) for text in ("yes no", "no")]
        batch = task.collate(samples, ["a", "b"])
        spelt = [task.tokens.spell(text) for text in ("yes no", "no")]
        assert len(task.prompt or ()) == prompt
        scored = batch.targets["next"][batch.targets["next"] != -100].tolist()
        assert scored == [*spelt[0], task.tokens.end, *spelt[1], task.tokens.end]
        assert batch.targets["count"] == len(scored)
        assert batch.inputs["said"].tolist() == [*(task.prompt or ()), *spelt[0], *(task.prompt or ()), *spelt[1]]


def test_what_cannot_be_learnt_from_is_told() -> None:
    spec, info = learnt(head__max_tokens=8)
    task, rng = SpeechSeq2Seq(spec, info), np.random.default_rng(0)
    with pytest.raises(UserError, match="longer than the 1 s that are heard at once, and the model learnt no times"):
        task.transform(Item("a", Sound(noise(1.2), 16_000), "yes"), None)
    with pytest.raises(UserError, match=r"the transcription has \d+ tokens, but 7 can be written"):
        task.transform(Item("a", Sound(noise(0.5), 16_000), "yes no yes no yes no 12345"), rng)
    told = {"tokenizer": make_tokenizer().to_str(), "generation": numbers(Path(), generation_of(make_tokenizer()))}
    task = SpeechSeq2Seq(spec, told)
    with pytest.raises(UserError, match=r"lasts 1\.2 s, but 1 s are heard at once"):
        task.transform(Item("a", Sound(noise(1.2), 16_000), "y"), rng)
    assert not task.transform(Item("a", Sound(noise(1.2), 16_000), "y"), None)["fits"]


def test_error_rates_are_of_texts_by_the_rule() -> None:
    spec, info = learnt()
    records = [Record("a", "Yes, I do!", "yes I do", columns={"seconds": 1.0})]

    def wer(**decode: bool) -> float:
        task = SpeechSeq2Seq(spec.model_copy(update={"decode": decode}), info)
        return task.measure(records).statistics["wer"](np.ones(1))

    assert wer() == 0
    assert wer(lowercase=False) == pytest.approx(1 / 3)
    assert wer(lowercase=False, punctuation=True) == pytest.approx(2 / 3)


def test_a_long_file_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "long.wav", noise(200), 16_000)
    longest: list[int] = []
    read = audio.read

    def watched(*arguments: Any) -> Any:
        samples = read(*arguments)
        longest.append(len(samples))
        return samples

    monkeypatch.setattr(audio, "read", watched)
    embed = LogMelEmbed(16, num_mels=80, max_tokens=1500)
    frames = FromRecording(tmp_path / "long.wav", embed, torch.device("cpu"))
    frames.cut(10_000, 13_000)
    assert max(longest) <= 34 * 16_000


def test_it_reads_the_data_of_speech_to_text_and_of_no_other() -> None:
    known = open_registry()
    assert known.place("morse", "speech-seq2seq") == "morse"
    assert known.resolve("whisper-tiny", data="spoken-digits").spec.data.name == "spoken-digits"
    with pytest.raises(UserError, match="'digits' is for image-classification, but model 'whisper-tiny' is for speech"):
        known.resolve("whisper-tiny", data="digits", task=None)


@pytest.mark.parametrize("padded", [True, False])
def test_the_formula_counts_what_is_built_and_done(padded: bool) -> None:
    spec, _ = learnt(embed__padded=padded, head__depth=3, head__num_heads=4, head__mlp_dim=48)
    model, num_samples = SpeechSeq2Seq.build(spec), PLACES * 320
    inputs = as_inputs([noise(PLACES * 0.02)], LogMelSpec.model_validate(spec.embed))
    inputs |= {"said": torch.zeros(32, dtype=torch.long), "said_layout": Layout.from_lengths([32])}
    frames = model.embed.frames(inputs["samples"], torch.tensor([num_samples]))
    model.embed.frames = lambda *_: frames
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
    assert cost(spec).flops == counter.get_total_flops()


@pytest.mark.parametrize("size", ["tiny", "base", "small"])
def test_sizes_are_as_published(size: str) -> None:
    """As transformers counts what is learnt: its table of the encoder's places is fixed, and not among them."""
    dim, depth, heads = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12)}[size]
    sides = {"layers": depth, "attention_heads": heads, "ffn_dim": 4 * dim}
    options = {f"{side}_{key}": each for side in ("encoder", "decoder") for key, each in sides.items()}
    with torch.device("meta"):
        reference = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(d_model=dim, **options))
    assert cost(open_registry().own(f"whisper-{size}").spec).parameters == reference.num_parameters(only_trainable=True)


def test_a_run_resumes_bit_for_bit(voices: Path) -> None:
    small = {"core.dim": 32, "core.num_heads": 2, "core.depth": 2, "head.max_pieces": 280, "train.batch_size": 2}
    of_task.check_resume("whisper-micro", small | {"decode.max_new_tokens": 3}, data=str(voices))


# ---------------------------------------------------------------- the walk, as a user

SIZES = {"core.dim": 48, "core.depth": 3, "core.num_heads": 3, "core.mlp_dim": 96, "train.device": "cpu"}
SAID = ("Yes, we do.", "No!", "Perhaps: ask me", "never", "always", "Maybe so", "ja", "nein", "Well", "Fine.")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    publish(folder)
    return folder


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    for i in range(len(SAID)):
        soundfile.write(folder / f"{i}.wav", noise(0.4 + 0.05 * i, i), 16_000)
    rows = [f'{i}.wav,"{text}"' for i, text in enumerate(SAID)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]))
    return folder


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def asked(**settings: object) -> list[str]:
    said = {**SIZES, "decode.language": "en", **{key.replace("__", "."): each for key, each in settings.items()}}
    return [part for key, each in said.items() for part in ("--set", f"{key}={each}")]


def test_from_published_weights_to_subtitles(
    zoo: Callable[..., tuple[int, str, str]], published: Path, voices: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    begun = ("train", "whisper-tiny", "--weights", published, "--data", voices, "--steps", 2, "--out", run)
    status, out, err = zoo(*begun, *asked())
    assert status == 0, err
    report = json.loads((run / "report.json").read_text())
    assert {"wer", "cer"} <= report["metrics"].keys()
    assert report["loss"] > 0

    soundfile.write(tmp_path / "long.wav", noise(3.5, 5), 16_000)
    for name, begin in (("a.srt", "1\n00:00:0"), ("a.vtt", "WEBVTT\n\n00:00:0")):
        status, out, err = zoo("predict", run, tmp_path / "long.wav", "--out", tmp_path / name)
        assert status == 0, err
        assert (tmp_path / name).read_text().startswith(begin)
    told = ("--set", "decode.timestamps=true", "--set", "decode.language=null")
    status, out, err = zoo("predict", run, voices / "3.wav", tmp_path / "long.wav", "--json", *told)
    assert status == 0, err
    short, long = json.loads(out)
    assert long["seconds"] == 3.5
    assert {short["language"], long["language"]} <= {"en", "de"}
    for each in (short, long):
        ends = [(segment["start"], segment["end"]) for segment in each["segments"]]
        assert all(0 <= start <= end <= each["seconds"] for start, end in ends)
    assert long["segments"][-1]["end"] > 2.5

    goes_on = tmp_path / "goes-on"
    status, out, err = zoo("train", "whisper-tiny", "--weights", run, "--data", voices, "--steps", 1, "--out", goes_on,
                           *asked())  # fmt: skip
    assert status == 0, err
    assert zoo("eval", run, "--split", "all", "--set", "decode.timestamps=true")[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"--set": "decode.language=null"}, "several languages, and no transcription says which"),
        ({"--set": "decode.language=fr"}, "the model has no 'fr'"),
        ({"--set": "core.depth=4"}, "not of the size of 'whisper-tiny'"),
        ({"model": "stt-micro"}, "are for speech-seq2seq, not for speech-to-text"),
        ({"without": "tokenizer.json"}, "has no tokenizer.json"),
        ({"without": "generation_config.json"}, "has no generation_config.json"),
        ({"instead": "{"}, "is no tokenizer.json"),
        ({"generation": {"eos_token_id": None}}, "does not say by whole numbers"),
        ({"generation": {"no_timestamps_token_id": 3}}, "not of one publication"),
        ({"config": {"vocab_size": 100}}, "the tokenizer gives 317 ids, but the weights have vectors for 100"),
        ({"config": {"d_model": "48"}}, "d_model '48', which is no whole number"),
        ({"config": {"tie_word_embeddings": False}}, "has another to score by"),
        ({"config": {"activation_function": "mish"}}, "activation_function is 'mish'"),
        ({"config": {"activation_function": ["gelu"]}}, "has a wrong value"),
        ({"config": {"decoder_layers": 4}}, "lack parts of the decoder: decoder.layers.3.encoder_attn_layer_norm"),
        ({"config": {"max_target_positions": 60}}, r"embed_positions.weight is \[40, 48\], not \[60, 48\]"),
    ],
    ids=str,
)
def test_wrong_weights_are_told(
    change: dict[str, Any],
    message: str,
    zoo: Callable[..., tuple[int, str, str]],
    published: Path,
    voices: Path,
    tmp_path: Path,
) -> None:
    weights = Path(shutil.copytree(published, tmp_path / "weights"))
    for file, key in (("config.json", "config"), ("generation_config.json", "generation")):
        content = json.loads((weights / file).read_text()) | change.get(key, {})
        (weights / file).write_text(json.dumps(content))
    if "without" in change:
        (weights / change["without"]).unlink()
    if "instead" in change:
        (weights / "tokenizer.json").write_text(change["instead"])
    settings = asked() + (["--set", change["--set"]] if "--set" in change else [])
    model = change.get("model", "whisper-tiny")
    out = tmp_path / "run"
    status, _, err = zoo("train", model, "--weights", weights, "--data", voices, "--steps", 1, "--out", out,
                         *(settings if model == "whisper-tiny" else []))  # fmt: skip
    if not message:
        assert status == 0, err
        return
    assert status == 2, err
    assert re.search(message, " ".join(err.split())), err
    assert not out.exists()
