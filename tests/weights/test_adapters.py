"""Adapters that travel: ours in PEFT's layout, PEFT's in ours, with equal outputs, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import peft
import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from starting import publish_bert
from torch import nn

import zoo
from zoo.cli import main
from zoo.core import Layout, Model
from zoo.errors import RunWarning, UserError
from zoo.run import Run
from zoo.training import train
from zoo.weights import from_published
from zoo.weights.adapters import read_adapted
from zoo.weights.start import place_of
from zoo_vit.encoders import SIGLIP

WORDS = ("apple", "plum", "pear", "hammer", "saw", "drill")
PREFIX, FILE = "base_model.model.", "model.safetensors"
PICTURES = torch.linspace(-1, 1, 2 * 3 * 28 * 28).view(2, 3, 28, 28).sin()


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return publish_bert(tmp_path / "bert", " ".join(WORDS), initializer_range=0.2)


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A folder of timm's ViT with the size of vit-micro, as the Hub has them."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"embed_dim": 96, "depth": 4, "num_heads": 3, "img_size": 28, "patch_size": 7}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=6, **arguments)
    nn.init.normal_(model.get_parameter("head.weight"))
    cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {**arguments, "num_classes": 6},
        "pretrained_cfg": cfg,
    }
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "vit" / "model.safetensors")
    return tmp_path / "vit"


def timm_vit(folder: Path, num_classes: int) -> nn.Module:
    """timm's model of a folder; a new head for other classes."""
    arguments = json.loads((folder / "config.json").read_text())["model_args"]
    model = timm.create_model("vit_tiny_patch16_224", **arguments)
    model.load_state_dict(load_file(folder / FILE))
    if num_classes != 6:
        model.reset_classifier(num_classes)
    return model


def adapted(name: str, data: str, weights: Path, out: Path, **settings: Any) -> Run:
    """A run with adapters that learnt much in little."""
    asked = {
        "train.steps": 4,
        "train.lr": 3e-2,
        "train.lora.rank": 3,
        "train.lora.alpha": 7.5,
        "train.precision": "fp32",
    }
    asked |= {key.replace("__", "."): value for key, value in settings.items()}
    return train(name, data=data, weights=weights, settings=asked, out=out, show_progress=False)


@pytest.fixture
def texts(tmp_path: Path) -> str:
    rows = [f"{one} and {other} {i},{one in WORDS[:3]}" for one in WORDS for other in WORDS for i in range(3)]
    (tmp_path / "things.csv").write_text("\n".join(["text,label", *rows]))
    return str(tmp_path / "things.csv")


TOKENS = torch.arange(60).view(3, 20) % 40 + 5


def told(run: Run) -> torch.Tensor:
    """What a text model of ours says of three texts."""
    return told_by(run.load_model())


def told_by(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model({"tokens": TOKENS.flatten(), "layout": Layout.from_lengths([20, 20, 20])}).logits


def said(model: Any) -> torch.Tensor:
    """What one of transformers' says of the same."""
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def seen(model: Any) -> torch.Tensor:
    """What one of timm's says of two pictures."""
    with torch.no_grad():
        return model.eval()(PICTURES)


# ---------------------------------------------------------------- ours, read by PEFT


@pytest.mark.parametrize("targets", [["q", "v"], ["q", "k", "v", "out", "fc1", "fc2"]], ids=len)
def test_peft_says_with_our_adapters_what_we_say(targets: list[str], bert: Path, texts: str, tmp_path: Path) -> None:
    run = adapted("text-micro", texts, bert, tmp_path / "run", train__lora__targets=targets)
    assert zoo.export(run, tmp_path / "out") == tmp_path / "out"
    base = transformers.BertForSequenceClassification.from_pretrained(bert, num_labels=2)
    before = said(base)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert (before - told(run)).abs().max() > 0.1, "the adapters learnt something"
    torch.testing.assert_close(said(model), told(run), rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (3, 7.5, {})
    assert config["modules_to_save"] == ["bert.pooler.dense", "classifier"]
    assert config["base_model_name_or_path"] == str(bert)


@pytest.mark.parametrize("targets", [["q", "v"], ["k", "out"]], ids="-".join)
def test_adapters_of_one_projection_each_are_one_where_the_peer_has_one(
    targets: list[str], vit: Path, pictures: Path, tmp_path: Path
) -> None:
    run = adapted("vit-micro", str(pictures), vit, tmp_path / "run", train__lora__targets=targets)
    zoo.export(run, tmp_path / "out")
    model = peft.PeftModel.from_pretrained(timm_vit(vit, 2), tmp_path / "out")
    with torch.no_grad():
        ours = run.load_model()({"image": PICTURES}).logits
    torch.testing.assert_close(seen(model), ours, rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    ranks = {"r": config["r"], **config["rank_pattern"]}
    assert set(ranks.values()) == ({6} if "q" in targets else {3})
    assert config["lora_alpha"] == (15 if "q" in targets else 7.5)


def test_what_is_written_is_what_the_layout_says(bert: Path, texts: str, tmp_path: Path) -> None:
    run = adapted("text-micro", texts, bert, tmp_path / "run")
    zoo.export(run, tmp_path / "out")
    tensors, base = (load_file(place) for place in (tmp_path / "out" / "adapter_model.safetensors", bert / FILE))
    names = {name for name in tensors if "lora" in name}
    assert len(names) == 4 * 2 * 2
    model = run.load_model()
    for block in range(4):
        weights = dict(zip("qkv", model.core.blocks[block].attention.qkv.weight.chunk(3), strict=True))
        for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value")):
            name = f"encoder.layer.{block}.attention.self.{theirs}"
            wanted = base[f"{name}.weight"]
            if ours != "k":
                a, b = (tensors[f"{PREFIX}bert.{name}.lora_{each}.weight"] for each in "AB")
                wanted = wanted + 7.5 / 3 * b @ a
            torch.testing.assert_close(weights[ours], wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(tensors[f"{PREFIX}classifier.weight"], model.head.classifier.weight)


def test_a_pool_that_transformers_classifier_has_not_stays(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 192}
    config = transformers.SiglipVisionConfig(**sizes, image_size=28, patch_size=7)
    transformers.SiglipVisionModel(config).save_pretrained(tmp_path / "siglip")
    ours = {"core.dim": 48, "core.depth": 2, "core.num_heads": 3, "embed.image_size": 28, "embed.patch_size": 7}
    run = adapted("vit-base-siglip", str(pictures), tmp_path / "siglip", tmp_path / "run", **ours)
    with pytest.warns(RunWarning, match="it has head.pool map, not mean"):
        zoo.export(run, tmp_path / "out")
    assert all(".lora_" in name for name in load_file(tmp_path / "out" / "adapter_model.safetensors"))
    model = run.load_model()
    placed = from_published(model, read_adapted(tmp_path / "out").tensors, SIGLIP.table(run.spec))
    for name, tensor in model.core.state_dict(prefix="core.").items():
        torch.testing.assert_close(placed.tensors[name], tensor, rtol=1e-6, atol=1e-6)


def test_the_command_writes_the_same(
    bert: Path, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = adapted("text-micro", texts, bert, tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["zoo", "export", str(run.folder), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0, capsys.readouterr().out) == (0, f"adapters: {tmp_path / 'out'}\n")
    zoo.export(run.folder, tmp_path / "again")
    one, other = (load_file(tmp_path / each / "adapter_model.safetensors") for each in ("out", "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UserError, match=r"is not an empty folder\nname a new or an empty one with --out"):
        zoo.export(run, tmp_path / "out")


def test_what_has_no_adapters_or_no_published_names_is_not_exported(bert: Path, texts: str, tmp_path: Path) -> None:
    plain = train("text-micro", data=texts, steps=1, out=tmp_path / "plain", show_progress=False)
    with pytest.raises(UserError, match=r"has no adapters\nexport one that was trained with train.lora"):
        zoo.export(plain, tmp_path / "out")
    upon = adapted("text-micro", texts, plain.folder, tmp_path / "upon")
    with pytest.raises(UserError, match=r"adapts another run, whose weights have no published names\nexport one that"):
        zoo.export(upon, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_base_is_named_as_the_hub_has_it(bert: Path, texts: str, tmp_path: Path) -> None:
    """From the Hub's cache, in which names are links."""
    revision = "86b5e0934494bd15c9632b12f734a8a67f723594"
    cached = tmp_path / "hub" / "models--someone--bert"
    (cached / "snapshots").mkdir(parents=True)
    shutil.move(bert, cached / "blobs")
    (cached / "snapshots" / revision).mkdir()
    for file in (cached / "blobs").iterdir():
        file.rename(file.with_name(f"{len(file.name):040}"))
        (cached / "snapshots" / revision / file.name).symlink_to(file.with_name(f"{len(file.name):040}"))
    named = cached / "snapshots" / revision / "model.safetensors"
    assert place_of(str(named), "text-micro") == named
    run = adapted("text-micro", texts, named, tmp_path / "run")
    zoo.export(run, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("someone/bert", revision)


def test_the_base_in_the_mirror_is_named_as_the_hub_has_it(
    bert: Path, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("someone/bert", "bert"):
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bert, tmp_path / "mirror" / name)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    for name in ("someone/bert", "bert"):
        run = adapted("text-micro", texts, place_of(f"hf:{name}", "text-micro"), tmp_path / "runs" / name)
        zoo.export(run, tmp_path / "out" / name.replace("/", "-"))
        file = tmp_path / "out" / name.replace("/", "-") / "adapter_config.json"
        assert json.loads(file.read_text())["base_model_name_or_path"] == name


@pytest.mark.parametrize("distilled", [True, False])
def test_of_timm_s_two_classifiers_both_leave_or_none(distilled: bool, pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, options = "deit_tiny_distilled_patch16_224", {"depth": 2, "img_size": 28, "patch_size": 7, "num_classes": 2}
    base = timm.create_model(name, **options)
    (tmp_path / "base").mkdir()
    save_file(base.state_dict(), tmp_path / "base" / FILE)
    (tmp_path / "base" / "config.json").write_text(json.dumps({"architecture": name, "model_args": options}))
    sizes = {"core__dim": 192, "core__depth": 2, "core__num_heads": 3}
    run = adapted("vit-micro", str(pictures), tmp_path / "base", tmp_path / "run", head__distilled=distilled, **sizes)
    if distilled:
        zoo.export(run, tmp_path / "out")
        with torch.no_grad():
            ours = run.load_model()({"image": PICTURES}).logits
        torch.testing.assert_close(
            seen(peft.PeftModel.from_pretrained(base, tmp_path / "out")), ours, rtol=1e-5, atol=1e-5
        )
    else:
        with pytest.warns(RunWarning, match=r"it has head.distilled false, not true\n"):
            zoo.export(run, tmp_path / "out")


# ---------------------------------------------------------------- PEFT's, read by us


OPTIONS: dict[str, dict[str, Any]] = {
    "queries and values": {"target_modules": ["query", "value"]},
    "by the root of the rank": {"target_modules": ["query", "output.dense"], "use_rslora": True},
    "ranks and alphas apart": {
        "target_modules": ["key", "intermediate.dense"],
        "rank_pattern": {"key": 2},
        "alpha_pattern": {"layer.1.attention.self.key": 3},
    },
}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_model_with_peft_s_adapters_says_what_peft_says(options: str, bert: Path, tmp_path: Path) -> None:
    base = transformers.BertForSequenceClassification.from_pretrained(bert, num_labels=2)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=6, modules_to_save=["bert.pooler.dense"], **OPTIONS[options]
    )
    model = peft.get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            nn.init.normal_(parameter, std=0.1)  # larger ones make rounding grow
    model.save_pretrained(tmp_path / "adapters")
    file = tmp_path / "adapters" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(bert)}))
    ours = zoo.load("text-micro", weights=tmp_path / "adapters")
    torch.testing.assert_close(told_by(ours), said(model), rtol=1e-5, atol=1e-5)


def test_peft_s_adapters_of_all_projections_as_one_are_read(vit: Path, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["attn.qkv", "mlp.fc1"], modules_to_save=["head"])
    model = peft.get_peft_model(timm_vit(vit, 4), config)  # and a head for other classes
    nn.init.normal_(model.base_model.model.head.modules_to_save["default"].weight)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)  # larger ones make rounding grow
    model.save_pretrained(tmp_path / "adapters")
    for file in vit.iterdir():  # beside them
        shutil.copy(file, tmp_path / "adapters")
    with torch.no_grad():
        ours = zoo.load("vit-micro", weights=tmp_path / "adapters")({"image": PICTURES}).logits
    assert ours.shape == (2, 4)
    torch.testing.assert_close(ours, seen(model), rtol=1e-5, atol=1e-5)


def written(bert: Path, out: Path, **config: Any) -> Path:
    """A folder of adapters by hand."""
    out.mkdir()
    name = "base_model.model.encoder.layer.0.attention.self.query"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 96), f"{name}.lora_B.weight": torch.full((96, 2), 0.5)}
    save_file(tensors, out / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(bert), **config}
    (out / "adapter_config.json").write_text(json.dumps(said))
    return out


def test_the_formula_of_the_layout(bert: Path, tmp_path: Path) -> None:
    before = load_file(bert / FILE)
    found = read_adapted(written(bert, tmp_path / "one"))
    query = "encoder.layer.0.attention.self.query.weight"
    torch.testing.assert_close(found.tensors[query], before[query] + 2.0)  # 4 / 2 · (0.5 + 0.5)
    assert all(torch.equal(each, before[name]) for name, each in found.tensors.items() if name != query)
    assert found.folder == bert  # with the tokenizer
    rooted = read_adapted(written(bert, tmp_path / "two", use_rslora=True))
    torch.testing.assert_close(rooted.tensors[query], before[query] + 4 / 2**0.5)
    relative = read_adapted(written(bert, tmp_path / "three", base_model_name_or_path="../bert"))
    assert torch.equal(relative.tensors[query], found.tensors[query])


def test_a_training_begins_with_adapters_and_resumes(bert: Path, texts: str, tmp_path: Path) -> None:
    folder = written(bert, tmp_path / "adapters")
    run = adapted("text-micro", texts, folder, tmp_path / "run")
    assert run.spec.weights is not None
    assert (run.spec.weights.source, run.spec.weights.family) == (str(folder), "bert")
    whole = told(run)
    (run.folder / "report.json").unlink()
    train("text-micro", out=run.folder, resume=True, show_progress=False)
    assert torch.equal(told(run), whole)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_model_name_or_path": None}, r"does not name the weights it adapts\nput these beside it"),
        (
            {"base_model_name_or_path": "no/such"},
            r"are of 'no/such', which is not on this machine\nput its files beside",
        ),
        ({"base_model_name_or_path": "../vit"}, r"are not of the weights .*: no place for .*query\nname the weights"),
    ],
)
def test_adapters_that_cannot_be_read_are_told(
    config: dict[str, Any], message: str, bert: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vit.is_dir()
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=message):
        zoo.load("text-micro", weights=written(bert, tmp_path / "adapters", **config))


def test_the_base_is_found_in_the_mirror(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror" / "someone").mkdir(parents=True)
    shutil.move(bert, tmp_path / "mirror" / "someone" / "bert")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    found = read_adapted(written(bert, tmp_path / "adapters", base_model_name_or_path="someone/bert"))
    assert found.folder == tmp_path / "mirror" / "someone" / "bert"
