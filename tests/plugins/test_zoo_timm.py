"""The bridge to timm: its models train, evaluate, predict and go on as ours do."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from published_timm import SMALL, publish, trained
from safetensors.torch import load_file

import zoo
from zoo import plugins, registry
from zoo.contract import Drawable
from zoo.errors import UserError
from zoo.explain import require_drawing
from zoo.run import Run
from zoo.specs import network_of
from zoo.testing import check_resume, checks
from zoo_timm import index, refresh
from zoo_timm.model import Network


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return trained("timm/test_resnet", tmp_path / "run")


# ---------------------------------------------------------------- one run folder for all


def test_a_network_trains_evaluates_and_predicts_as_our_models_do(tmp_path: Path) -> None:
    run = trained("timm/resnet18", tmp_path / "run")
    report = run.report()
    assert report is not None
    assert (report.task, report.model, report.data) == ("timm-image-classification", "timm/resnet18", "digits")
    assert report.metrics.keys() == trained("vit-micro", tmp_path / "ours").report().metrics.keys()  # pyright: ignore
    again = zoo.evaluate(run)
    assert again.metrics["accuracy"] == report.metrics["accuracy"]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "zero.png")
    (answer,) = zoo.predict(run, tmp_path / "zero.png")
    assert answer.values["label"] in list("0123456789")
    assert {path.name for path in run.folder.iterdir()} >= {"spec.yaml", "metrics.jsonl", "report.md", "checkpoints"}
    assert run.spec.plugins.keys() == {"timm", "vit"}


def test_a_run_has_a_folder_without_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = zoo.train("timm/test_resnet", data="digits", steps=1, settings=SMALL)
    assert run.folder.parent == Path("runs")
    assert run.folder.name.startswith("timm-test_resnet-")


@pytest.mark.parametrize(
    "settings", [{"train.ema_decay": 0.9}, {"train.freeze": ["core"], "train.accumulate": 2}], ids=str
)
def test_a_stopped_run_goes_on_bit_for_bit(settings: dict[str, Any]) -> None:
    check_resume("timm/test_resnet", {**SMALL, **settings}, data="digits")


def test_a_folder_of_pictures_is_data_too(pictures: Path, tmp_path: Path) -> None:
    report = trained("timm/test_convnext", tmp_path / "run", data=str(pictures)).report()
    assert report is not None
    assert report.n == 4


@pytest.mark.slow
@pytest.mark.parametrize("check", checks("timm"), ids=str)
def test_conformance(check: Callable[[], None]) -> None:
    check()


# ---------------------------------------------------------------- names


def test_no_network_is_listed_unless_asked_for() -> None:
    assert not [name for name in zoo.list_models() if "/" in name]
    assert {"timm/resnet18", "timm/resnet18d"} <= set(zoo.list_models("timm/resnet18*"))
    assert "timm/resnet18.a1_in1k" in zoo.list_models("timm/resnet18.*")
    assert "timm/resnet18.a1_in1k" not in zoo.list_models("timm/resnet18")
    assert set(zoo.list_models(plugin="timm")) == set(zoo.list_models(task="timm-image-classification"))


def test_the_index_that_comes_with_the_plugin_is_timms() -> None:
    known = index.INDEX.read(index.INDEX.packaged)
    listed = known["architectures"]
    installed = set(timm.list_models())
    assert len(listed) > 1000
    if known["timm"] == timm.__version__:
        assert listed.keys() <= installed
        assert all(
            not hasattr(timm.create_model(each), "get_classifier") for each in sorted(installed - listed.keys())[:1]
        )
    for name in ("resnet18", "test_vit"):
        assert listed[name]["parameters"] == sum(each.numel() for each in timm.create_model(name).parameters())


def test_refreshing_makes_the_index_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(timm, "list_models", lambda: ["test_vit", "brand_new", "test_resnet"])
    monkeypatch.setattr(timm, "get_pretrained_cfg", _renamed(timm.get_pretrained_cfg))
    monkeypatch.setattr(refresh, "_count", lambda name: {"brand_new": 7}[name])
    (told,) = plugins.refresh("timm")
    assert told.startswith(f"timm: 3 architectures of timm {timm.__version__}")
    assert zoo.list_models("timm/*") == ["timm/brand_new", "timm/test_resnet", "timm/test_vit"]
    assert index.offered()["brand_new"].parameters == 7
    (tmp_path / "indices" / "timm.json").write_text("{")
    with pytest.raises(UserError, match=r"the index '.*timm.json' cannot be read"):
        zoo.list_models("timm/*")


def _renamed(lookup: Any) -> Any:
    return lambda name: lookup(name.replace("brand_new", "test_vit"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet81", "unknown model 'timm/resnet81'; did you mean 'timm/resnet18'"),
        ("timm/resnet18.a1_in2k", "did you mean 'timm/resnet18.a1_in1k'"),
        ("resnet18", "unknown model 'resnet18'; did you mean 'timm/resnet18'"),
        ("tinn/resnet18", "unknown model 'tinn/resnet18'"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.open_registry().resolve(name, data="digits")


def test_a_frozen_core_is_a_linear_probe(tmp_path: Path) -> None:
    """The core stays as it was published, its running statistics too, and the head does not."""
    weights = tmp_path / "weights"
    publish(weights, "test_resnet", num_classes=10)
    config = json.loads((weights / "config.json").read_text())
    config["pretrained_cfg"]["label_names"] = list("0123456789")  # the data's, so that the head is begun with too
    (weights / "config.json").write_text(json.dumps(config))
    published = load_file(weights / "model.safetensors")
    head = {f"classifier.{kind}": published.pop(f"fc.{kind}") for kind in ("weight", "bias")}
    probe = trained("timm/test_resnet", tmp_path / "run", weights=weights, settings={"train.freeze": ["core"]})
    report = probe.report()
    assert report is not None
    assert [note for note in report.notes if note.startswith("trained: ")]
    assert not [note for note in report.notes if "random numbers" in note or "new: " in note]
    model = probe.load_model()
    assert moved(published, model.core.network) == set()
    assert moved(head, model.head) == head.keys()
    other = trained("timm/test_resnet", tmp_path / "other", weights=weights, settings={"train.freeze": ["head"]})
    model = other.load_model()
    assert {name for name in published if "running" in name} <= moved(published, model.core.network)
    assert moved(head, model.head) == set()


def moved(begun: Mapping[str, torch.Tensor], part: Any) -> set[str]:
    """Which tensors are not as they began."""
    found = part.state_dict()
    assert found.keys() == begun.keys()
    return {name for name, each in begun.items() if not torch.equal(found[name], each)}


# ---------------------------------------------------------------- what a network cannot do


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.lora": {}}, "train.lora adapts attention of a core of ours"),
        ({"train.layer_decay": 0.8}, "train.layer_decay goes by the blocks of a core of ours"),
        ({"train.freeze": ["core.nothing"]}, "the model has no 'core.nothing'"),
        ({"core.depth": 3}, "unknown key 'depth'"),
        ({"core.architecture": "resnet81"}, "has no model 'resnet81'; did you mean 'resnet18'"),
        ({"core.options.pretrained": True}, "core.options.pretrained is not for timm here"),
        ({"core.options.nonsense": 1}, "timm cannot make 'test_resnet' with .*core.options.nonsense"),
        ({"embed.patch_size": 7}, "unknown key 'patch_size'"),
    ],
)
def test_what_a_network_cannot_do_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        trained("timm/test_resnet", tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_what_a_network_attends_to_cannot_be_shown(run: Run) -> None:
    """Though the task that it is like draws: its report comes without, and to be asked for it is told."""
    assert isinstance(run.load_task(), Drawable)
    assert not (run.folder / "attention.png").exists()
    with pytest.raises(
        UserError, match=r"'timm/test_resnet' does not tell what it attends to: .*\nexplain a model with"
    ):
        require_drawing(run.load_task(), run.spec)


def test_data_and_tasks_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset 'morse' is for speech-to-text"):
        trained("timm/test_resnet", tmp_path / "run", data="morse")
    with pytest.raises(UserError, match="is for timm-image-classification, and cannot be for masked-image"):
        trained("timm/test_resnet", tmp_path / "run", task="masked-image")
    with pytest.raises(UserError, match="has no default recipe"):
        zoo.train("timm/test_resnet", out=tmp_path / "run")


def test_options_are_timms(tmp_path: Path) -> None:
    run = trained("timm/test_vit", tmp_path / "run", settings={"core.options.drop_path_rate": 0.2})
    assert network_of(run.spec).options == {"drop_path_rate": 0.2}
    model = run.load_model()
    assert isinstance(model.core, Network)
    assert any(getattr(module, "drop_prob", 0) for module in model.core.modules())


# ---------------------------------------------------------------- with other models


def test_a_model_of_ours_learns_from_a_network(run: Run, tmp_path: Path) -> None:
    settings = {"train.distill": {"teacher": str(run.folder)}, "embed.patch_size": 8}
    student = trained("vit-micro", tmp_path / "student", settings=settings)
    assert student.report() is not None
    with pytest.raises(UserError, match=r"has embed.image_size 32, the student 16"):
        trained("vit-micro", tmp_path / "other", settings={**settings, "embed.image_size": 16})


def test_a_catalogue_can_name_a_network(tmp_path: Path) -> None:
    written = tmp_path / "registry.yaml"
    core = "{architecture: test_resnet, options: {drop_rate: 0.1}}"
    written.write_text(
        f"schema_version: 1\nmodels:\n  my-net:\n    task: timm-image-classification\n    core: {core}\n"
        "    embed: {image_size: 32}\n"
    )
    assert registry.check(written) == []
    written.write_text(written.read_text().replace("drop_rate: 0.1}", "drop_rate: 0.1}, depth: 3"))
    (problem,) = registry.check(written)
    assert "unknown key 'depth'" in problem.message


def test_a_moved_index_loses_no_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache" / "indices").mkdir(parents=True)
    (tmp_path / "cache" / "indices" / "timm.json").write_text('{"format": 1, "architectures": {}}')
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    moved = Run(Path(shutil.copytree(run.folder, tmp_path / "moved")))
    assert zoo.evaluate(moved).n > 0
