"""The bridge to timm: its models give what they give there, and begin with the weights that are published."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from published_timm import publish, trained

import zoo
from zoo.core import Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.run import Run
from zoo.specs import RunSpec
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, record
from zoo.weights import Published, from_published
from zoo_timm import task
from zoo_timm.model import Scores, build
from zoo_timm.weights import TimmNetwork

SPLIT = [
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
    "test_convnext",
    "test_efficientnet",
    "test_maxvit",
    "test_nfnet",
]
SPLIT += ["mobilenetv3_small_050", "dpn48b", "regnetx_002"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return trained("timm/test_resnet", tmp_path / "run")


# ---------------------------------------------------------------- the same network


@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parity
def test_equals_timm(
    name: str, dtype: torch.dtype, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    reference = publish(tmp_path / "weights", name, num_classes=5).to(dtype)
    source = Published(tmp_path / "weights", reference.state_dict(), {"architecture": name, "pretrained_cfg": {}})
    spec = spec_of(name, {"head.num_classes": 5, "embed.image_size": int(reference.pretrained_cfg["input_size"][-1])})
    model = task.build(spec).to(dtype).eval()
    table = TimmNetwork.table(spec)
    model.load_state_dict(from_published(model, source.tensors, table).tensors)
    images = torch.randn(2, *reference.pretrained_cfg["input_size"], dtype=dtype)
    found = parity(model, table, {"image": images}, reference, lambda: reference(images))
    record(record_property, f"bridge: {name}", f"timm {timm.__version__}", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst
    check_there_and_back(model, table, source.tensors)


def spec_of(name: str, settings: dict[str, Any]) -> RunSpec:
    values = {"core.architecture": name, "data.name": "nowhere", **settings}
    return resolve(name, TimmNetwork.task, [Layer("registry", nested(values))]).spec


@pytest.mark.parametrize(("name", "apart"), [("deit_tiny_distilled_patch16_224", False), ("levit_128s", True)])
def test_of_two_classifiers_the_mean_counts(name: str, apart: bool) -> None:
    model = made(name, image_size=224).eval()
    reference = timm.create_model(name, num_classes=3).eval()
    assert isinstance(model.head, Scores) != apart  # DeiT's two read two tokens, and stay where they are
    tensors, table = reference.state_dict(), TimmNetwork.table(spec_of(name, {"head.num_classes": 3}))
    model.load_state_dict(from_published(model, tensors, table).tensors)
    images = torch.randn(2, 3, 224, 224)
    assert torch.allclose(model({"image": images}).logits, reference(images), atol=1e-6)
    model.load_state_dict(from_published(model, tensors, table, order=[2, 0, 1]).tensors)
    assert torch.allclose(model({"image": images}).logits, reference(images)[:, [2, 0, 1]], atol=1e-6)
    other = spec_of(name, {"head.num_classes": 5})
    placed = from_published(task.build(other), tensors, TimmNetwork.table(other), same_targets=False)
    assert all(each.startswith(("head.", "core.network.head")) for each in placed.new)
    assert placed.new


def made(name: str, **asked: Any) -> Model:
    return build(name, **{"channels": 3, "image_size": 64, "num_classes": 3, "options": {}, **asked})


def test_a_batch_of_one_trains_by_the_statistics_so_far() -> None:
    model = made("test_resnet", image_size=32).train()
    before = {name: each.clone() for name, each in model.named_buffers()}
    model({"image": torch.randn(1, 3, 32, 32)}).logits.sum().backward()
    assert all(torch.equal(each, before[name]) for name, each in model.named_buffers())
    assert all(module.training for module in model.modules())
    model({"image": torch.randn(2, 3, 32, 32)})
    assert not all(torch.equal(each, before[name]) for name, each in model.named_buffers())


# ---------------------------------------------------------------- weights


def test_weights_bring_their_way_of_reading_pictures(tmp_path: Path, pictures: Path) -> None:
    reference = publish(tmp_path / "weights", "test_resnet")
    run = trained("timm/test_resnet", tmp_path / "run", data=str(pictures), weights=tmp_path / "weights", settings={})
    embed, card = run.spec.embed, reference.pretrained_cfg
    assert (embed["crop_fraction"], embed["interpolation"]) == (card["crop_pct"], card["interpolation"])
    assert embed["image_size"] == 32  # as asked for
    info = run.checkpoint().metadata()["info"]
    assert (info["mean"], info["std"]) == (list(card["mean"]), list(card["std"]))
    assert info["classes"] == ["cat", "dog"]
    report = run.report()
    assert report is not None
    assert any("(timm); new: head.classifier" in note for note in report.notes)


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_pictures_are_read_as_timm_reads_them(mode: str, tmp_path: Path, pictures: Path) -> None:
    from timm.data import create_transform

    draws = np.random.default_rng(0)
    smooth = np.kron(draws.integers(0, 256, (9, 12, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    picture = Image.fromarray(smooth)
    picture.save(tmp_path / "picture.png")
    network = publish(tmp_path / "weights", "test_vit")
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_mode": mode, "crop_pct": 0.9}
    (tmp_path / "weights" / "config.json").write_text(json.dumps(config))
    run = zoo.train(
        "timm/test_vit", data=str(pictures), steps=1, weights=tmp_path / "weights", settings={"train.device": "cpu"},
        out=tmp_path / "run",
    )  # fmt: skip
    task = run.load_task()
    items = task.inputs([str(tmp_path / "picture.png")])
    ours = task.collate([task.transform(items[0], None)], items.ids).inputs["image"][0]
    card = network.pretrained_cfg
    theirs: Any = create_transform(
        card["input_size"], is_training=False, interpolation=card["interpolation"], mean=card["mean"], std=card["std"],
        crop_pct=0.9, crop_mode=mode,
    )  # fmt: skip
    difference = (ours - theirs(picture)).abs() * torch.tensor(card["std"]).view(3, 1, 1) * 255
    assert difference.max() <= 2.01  # levels of 255: Pillow rounds twice
    assert difference.mean() < 0.5


def test_positions_follow_the_size_of_the_pictures(tmp_path: Path) -> None:
    reference = publish(tmp_path / "weights", "test_vit")
    run = trained("timm/test_vit", tmp_path / "run", weights=tmp_path / "weights", settings={"embed.image_size": 64})
    state = run.load_model().state_dict()
    assert state["core.network.pos_embed"].shape[1] < reference.state_dict()["pos_embed"].shape[1]


def test_a_loaded_model_scores_as_timms_does(tmp_path: Path) -> None:
    reference = publish(tmp_path / "weights", "test_efficientnet")
    model = zoo.load("timm/test_efficientnet", weights=tmp_path / "weights")
    images = torch.randn(2, 3, 160, 160)
    assert torch.equal(model({"image": images}).logits, reference(images))


def test_another_run_is_begun_with(run: Run, tmp_path: Path) -> None:
    again = trained("timm/test_resnet", tmp_path / "again", weights=run.folder)
    assert again.spec.weights is not None
    assert again.spec.weights.family == "run"
    with pytest.raises(UserError, match=r"core.architecture is test_resnet, not resnet18"):
        trained("timm/resnet18", tmp_path / "other", weights=run.folder)
    with pytest.raises(UserError, match=r"\(run\) are for timm-image-classification, not for image-classification"):
        trained("vit-micro", tmp_path / "other", weights=run.folder)
    assert not (tmp_path / "other").exists()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return


@pytest.mark.usefixtures("offline")
def test_nothing_is_fetched_but_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.load("timm/test_resnet.r160_in1k")  # random numbers
    with pytest.raises(UserError, match=r"cannot fetch 'timm/test_resnet.r160_in1k' from the Hugging Face Hub"):
        zoo.load("timm/test_resnet.r160_in1k", weights="pretrained")
    reference = publish(tmp_path / "mirror" / "timm" / "test_resnet.r160_in1k", "test_resnet")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    model = zoo.load("timm/test_resnet.r160_in1k", weights="pretrained")
    assert torch.equal(model.core.network.conv1[0].weight, reference.conv1[0].weight)  # pyright: ignore


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "weights", "test_resnet")
    (tmp_path / "weights" / "model.safetensors").unlink()
    torch.save({"state_dict": Path("/")}, tmp_path / "weights" / "pytorch_model.bin")
    with pytest.raises(UserError, match="it holds code"):
        trained("timm/test_resnet", tmp_path / "run", weights=tmp_path / "weights")


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"crop_mode": "border"}, "are read otherwise than ours can be: .*crop_mode border"),
        ({"crop_pct": 1.1}, "are read otherwise than ours can be: .*crop_pct 1.1"),
        ({"interpolation": "lanczos"}, "are read otherwise than ours can be: .*interpolation lanczos"),
        ({"mean": [0.5, 0.5]}, "the mean and std in the config.json of '.*weights' are not 3 numbers each"),
    ],
    ids=lambda odd: next(iter(odd)) if isinstance(odd, dict) else "",
)
def test_pictures_that_ours_cannot_be_are_refused(odd: dict[str, Any], why: str, tmp_path: Path) -> None:
    publish(tmp_path / "weights", "test_resnet")
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    config["pretrained_cfg"] |= odd
    (tmp_path / "weights" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=why):
        trained("timm/test_resnet", tmp_path / "run", weights=tmp_path / "weights")
