"""Adapters leave for PEFT and come from it, family by family: merged by it, the weights are what ours are."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import tiny_whisper
import torch
import transformers
from published_transformers import SMALL, publish_speech, publish_text, tokenizer
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

import zoo
from zoo.core import Layout
from zoo.errors import RunWarning, UserError
from zoo.run import Run
from zoo.weights import Published, from_published, read_published, to_published
from zoo.weights.adapters import read_adapted
from zoo.weights.start import open_start, start_of
from zoo_speech.building import as_inputs
from zoo_speech.spec import EmbedSpec

TEXTS = dict.fromkeys(("bert", "roberta", "distilbert", "electra"), transformers.AutoModelForSequenceClassification)
TEXTS |= dict.fromkeys(("modernbert", "gpt2", "qwen2", "llama"), transformers.AutoModelForSequenceClassification)
MASKED = ("bert", "roberta", "distilbert", "electra", "modernbert")
CAUSAL = ("gpt2", "qwen2", "llama")
PICTURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (transformers.ViTForImageClassification, {}),
    "deit": (transformers.DeiTForImageClassificationWithTeacher, {}),
    "dinov2": (transformers.Dinov2ForImageClassification, {}),
    "dinov2 gated": (transformers.Dinov2ForImageClassification, {"use_swiglu_ffn": True}),
    "dinov2_with_registers": (transformers.Dinov2WithRegistersForImageClassification, {"num_register_tokens": 2}),
}
SETTINGS = {
    "train.steps": 3,
    "train.lr": 3e-2,
    "train.precision": "fp32",
    "train.lora.rank": 3,
    "train.lora.alpha": 7.5,
}
ALL = ["q", "k", "v", "out", "fc1", "fc2"]
TOKENS = torch.arange(40).view(2, 20) % 30 + 4
TOKENS[:, -1] = 3  # which ends a text
SEEN = torch.linspace(-1, 1, 2 * 3 * 28 * 28).view(2, 3, 28, 28).sin()


def adapted(name: str, task: str, weights: Path, data: str | Path, out: Path, **settings: Any) -> Run:
    """A run with adapters that learnt much in little."""
    theirs = open_start(weights, task).settings
    sizes = ("dim", "depth", "num_heads", "num_kv_heads", "head_dim", "mlp_dim")
    asked = {key: theirs[key] for each in sizes if theirs.get(key := f"core.{each}") is not None}
    asked |= SETTINGS | {"train.lora.targets": ALL} | {key.replace("__", "."): each for key, each in settings.items()}
    return zoo.train(name, task=task, weights=weights, data=str(data), settings=asked, out=out, show_progress=False)


def differing(run: Run, published: Published, of: str = "") -> dict[str, float]:
    """Where a run's weights, or those of a room, are not those published, and by how much."""
    start = start_of(run.spec)
    assert start is not None
    model = run.load_model()
    placed = from_published(model, published.tensors, start.family.table(run.spec))
    assert not any(name.startswith(of) for name in placed.new)
    ours = model.state_dict()
    found = {
        name: float((each - ours[name]).abs().max()) for name, each in placed.tensors.items() if name.startswith(of)
    }
    return {name: each for name, each in found.items() if each > 1e-6}


def merged(base: Any, adapters: Path, place: Path, beside: Path) -> Published:
    """What PEFT makes of a model of transformers and adapters, as transformers writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as of adapters that found no place
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", ".*(a tied layer is part|no longer tied)")  # both are there
        whole = peft.PeftModel.from_pretrained(base, adapters).merge_and_unload()
    whole.save_pretrained(place)
    for file in beside.glob("*token*"):
        shutil.copy(file, place)
    return read_published(place)


# ---------------------------------------------------------------- ours leave


@pytest.mark.parametrize("kind", TEXTS)
def test_a_classifier_of_texts_is_the_same_in_peft(kind: str, reviews: str, tmp_path: Path) -> None:
    publish_text(tmp_path / "base", kind)
    run = adapted("text-micro", "text-classification", tmp_path / "base", reviews, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RunWarning)
        zoo.export(run, tmp_path / "out")
    base = TEXTS[kind].from_pretrained(tmp_path / "base")
    with torch.no_grad():
        inputs = {"tokens": TOKENS.flatten(), "layout": Layout.from_lengths([20, 20])}
        ours = run.load_model()(inputs).logits
        before = base.eval()(input_ids=TOKENS).logits
        after = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()(input_ids=TOKENS).logits
    assert (before - after).abs().max() > 1e-2, "the adapters learnt something"
    torch.testing.assert_close(after, ours, rtol=1e-5, atol=1e-5)
    again = TEXTS[kind].from_pretrained(tmp_path / "base")
    assert not differing(run, merged(again, tmp_path / "out", tmp_path / "merged", tmp_path / "base"))


@pytest.mark.parametrize("alone", [False, True], ids=["whole", "alone"])
@pytest.mark.parametrize(
    ("task", "kind"), [*(("masked-lm", each) for each in MASKED), *(("causal-lm", each) for each in CAUSAL)]
)
def test_a_language_model_is_the_same_in_peft(task: str, kind: str, alone: bool, reviews: str, tmp_path: Path) -> None:
    """Published alone, without a prefix, as GPT-2 is on the Hub, which scores by its table of tokens."""
    maker = transformers.AutoModelForMaskedLM if task == "masked-lm" else transformers.AutoModelForCausalLM
    options = {"vocab_size": 37, "tie_word_embeddings": True}
    publish_text(tmp_path / "base", kind, transformers.AutoModel if alone else maker, **options)
    words = Tokenizer.from_file(str(tmp_path / "base" / "tokenizer.json"))
    words.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    words.save(str(tmp_path / "base" / "tokenizer.json"))
    run = adapted("text-micro", task, tmp_path / "base", reviews, tmp_path / "run")
    zoo.export(run, tmp_path / "out")
    base = maker.from_pretrained(tmp_path / "base")
    before = base.eval()(input_ids=TOKENS).logits
    assert not differing(run, merged(base, tmp_path / "out", tmp_path / "merged", tmp_path / "base"))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["fan_in_fan_out"] == (kind == "gpt2")
    model = peft.PeftModel.from_pretrained(maker.from_pretrained(tmp_path / "base"), tmp_path / "out")
    start, whole = start_of(run.spec), maker.from_pretrained(tmp_path / "base")
    assert start is not None
    told = whole.load_state_dict(to_published(run.load_model(), start.family.table(run.spec)), strict=False)
    assert not told.unexpected_keys
    with torch.no_grad():  # masked models score by the table of tokens
        theirs, ours = (each.eval()(input_ids=TOKENS).logits for each in (model, whole))
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    assert (theirs - before).abs().max() > 1e-2, "the adapters learnt something"


@pytest.mark.parametrize("kind", PICTURES)
def test_a_classifier_of_pictures_is_the_same_in_peft(kind: str, pictures: Path, tmp_path: Path) -> None:
    base = published_pictures(tmp_path / "base", kind)
    run = adapted("vit-micro", "image-classification", tmp_path / "base", pictures, tmp_path / "run")
    zoo.export(run, tmp_path / "out")
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    with torch.no_grad():
        ours = run.load_model()({"image": SEEN}).logits
        torch.testing.assert_close(model(pixel_values=SEEN).logits, ours, rtol=1e-5, atol=1e-5)
    again = PICTURES[kind][0].from_pretrained(tmp_path / "base")
    assert not differing(run, merged(again, tmp_path / "out", tmp_path / "merged", tmp_path / "base"))


def published_pictures(place: Path, kind: str) -> Any:
    torch.manual_seed(0)
    maker, options = PICTURES[kind]
    config = transformers.AutoConfig.for_model(
        kind.partition(" ")[0], image_size=28, patch_size=7, **{**SMALL, **options}
    )
    model = maker(config)
    for name, each in model.named_parameters():
        if "classifier" in name:
            nn.init.normal_(each)
    model.save_pretrained(place)
    return maker.from_pretrained(place)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_a_recogniser_is_the_same_in_peft(kind: str, voice: str, tmp_path: Path) -> None:
    publish_speech(tmp_path / "base", kind)
    run = adapted("wav2vec2-base", "speech-to-text", tmp_path / "base", voice, tmp_path / "run")
    zoo.export(run, tmp_path / "out")
    rows = run.spec.head["num_symbols"]
    options = {"vocab_size": rows, "ignore_mismatched_sizes": True}
    base = transformers.AutoModelForCTC.from_pretrained(tmp_path / "base", **options)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    samples = torch.randn(1, 8000)
    inputs = as_inputs([samples[0].numpy()], EmbedSpec.model_validate(run.spec.embed))
    with torch.no_grad():
        theirs, ours = model(input_values=samples).logits[0], run.load_model()(inputs).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    again = transformers.AutoModelForCTC.from_pretrained(tmp_path / "base", **options)
    assert not differing(run, merged(again, tmp_path / "out", tmp_path / "merged", tmp_path / "base"))


def test_a_writer_of_speech_is_the_same_in_peft(voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token by token, each likeliest one read again by the table that also gives the scores."""
    tiny_whisper.publish(tmp_path / "base")
    run = adapted("whisper-tiny", "speech-seq2seq", tmp_path / "base", voice, tmp_path / "run", decode__language="en")
    zoo.export(run, tmp_path / "out")
    maker = transformers.WhisperForConditionalGeneration
    model = peft.PeftModel.from_pretrained(maker.from_pretrained(tmp_path / "base"), tmp_path / "out").eval()
    assert not differing(
        run, merged(maker.from_pretrained(tmp_path / "base"), tmp_path / "out", tmp_path / "merged", tmp_path / "base")
    )
    ours, frames = run.load_model(), torch.randn(1, 80, 2 * tiny_whisper.PLACES)
    monkeypatch.setattr(ours.embed, "frames", lambda samples, counts: (frames, counts))
    said = [tiny_whisper.NUM_TEXT + 1]
    with torch.no_grad():
        for _ in range(12):
            inputs = {
                "samples": torch.zeros(1, 16_000),
                "num_samples": torch.tensor([16_000]),
                "layout": Layout.from_lengths([tiny_whisper.PLACES]),
                "num_tokens": tiny_whisper.PLACES,
                "said": torch.tensor(said),
                "said_layout": Layout.from_lengths([len(said)]),
            }
            found = ours(inputs).logits
            wanted = model(input_features=frames, decoder_input_ids=torch.tensor([said])).logits[0]
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
            said.append(int(found[-1].argmax()))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (
            {"head__pool": "mean", "head__pooler": None},
            r"head.pool mean, not cls, head.pooler null, not tanh\n.* with --set head.pool=cls --set head.pooler=tanh",
        ),
        ({"head__pool": "seq"}, r"head.score.* has no name there"),
        ({"head__classifier_bias": False}, r"head.classifier_bias false, not true\n.* --set head.classifier_bias=true"),
    ],
    ids=["mean", "seq", "bias"],
)
@pytest.mark.parametrize("maker", [transformers.AutoModel, transformers.AutoModelForMaskedLM], ids=["alone", "whole"])
def test_a_head_that_is_not_the_library_s_stays(
    maker: Any, settings: dict[str, Any], what: str, reviews: str, tmp_path: Path
) -> None:
    """The adapters are of the library's model without a head, however the weights were published."""
    publish_text(tmp_path / "base", "bert", maker)
    run = adapted("text-micro", "text-classification", tmp_path / "base", reviews, tmp_path / "run", **settings)
    with pytest.warns(RunWarning, match=rf"is not that of bert and stays with the run: it has .*{what}"):
        zoo.export(run, tmp_path / "out")
    names = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(".lora_" in name for name in names)
    assert_states_are_the_same(run, transformers.BertModel, tmp_path)


def assert_states_are_the_same(run: Run, maker: Any, folder: Path) -> None:
    """What a model without a head gives with the adapters in a folder's `out`; and what comes back of these."""
    model = peft.PeftModel.from_pretrained(maker.from_pretrained(folder / "base"), folder / "out").eval()
    model = getattr(model.base_model.model, "text_model", model)  # of two encoders
    with torch.no_grad():
        inputs = {"tokens": TOKENS.flatten(), "layout": Layout.from_lengths([20, 20])}
        states = run.load_model()(inputs, return_intermediates=True).intermediates.output
        theirs = model(input_ids=TOKENS).last_hidden_state
    torch.testing.assert_close(states.view_as(theirs), theirs, rtol=1e-5, atol=1e-5)
    assert not differing(run, read_adapted(folder / "out"), of="core.")


@pytest.mark.parametrize("maker", [transformers.CLIPTextModel, transformers.CLIPModel], ids=["alone", "two encoders"])
def test_a_classifier_that_transformers_has_not_stays(maker: Any, reviews: str, tmp_path: Path) -> None:
    texts = {**SMALL, "vocab_size": 36, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    both = {"text_config": texts, "vision_config": {**SMALL, "image_size": 28, "patch_size": 7}}
    torch.manual_seed(0)
    alone = maker is transformers.CLIPTextModel
    maker(transformers.CLIPTextConfig(**texts) if alone else transformers.CLIPConfig(**both)).save_pretrained(
        tmp_path / "base"
    )
    tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    run = adapted("text-micro", "text-classification", tmp_path / "base", reviews, tmp_path / "run")
    with pytest.warns(RunWarning, match=r"stays with the run: it has head.classifier.* has no name there"):
        zoo.export(run, tmp_path / "out")
    assert_states_are_the_same(run, maker, tmp_path)


def test_a_head_of_another_task_stays_without_advice(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig(image_size=28, patch_size=7, **SMALL)).save_pretrained(
        tmp_path / "base"
    )
    run = adapted("vit-micro", "masked-image", tmp_path / "base", pictures, tmp_path / "run")
    with pytest.warns(RunWarning, match=r"it has head.mask_token, which has no name there(?s:.*) without a head$"):
        zoo.export(run, tmp_path / "out")


def test_sentences_pool_as_their_publication_and_not_as_bert(reviews: str, tmp_path: Path) -> None:
    publish_text(tmp_path / "base", "bert", transformers.AutoModel)
    (tmp_path / "base" / "1_Pooling").mkdir()
    (tmp_path / "base" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    run = adapted("text-micro", "text-classification", tmp_path / "base", reviews, tmp_path / "run")
    with pytest.warns(RunWarning, match="it has head.pool mean, not cls"):
        zoo.export(run, tmp_path / "out")


def test_adapters_that_are_frozen_are_refused(reviews: str, tmp_path: Path) -> None:
    publish_text(tmp_path / "base", "bert")
    for frozen in (["core"], ["core.blocks"], ["core.blocks.*.parametrizations"]):
        with pytest.raises(UserError, match=r"train.freeze: it leaves no adapter to train\nleave core out of it"):
            adapted(
                "text-micro", "text-classification", tmp_path / "base", reviews, tmp_path / "run", train__freeze=frozen
            )
    assert not (tmp_path / "run").exists()


def test_adapters_upon_adapters_do_not_leave(reviews: str, tmp_path: Path) -> None:
    publish_text(tmp_path / "base", "bert")
    one = adapted("text-micro", "text-classification", tmp_path / "base", reviews, tmp_path / "one")
    zoo.export(one, tmp_path / "out")
    two = adapted("text-micro", "text-classification", tmp_path / "out", reviews, tmp_path / "two")
    with pytest.raises(UserError, match=r"which is no base that PEFT reads\nmerge those with PEFT, and train upon"):
        zoo.export(two, tmp_path / "again")
    assert not (tmp_path / "again").exists()


# ---------------------------------------------------------------- PEFT's come


OF_TEXTS = transformers.AutoModelForSequenceClassification
CASES: Mapping[str, tuple[Any, list[str], int]] = {
    "bert": (OF_TEXTS, ["query", "output.dense"], 6),
    "roberta": (OF_TEXTS, ["query", "intermediate.dense"], 4),
    "electra": (OF_TEXTS, ["key", "value"], 4),
    "distilbert": (OF_TEXTS, ["q_lin", "lin1"], 4),
    "modernbert": (OF_TEXTS, ["Wqkv", "Wo"], 6),
    "openai-gpt": (transformers.AutoModelForCausalLM, ["attn.c_proj", "c_fc"], 4),
    "gpt2": (transformers.AutoModelForCausalLM, ["c_attn", "c_proj"], 6),
    "qwen2": (transformers.AutoModelForCausalLM, ["q_proj", "up_proj"], 4),
    "llama": (transformers.AutoModelForCausalLM, ["k_proj", "down_proj"], 4),
    **{kind: (maker, ["q_proj", "o_proj", "fc2"], 6) for kind, (maker, _) in PICTURES.items()},
    "dinov2 gated": (PICTURES["dinov2 gated"][0], ["q_proj", "gate_proj", "up_proj", "down_proj"], 6),
    "wav2vec2": (transformers.AutoModelForCTC, ["q_proj", "intermediate_dense"], 4),
    "hubert": (transformers.AutoModelForCTC, ["v_proj", "output_dense"], 4),
    "whisper": (transformers.WhisperForConditionalGeneration, ["q_proj", "fc1"], 15),
}
"""What is adapted, and how many published tensors that changes."""


@pytest.mark.parametrize("kind", CASES)
def test_what_peft_learnt_is_read_as_peft_merges_it(kind: str, tmp_path: Path) -> None:
    maker, targets, count = CASES[kind]
    if kind in PICTURES:
        published_pictures(tmp_path / "base", kind)
    elif kind == "whisper":
        tiny_whisper.publish(tmp_path / "base")
    elif maker is transformers.AutoModelForCTC:
        publish_speech(tmp_path / "base", kind)
    else:
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2} if kind == "openai-gpt" else {}
        publish_text(tmp_path / "base", kind, maker, **sizes)
    turned = kind in ("gpt2", "openai-gpt")
    learnt_by_peft(maker.from_pretrained(tmp_path / "base"), targets, tmp_path, fan_in_fan_out=turned)
    found, wanted, before = (
        each.tensors
        for each in (
            read_adapted(tmp_path / "adapters"),
            read_published(tmp_path / "merged"),
            read_published(tmp_path / "base"),
        )
    )
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(dict(found), dict(wanted), rtol=1e-6, atol=1e-6)
    assert sum(not torch.equal(each, wanted[name]) for name, each in before.items()) == count
    file = tmp_path / "adapters" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fan_in_fan_out": True}))
    if not turned:
        with pytest.raises(UserError, match=r"fan_in_fan_out true, which is read for gpt2, .*\nmerge them with PEFT"):
            read_adapted(tmp_path / "adapters")


def learnt_by_peft(base: Any, targets: list[str], folder: Path, **options: Any) -> None:
    """Adapters in a folder's `adapters`, of the weights in its `base`, and what PEFT merges to in `merged`."""
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets, **options))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder / "adapters")
    model.merge_and_unload().save_pretrained(folder / "merged")
    file = folder / "adapters" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(folder / "base")}))


@pytest.mark.parametrize(("maker", "of"), [("SiglipVisionModel", "vision"), ("SiglipTextModel", "text")])
def test_adapters_of_one_encoder_are_read_into_that_of_the_two(maker: str, of: str, tmp_path: Path) -> None:
    """Both have the same names and sizes; PEFT says which it adapted, unless it was told a task."""
    both = {"text_config": {**SMALL, "vocab_size": 40}, "vision_config": {**SMALL, "image_size": 28, "patch_size": 7}}
    torch.manual_seed(0)
    transformers.SiglipModel(transformers.SiglipConfig(**both)).save_pretrained(tmp_path / "base")
    learnt_by_peft(getattr(transformers, maker).from_pretrained(tmp_path / "base"), ["q_proj", "k_proj"], tmp_path)
    found, before = (each.tensors for each in (read_adapted(tmp_path / "adapters"), read_published(tmp_path / "base")))
    changed = [name for name, each in before.items() if not torch.equal(each, found[name])]
    assert len(changed) == 4
    assert all(name.startswith(f"{of}_model.") for name in changed)
    file = tmp_path / "adapters" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_mapping": None}))
    with pytest.raises(UserError, match=r"fit text_model., vision_model. of .* alike\nput the weights of the encoder"):
        read_adapted(tmp_path / "adapters")
