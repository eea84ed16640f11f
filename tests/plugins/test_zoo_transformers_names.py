"""The bridge to transformers: which models there are, and what is refused."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from published_transformers import publish_text, trained
from safetensors.torch import load_file, save_file

import zoo
from zoo import plugins, registry
from zoo.core import Layout
from zoo.errors import UserError
from zoo.weights.files import read_published
from zoo_text.weights import BERT, QWEN2
from zoo_transformers import index, refresh, trial
from zoo_transformers.spec import IMAGE, SPEECH, TEXT
from zoo_transformers.weights import TEXTS

# ---------------------------------------------------------------- names and errors


def test_names_are_listed_without_transformers() -> None:
    program = (
        "import sys, zoo; print(*zoo.list_models('hf/*'))\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert {"hf/tiny-bert", "hf/google-bert/bert-base-uncased"} <= set(names.split())
    assert heavy == "[]"
    assert zoo.list_models(task=SPEECH)[0] == "hf/tiny-wav2vec2"


def test_the_index_that_comes_with_the_plugin_was_tried() -> None:
    kinds = index.INDEX.read(index.INDEX.packaged)["kinds"]
    tried = {(kind, task) for kind, facts in kinds.items() for task in facts["tasks"]}
    assert {("bert", TEXT), ("deberta-v2", TEXT), ("vit", IMAGE), ("wav2vec2", SPEECH), ("hubert", SPEECH)} <= tried
    for kind, task in (("bert", TEXT), ("vit", IMAGE), ("hubert", SPEECH)):
        assert trial.tried(task, kind) is None
    assert trial.tried(TEXT, "layoutlmv2") is not None  # it reads more than texts
    assert "layoutlmv2" not in kinds


def test_a_publication_is_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documentations were copied, so that what two kinds name is another's of one of them."""
    kinds = index.INDEX.read(index.INDEX.packaged)["kinds"]
    named = Counter(facts["published"] for facts in kinds.values() if facts["published"])
    assert len(named) > 50
    assert set(named.values()) == {1}
    monkeypatch.setattr(refresh, "_published", lambda: {"one": "a/b", "copied": "a/b", "other": "c/d"})
    monkeypatch.setattr(trial, "kinds_of", lambda task: ["one", "copied", "other"] if task == TEXT else [])
    monkeypatch.setattr(trial, "tried", lambda task, kind: None)
    made, _ = refresh.make({})
    assert {kind: facts["published"] for kind, facts in made["kinds"].items()} == {
        "one": None,
        "copied": None,
        "other": "c/d",
    }


def test_refreshing_tries_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(trial, "kinds_of", lambda task: ["bert", "fresh", "odd"] if task == TEXT else [])
    monkeypatch.setattr(trial, "tried", lambda task, kind: {"fresh": None, "odd": "it is odd"}[kind])
    (told,) = plugins.refresh("transformers")
    assert told.startswith(f"hf: 2 architectures of transformers {transformers.__version__}")
    assert told.endswith("1 of its others do not fit the bridge's rooms")
    assert index.kinds().keys() == {"bert", "fresh"}
    assert index.kinds()["bert"]["published"] == "google-bert/bert-base-uncased"
    made = {"format": 1, "kinds": {"bert": {"tasks": [TEXT], "published": None}}}
    index.INDEX.write(made, tmp_path / "index.json")
    assert index.INDEX.read(tmp_path / "index.json") == made
    index.INDEX.cached.write_text('{"format": 2}')
    with pytest.raises(
        UserError, match=r"its format is 2, not 1\ndelete it, or run 'zoo plugins refresh transformers'"
    ):
        index.kinds()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf/tiny-bird", r"there is no folder 'tiny-bird', and no such model .*; did you mean 'tiny-bert'"),
        ("hf/google-bert/bert-base-uncase", r"is not on this machine; did you mean 'google-bert/bert-base-uncased'"),
        ("tiny-bert", "unknown model 'tiny-bert'; did you mean 'hf/tiny-bert'"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(name: str, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=message):
        registry.open_registry().resolve(name, data="digits")


def test_a_folder_of_something_else_is_told(tmp_path: Path, reviews: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no config\.json: it is none of transformers'"):
        trained(f"hf/{tmp_path / 'empty'}", reviews, tmp_path / "run")
    for config, message in (
        ({}, "names no model_type"),
        ({"model_type": "whisper"}, "'whisper' is none of the architectures that the bridge to transformers leads to"),
        (
            {"model_type": "mine", "auto_map": {"AutoModel": "code.Mine"}},
            "needs code of its publisher, which is never run",
        ),
        ({"model_type": "bert", "hidden_size": 33}, "transformers .* cannot make a 'bert' of this configuration"),
    ):
        (tmp_path / "empty" / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=message):
            trained(f"hf/{tmp_path / 'empty'}", reviews, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_not_here_is_fetched_or_told(tmp_path: Path, reviews: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    with pytest.raises(
        UserError, match=r"cannot fetch 'someone/something' from the Hugging Face Hub.*\ncheck the network"
    ):
        trained("hf/someone/something", reviews, tmp_path / "run")
    publish_text(tmp_path / "mirror" / "someone" / "something")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    run = trained("hf/someone/something", reviews, tmp_path / "run", weights="pretrained")
    assert run.spec.weights is not None
    assert run.folder.name == "run"


def test_without_transformers_it_says_what_to_install(
    tmp_path: Path, reviews: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r'pip install "attention-zoo\[transformers\]"'):
        trained("hf/tiny-bert", reviews, tmp_path / "run")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({"state_dict": Path("/")}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(UserError, match="it holds code"):
        trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.lora": {}}, "train.lora adapts attention of a core of ours"),
        ({"train.layer_decay": 0.8}, "train.layer_decay goes by the blocks of a core of ours"),
        ({"embed.max_tokens": 129}, "has positions for 128 tokens, not 129\nset embed.max_tokens=128 or less"),
        (
            {"embed.tokenizer": "/no/such/folder"},
            "embed.tokenizer: '/no/such/folder' is neither wordpiece nor bpe, nor a",
        ),
        ({"embed.tokenizer": "~nobody-here/x"}, "cannot look at '~nobody-here/x'"),
        ({"core.options.trust_remote_code": True}, "core.options.trust_remote_code is not for transformers here"),
        ({"core.architecture": "roberto"}, "transformers .* cannot make a 'roberto'"),
    ],
)
def test_what_a_network_cannot_do_is_refused(settings: Any, message: str, tmp_path: Path, reviews: str) -> None:
    with pytest.raises(UserError, match=message):
        trained("hf/tiny-bert", reviews, tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_masks_of_spectrograms_are_refused(tmp_path: Path, voice: str) -> None:
    with pytest.raises(UserError, match=r"augment\.num_time_masks masks a spectrogram, and this model reads samples"):
        trained("hf/tiny-wav2vec2", voice, tmp_path / "run", settings={"augment.num_time_masks": 2})


def test_weights_of_another_model_are_told(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "bert")
    publish_text(tmp_path / "electra", "electra")
    publish_text(tmp_path / "wide", hidden_size=48)
    for other, message in (
        ("electra", "core.architecture is electra, not bert"),
        ("wide", "core.options.hidden_size is 48, not 32"),
    ):
        with pytest.raises(UserError, match=message):
            trained(f"hf/{tmp_path / 'bert'}", reviews, tmp_path / "run", weights=tmp_path / other)


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "gpt2", "distilbert", "bart", "mpnet", "opt"])
def test_a_text_is_as_long_as_the_model_has_positions(kind: str, pad: int, tmp_path: Path, reviews: str) -> None:
    sizes = {"n_positions": 64, "d_model": 32, "encoder_attention_heads": 2}
    publish_text(tmp_path / "model", kind, pad_token_id=pad, **sizes)
    name = f"hf/{tmp_path / 'model'}"
    longest = {"mpnet": 64 - 2, "roberta": 66 - 1 - pad}.get(kind, 64)  # less those before the first
    assert registry.open_registry().own(name).spec.embed["max_tokens"] == longest
    model = plugins.task_class(TEXT).build(registry.open_registry().own(name).spec).eval()
    tokens = torch.full((longest,), 5)
    tokens[-1] = 3  # which ends a text
    layout = Layout.from_lengths([longest])
    assert model({"tokens": tokens, "layout": layout}).logits.isfinite().all()
    with pytest.raises(
        UserError, match=rf"has positions for {longest} tokens, not 128\nset embed.max_tokens={longest}"
    ):
        trained(name, reviews, tmp_path / "run", settings={"embed.max_tokens": 128})


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"model_max_length": 20}, 20),
        ({"model_max_length": 20.0}, 20),
        ({"max_len": 20}, 20),
        ({"model_max_length": 100}, 64),
        ({"model_max_length": int(1e30)}, 64),
        ({"model_max_length": 1e30}, 64),
        ({"model_max_length": None}, 64),
        ({}, 64),
    ],
    ids=str,
)
def test_a_tokenizer_may_bound_a_text(said: Any, wanted: int, tmp_path: Path) -> None:
    publish_text(tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(said))
    assert registry.open_registry().own(f"hf/{tmp_path / 'model'}").spec.embed["max_tokens"] == wanted
    published = read_published(tmp_path / "model")
    for family in (BERT, TEXTS):
        assert family.settings(published)["embed.max_tokens"] == wanted


def test_texts_are_as_long_as_the_weights_read_them(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "short")
    publish_text(tmp_path / "long", max_position_embeddings=200)
    for name, other, wanted in (("short", "long", 200), ("long", "short", 64)):
        run = trained(f"hf/{tmp_path / name}", reviews, tmp_path / f"by {other}", weights=tmp_path / other)
        assert run.spec.embed["max_tokens"] == wanted
    asked = {"embed.max_tokens": 50}
    run = trained(f"hf/{tmp_path / 'short'}", reviews, tmp_path / "asked", weights=tmp_path / "long", settings=asked)
    assert run.spec.embed["max_tokens"] == 50


def test_positions_without_end_are_as_many_as_a_spec_can_ask_for(tmp_path: Path) -> None:
    publish_text(tmp_path / "model", "qwen2", max_position_embeddings=1_010_000)
    assert registry.open_registry().own(f"hf/{tmp_path / 'model'}").spec.embed["max_tokens"] == 1_000_000
    assert QWEN2.settings(read_published(tmp_path / "model"))["embed.max_tokens"] == 1_000_000


def test_a_tokenizer_that_is_missing_is_told(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer.json: the tokens of another mean nothing to the weights"):
        trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained")


@pytest.mark.parametrize("text", ["{ not json", "[]", '{"added_tokens": [{"x": 1}], "model": {}}'])
def test_a_broken_tokenizer_is_told(text: str, tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"holds no tokenizer that can be read: .*\nput the tokenizer.json that was"):
        trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained")


def test_tensors_of_another_shape_are_told_with_both(tmp_path: Path, reviews: str) -> None:
    publish_text(tmp_path / "model")
    wrong = load_file(tmp_path / "model" / "model.safetensors")
    wrong["bert.embeddings.word_embeddings.weight"] = torch.zeros(9, 32)
    save_file(wrong, tmp_path / "model" / "model.safetensors")
    with pytest.raises(UserError, match=r"not as needed: .*word_embeddings.weight \[9, 32\], not \[36, 32\]"):
        trained(f"hf/{tmp_path / 'model'}", reviews, tmp_path / "run", weights="pretrained")


def test_options_are_transformers(tmp_path: Path, reviews: str) -> None:
    run = trained("hf/tiny-bert", reviews, tmp_path / "run", settings={"core.options.num_hidden_layers": 1})
    assert len(run.load_model().core.network.encoder.layer) == 1  # pyright: ignore
    deeper = {"core.options.num_hidden_layers": 2}
    with pytest.raises(UserError, match="places without a weight"):
        trained("hf/tiny-bert", reviews, tmp_path / "more", weights=run.folder, settings=deeper)
