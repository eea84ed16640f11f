"""The weights that the catalogue names: their models have their shape, and they load from the mirror by that name."""

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

import zoo
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import WeightsSpec
from zoo.weights import Published
from zoo_text.weights import BERT, DISTILBERT, MODERNBERT, ROBERTA, Encoder
from zoo_vit.weights import TimmVit

NAMED: dict[str, WeightsSpec] = {
    f"{model}/{name}": weights
    for model, spec in open_registry().models.items()
    for name, weights in spec.weights.items()
}
TIMM = [key for key, weights in NAMED.items() if weights.source.startswith("hf:timm/")]
CONFIGURATIONS: dict[str, tuple[Encoder, transformers.PretrainedConfig]] = {
    "text-base/bert-base-uncased": (BERT, transformers.BertConfig()),
    "text-base/roberta-base": (
        ROBERTA,
        transformers.RobertaConfig(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5),
    ),
    "text-distilbert/distilbert-base-uncased": (DISTILBERT, transformers.DistilBertConfig()),
    "text-modernbert/modernbert-base": (MODERNBERT, transformers.ModernBertConfig()),
    "text-minilm-l6/all-minilm-l6-v2": (
        BERT,
        transformers.BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
    ),
}
"""As the publications' `config.json` have them; transformers' defaults are the base models."""
OF_ROBERTA = {"core.norm_eps", "embed.vocab_size", "embed.first_position", "embed.num_types"}
"""In which it is not as BERT, whose model it shares; the weights decide these."""
OF_PICTURES = {
    "embed.crop_fraction",
    "embed.crop_mode",
    "embed.interpolation",
    "embed.resizer",
    "embed.partial_patches",
}
"""How pictures are read, which the weights decide too; the shape is the same."""
SENTENCES = {"head.pool", "head.pooler"}


def differing(model: str, settings: dict[str, Any]) -> set[str]:
    """Where a model of the catalogue is not as settings by dotted key."""
    spec = open_registry().own(model).spec.model_dump(mode="json")
    return {key for key, value in settings.items() if spec[key.partition(".")[0]][key.partition(".")[2]] != value}


@pytest.mark.parametrize("key", TIMM)
def test_a_picture_model_has_the_shape_of_its_weights(key: str) -> None:
    name = NAMED[key].source.removeprefix("hf:timm/")
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None
    assert cfg.architecture is not None
    assert (cfg.hf_hub_id, cfg.license) == (f"timm/{name}", NAMED[key].license.lower())
    with torch.device("meta"):
        tensors = timm.create_model(cfg.architecture, num_classes=cfg.num_classes).state_dict()
    config = {"architecture": cfg.architecture, "num_classes": cfg.num_classes, "pretrained_cfg": cfg.to_dict()}
    settings = dict(TimmVit.settings(Published(Path(), tensors, config)))
    own = settings.pop("embed.num_class_tokens")
    assert own == int(settings["head.pool"] == "cls")  # as the model has it where it does not say
    assert not differing(key.partition("/")[0], settings) - OF_PICTURES
    size = NAMED[key].size_bytes
    if size is not None:  # four bytes a number, and a header
        assert 0 < size - 4 * sum(each.numel() for each in tensors.values()) < 30_000


@pytest.mark.parametrize("key", [key for key in NAMED if key not in TIMM])
def test_a_text_model_has_the_shape_of_its_weights(key: str) -> None:
    family, config = CONFIGURATIONS[key]
    found = differing(key.partition("/")[0], dict(family.shape(config.to_dict())))
    assert found <= {"core.rotary_theta", "core.windows"} | (OF_ROBERTA if "roberta" in key else set()) | (
        SENTENCES if "minilm" in key else set()
    )


def test_each_reported_figure_names_who_reported_it() -> None:
    reported = [weights.reported for weights in NAMED.values() if weights.reported]
    assert len(reported) >= 10
    for each in reported:
        assert 0 < each.value < 1
        assert re.search(r"arXiv:\d{4}\.\d{5}, table|results-imagenet\.csv|model card|README\.md", each.source)


# ---------------------------------------------------------------- by name


@pytest.fixture
def mirrored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`vit-small`'s weights in the mirror with random numbers, and a catalogue that does not know their hash."""
    name = "vit_small_patch16_224.augreg_in21k_ft_in1k"
    folder = tmp_path / "mirror" / "timm" / name
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224")
    torch.nn.init.normal_(model.get_parameter("head.weight"))
    save_file(model.state_dict(), folder / "model.safetensors")
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None
    config = {"architecture": "vit_small_patch16_224", "num_classes": 1000, "pretrained_cfg": cfg.to_dict()}
    (folder / "config.json").write_text(json.dumps(config))
    known = open_registry().models["vit-small"].weights
    loose = known["augreg-in21k-ft-in1k"].model_copy(update={"sha256": None, "revision": None})
    monkeypatch.setitem(known, "augreg-in21k-ft-in1k", loose)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    return folder


def test_weights_load_by_their_name_from_the_mirror(mirrored: Path, pictures: Path, tmp_path: Path) -> None:
    model = zoo.load("vit-small", weights="augreg-in21k-ft-in1k")
    reference = timm.create_model("vit_small_patch16_224", checkpoint_path=str(mirrored / "model.safetensors")).eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model({"image": image}).logits, reference(image), rtol=1e-4, atol=1e-5)
    still = {"train.steps": 1, "train.batch_size": 2, "embed.image_size": 32, "train.precision": "fp32"}
    run = zoo.train(
        "vit-small",
        data=str(pictures),
        weights="augreg-in21k-ft-in1k",
        settings=still,
        out=tmp_path / "run",
        show_progress=False,
    )
    assert run.spec.weights is not None
    assert run.spec.weights.source == str(mirrored)
    assert (run.spec.embed["patch_size"], run.spec.head["num_classes"]) == (16, 2)
    assert run.checkpoint().metadata()["info"]["mean"] == [0.5, 0.5, 0.5]


def test_without_a_mirror_and_offline_one_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    with pytest.raises(UserError) as told:
        zoo.load("vit-small", weights="augreg-in21k-ft-in1k")
    what, remedy = str(told.value).splitlines()
    assert what.startswith("cannot fetch 'timm/vit_small_patch16_224.augreg_in21k_ft_in1k' from the Hugging Face Hub: ")
    assert len(what) < 200
    assert remedy.endswith("ZOO_MIRROR to a folder that holds it as 'timm/vit_small_patch16_224.augreg_in21k_ft_in1k/'")
