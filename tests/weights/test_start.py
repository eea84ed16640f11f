"""Trainings that begin with weights: published ones and those of a run, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from starting import begun, equal
from tokenizers import Tokenizer

import zoo
from zoo.errors import UserError
from zoo.run import Run
from zoo.training import train
from zoo.weights import from_published
from zoo_text.weights import BERT
from zoo_vit.weights import TimmVit


def test_a_text_model_begins_with_published_weights_and_their_tokenizer(
    bert: Path, texts: Path, tmp_path: Path
) -> None:
    run = begun("text-micro", texts, bert, tmp_path / "run")
    spec, tensors = run.spec, transformers.AutoModel.from_pretrained(bert).state_dict()
    assert (spec.core.norm_position, spec.embed["max_tokens"], spec.head["pooler"]) == ("post", 40, "tanh")
    assert spec.weights is not None
    assert (spec.weights.source, spec.weights.family) == (str(bert), "bert")
    model = run.load_model()
    assert torch.equal(model.embed.table.weight, tensors["embeddings.word_embeddings.weight"])  # its spare rows too
    assert torch.equal(model.head.pooler.weight, tensors["pooler.dense.weight"])
    assert equal(model, from_published(model, tensors, BERT.table(spec)).tensors, "embed", "core", "head.pooler")
    stored = run.checkpoint().metadata()["info"]
    assert stored["classes"] == ["fruit", "tool"]
    assert json.loads(stored["tokenizer"])["model"] == json.loads((bert / "tokenizer.json").read_text())["model"]
    report = run.report()
    assert report is not None
    assert f"weights: {bert} (bert); new: head.classifier" in report.notes


def test_a_picture_model_begins_with_published_weights_and_their_normalisation(
    vit: Path, pictures: Path, tmp_path: Path
) -> None:
    run = begun("vit-micro", pictures, vit, tmp_path / "run")
    assert (run.spec.embed["image_size"], run.spec.head["num_classes"]) == (28, 2)
    info = run.checkpoint().metadata()["info"]
    assert (info["mean"], info["std"]) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    model = run.load_model()
    tensors = from_published(
        model, load_file(vit / "model.safetensors"), TimmVit.table(run.spec), same_targets=False
    ).tensors
    assert equal(model, tensors, "embed", "core")


def test_the_command_may_ask_for_fewer_positions(bert: Path, texts: Path, tmp_path: Path) -> None:
    run = begun("text-micro", texts, bert, tmp_path / "run", embed__max_tokens=30)
    wanted = load_file(bert / "model.safetensors")["embeddings.position_embeddings.weight"]
    assert torch.equal(run.load_model().embed.position.weight, wanted[:30])
    with pytest.raises(UserError, match=r"position_embeddings.weight is \[40, 96\], not \[50, 96\]"):
        begun("text-micro", texts, bert, tmp_path / "other", embed__max_tokens=50)
    assert not (tmp_path / "other").exists()


def test_the_command_may_ask_for_pictures_of_another_size(vit: Path, pictures: Path, tmp_path: Path) -> None:
    larger = begun("vit-micro", pictures, vit, tmp_path / "run", embed__image_size=56)
    published = load_file(vit / "model.safetensors")["pos_embed"]
    wanted = timm.layers.resample_abs_pos_embed(published, [8, 8], num_prefix_tokens=1)
    torch.testing.assert_close(larger.load_model().embed.position, wanted[0], rtol=0, atol=1e-6)
    back = begun("vit-micro", pictures, larger.folder, tmp_path / "back", embed__image_size=28)
    assert back.load_model().embed.position.shape == published[0].shape


def test_adapters_alone_are_trained_saved_and_resumed(bert: Path, texts: Path, tmp_path: Path) -> None:
    adapted: dict[str, Any] = {"train__lora__rank": 2, "train__lr": 1e-2, "train__steps": 4, "train__ema_decay": 0.5}
    run = begun("text-micro", texts, bert, tmp_path / "run", **adapted, train__save_every=2, train__warmup_fraction=0.0)
    assert run.spec.train.lora is not None
    assert run.spec.train.lora.targets == ("q", "v")
    saved = load_file(run.checkpoint("newest").weights)
    assert {name.partition(".")[0] for name in saved} == {"core", "head"}
    assert all("weight.0." in name for name in saved if name.startswith("core"))
    model = run.load_model()  # plain, merged
    fresh = from_published(model, load_file(bert / "model.safetensors"), BERT.table(run.spec)).tensors
    assert model.state_dict().keys() == fresh.keys()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, fresh[name])}
    assert changed >= {f"core.blocks.{i}.attention.qkv.weight" for i in range(4)} | {"head.pooler.weight"}
    assert not {name for name in changed if "mlp" in name or "embed" in name or ".out" in name}

    upon = begun("text-micro", texts, run.folder, tmp_path / "upon")  # as weights, they are those of the whole
    assert equal(upon.load_model(), model.state_dict(), "embed", "core", "head")
    whole = run.checkpoint("newest").weights.read_bytes()
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    assert train("text-micro", out=run.folder, resume=True, show_progress=False).checkpoint("newest").step == 4
    assert run.checkpoint("newest").weights.read_bytes() == whole

    with pytest.raises(
        UserError, match=r"train.lora adapts weights that were trained before\nname them with --weights"
    ):
        begun("text-micro", texts, None, tmp_path / "other", train__lora__rank=2)
    before = run.load_model().state_dict()
    shutil.move(bert, tmp_path / "moved")
    with pytest.raises(
        UserError,
        match=r"and that is not there any more: there is no .*\nput it back, or say where it lies",
    ):
        run.load_model()
    (run.folder / "report.json").unlink()
    found = train("text-micro", weights=tmp_path / "moved", out=run.folder, resume=True, show_progress=False)
    assert equal(found.load_model(), before, "embed", "core", "head")
    assert Run(run.folder).spec.weights.source == str(tmp_path / "moved")  # pyright: ignore[reportOptionalMemberAccess]


def test_a_new_head_that_stays_frozen_is_kept_beside_adapters(bert: Path, texts: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"train__lora__rank": 2, "train__lr": 1e-2, "train__steps": 3}
    (bert / "1_Pooling").mkdir()  # whose publication has no pooler of use
    (bert / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    tensors = {name: each for name, each in load_file(bert / "model.safetensors").items() if "pooler" not in name}
    save_file(tensors, bert / "model.safetensors")
    head: dict[str, Any] = {"head__pooler": "tanh", "train__freeze": ["head.pooler"]}
    run = begun("text-micro", texts, bert, tmp_path / "run", **asked, **head)
    assert run.load_model().head.pooler.weight.equal(run.load_model().head.pooler.weight)
    best = run.status()["best"]
    assert zoo.evaluate(run, split="validation").metrics["accuracy"].value == pytest.approx(best["value"])
    assert zoo.evaluate(run, split="validation").loss == pytest.approx(best["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_siglip_224"])
def test_masked_patches_begin_with_published_weights(name: str, pictures: Path, tmp_path: Path) -> None:
    size = {"embed_dim": 96, "depth": 4, "num_heads": 3, "img_size": 28, "patch_size": 7, "num_classes": 2}
    published = timm.create_model(name, **size)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text(json.dumps({"architecture": name, "model_args": size}))
    save_file(published.state_dict(), tmp_path / "weights" / "model.safetensors")
    run = begun("vit-micro", pictures, tmp_path / "weights", tmp_path / "run", task="masked-image")
    stem = run.load_model().embed.stem.weight
    assert torch.equal(stem, published.patch_embed.proj.weight)
    assert (run.spec.embed["num_class_tokens"] == 0) == ("siglip" in name)


# ---------------------------------------------------------------- what is refused


def test_weights_of_another_size_or_task_or_kind_are_refused(
    bert: Path, vit: Path, texts: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"core.dim is 96, not 192, core.depth (.|\n)*: --set core.dim=96 --set"
    ) as told:
        begun("text-tiny", texts, bert, tmp_path / "run")
    advice = dict(re.findall(r"--set core\.(\w+)=(\w+)", str(told.value)))
    asked: dict[str, Any] = {f"core__{key}": None if size == "null" else int(size) for key, size in advice.items()}
    assert begun("text-tiny", texts, bert, tmp_path / "asked", **asked).spec.core.sizes["mlp_dim"] == 384
    assert begun("text-micro", texts, bert, tmp_path / "same", core__mlp_dim=384).spec.core.sizes["mlp_dim"] == 384
    with pytest.raises(UserError, match=r"\(timm-vit\) are for image-classification, not for text-classification"):
        begun("text-micro", texts, vit, tmp_path / "run")
    run = begun("vit-micro", pictures, None, tmp_path / "pictured", embed__image_size=28)
    with pytest.raises(UserError, match=r"\(run\) are for image-classification, not for text-classification"):
        begun("text-micro", texts, run.folder, tmp_path / "run")
    with pytest.raises(UserError, match="no file or folder"):
        begun("text-micro", texts, tmp_path / "nothing", tmp_path / "run")
    with pytest.raises(UserError, match=rf"is a part of the run '{run.folder}'\nname the run's folder"):
        begun("text-micro", texts, run.checkpoint().folder, tmp_path / "run")
    config = json.loads((bert / "config.json").read_text())
    for changes, message in (
        ({"model_type": "bloom"}, "are of 'bloom', which is none of the families known"),
        ({"hidden_size": "96"}, "has hidden_size '96', which is no whole number above 0"),
    ):
        (bert / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=message):
            begun("text-micro", texts, bert, tmp_path / "run")
    (bert / "config.json").unlink()
    with pytest.raises(UserError, match=r"of no family that is known \(.*bert.*\).*\nput the config.json"):
        begun("text-micro", texts, bert, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained_cfg": {"mean": [0.5, 0.5], "std": [0.2, 0.2]}}, "are not 3 numbers each"),
        ({"pretrained_cfg": ["mean"]}, "are not 3 numbers each"),
        ({"pretrained_cfg": None, "mean": 0.5, "std": 0.5}, "are not 3 numbers each"),
        ({"model_args": [1]}, "are no settings by name"),
        ({"pretrained_cfg": {}, "label_names": 7}, None),
    ],
)
def test_a_configuration_of_wrong_types_is_told_or_passed_over(
    changes: dict[str, Any], message: str | None, vit: Path, pictures: Path, tmp_path: Path
) -> None:
    (vit / "config.json").write_text(json.dumps(json.loads((vit / "config.json").read_text()) | changes))
    if message is None:
        assert len(begun("vit-micro", pictures, vit, tmp_path / "run").checkpoint().metadata()["info"]["mean"]) == 3
        return
    with pytest.raises(UserError, match=message):
        begun("vit-micro", pictures, vit, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_names_that_are_misspelt_are_told(bert: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights of 'text-minilm-l6' of that name; did you mean 'all-minilm-l6-v2'"):
        train("text-minilm-l6", data=str(texts), weights="all-MiniLM-L6", out=tmp_path / "run")
    with pytest.raises(
        UserError, match=r"no file or folder 'pretrained', .*\nits names are all-minilm-l6-v2; or name a"
    ):
        train("text-minilm-l6", data=str(texts), weights="pretrained", out=tmp_path / "run")
    run = begun("text-micro", texts, bert, tmp_path / "run")
    with pytest.raises(UserError, match="unknown model 'text-mico'"):
        train("text-mico", weights=str(bert), out=run.folder, resume=True)


def test_a_tokenizer_that_is_missing_or_of_other_weights_is_refused(bert: Path, texts: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    tokenizer.add_tokens([f"word{i}" for i in range(10)])
    tokenizer.save(str(bert / "tokenizer.json"))
    with pytest.raises(UserError, match=r"the tokenizer gives \d+ ids, but the weights have vectors for \d+\nput the"):
        begun("text-micro", texts, bert, tmp_path / "run")
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"pad_token_id": 20}))
    with pytest.raises(UserError, match=r"its pad token '\[PAD\]' is 0, and config.json has pad_token_id 20, which is"):
        begun("text-micro", texts, bert, tmp_path / "run")
    (bert / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer.json: .*\nput the tokenizer.json that was published"):
        begun("text-micro", texts, bert, tmp_path / "run")


def test_numbers_that_are_not_finite_are_told(vit: Path, pictures: Path, tmp_path: Path) -> None:
    tensors = load_file(vit / "model.safetensors")
    tensors["blocks.1.mlp.fc1.weight"][0, 0] = torch.nan
    save_file(tensors, vit / "model.safetensors")
    with pytest.raises(UserError, match=r"blocks.1.mlp.fc1.weight holds numbers that are not finite"):
        begun("vit-micro", pictures, vit, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_from_what_it_began_with(bert: Path, texts: Path, tmp_path: Path) -> None:
    run = begun("text-micro", texts, bert, tmp_path / "run")
    hash_before = run.checkpoint().weights.read_bytes()
    shutil.rmtree(run.checkpoints)
    for file in run.folder.glob("report.*"):
        file.unlink()
    (run.folder / "status.json").write_text('{"state": "failed"}')
    with pytest.raises(UserError, match=r"began with the weights '.*bert', not with 'elsewhere'\nleave --weights out"):
        train("text-micro", weights="elsewhere", out=run.folder, resume=True)
    run = train("text-micro", weights=bert, out=run.folder, resume=True, show_progress=False)
    assert run.checkpoint().weights.read_bytes() == hash_before
    shutil.rmtree(run.checkpoints)
    (run.folder / "report.json").unlink()
    tensors = load_file(bert / "model.safetensors")
    save_file({**tensors, "pooler.dense.bias": tensors["pooler.dense.bias"] + 1}, bert / "model.safetensors")
    (run.folder / "status.json").write_text('{"state": "failed"}')
    with pytest.raises(UserError, match="changed after the run began\nput it back, or train anew"):
        train("text-micro", out=run.folder, resume=True, show_progress=False)


# ---------------------------------------------------------------- from Python


def test_load_gives_a_published_model_with_its_own_head(bert: Path, vit: Path, tmp_path: Path) -> None:
    model = zoo.load("vit-micro", weights=vit)
    assert not model.training
    tensors = load_file(vit / "model.safetensors")
    assert torch.equal(model.head.classifier.weight, tensors["head.weight"])
    source = timm.create_model(
        "vit_tiny_patch16_224", **json.loads((vit / "config.json").read_text())["model_args"]
    ).eval()
    source.load_state_dict(tensors)
    image = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(model({"image": image}).logits, source(image), rtol=0, atol=1e-5)
    assert zoo.load("text-micro", weights=bert).head.classifier.out_features == 2  # none was published
    assert zoo.load("text-micro").core.dim == 96
    with pytest.raises(UserError, match="has weights of its own\nleave weights out, or name a model"):
        zoo.load(Run(tmp_path), weights=vit)
