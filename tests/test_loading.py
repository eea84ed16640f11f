"""What a manifest may not say, and what is told of a plugin that is not loaded."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo import plugins
from zoo.errors import UserError
from zoo.registry import open_registry

MANIFEST = """
from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl

@hookimpl
def zoo_manifest():
    return Manifest(API_VERSION, (TaskEntry("mine", "zoo_mine:Mine", {more}),))
"""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    plugins.reset()
    yield
    plugins.reset()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("ZOO_PLUGINS", "zoo_mine")
    monkeypatch.delitem(sys.modules, "zoo_mine", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("", ""),
        ("like='image-classification'", ""),
        ("reads='image-classification'", "task 'mine': reads is a string, not a list of them"),
        ("inputs='embed.size'", "task 'mine': inputs is a string, not a list of them"),
        ("like=3", "task 'mine': like is 3, not the name of another task"),
        ("like='nope'", "task 'mine' is like 'nope', which no plugin that is loaded brings"),
        ("like='mine'", "task 'mine' is like 'mine', which is like another itself"),
        ("like='timm-image-classification'", "is like 'timm-image-classification', which is like another itself"),
    ],
)
def test_a_task_is_held_against_what_there_is(more: str, reason: str, folder: Path) -> None:
    (folder / "zoo_mine.py").write_text(MANIFEST.format(more=more))
    row = plugins.row("zoo_mine")
    assert row.status == ("failed" if reason else "loaded"), row.reason
    assert reason in row.reason
    assert ("mine" in plugins.tasks()) is not bool(reason)


def test_what_a_blocked_plugin_may_bring_is_no_fault_of_who_is_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "vit")
    assert plugins.row("transformers").status == "loaded"
    assert plugins.task_entry("hf-text-classification").like == "text-classification"
    with pytest.raises(UserError, match=r"unknown task 'image-classification'.*\n.*\nnot loaded: plugin 'vit'"):
        plugins.task_entry("timm-image-classification")


@pytest.mark.parametrize(
    ("blocked", "name", "message"),
    [
        ("timm", "timm/resnet18", r"the model 'timm/resnet18' comes from plugin 'timm' .*, which is not loaded"),
        ("transformers", "hf/tiny-bert", r"unknown model 'hf/tiny-bert'(.|\n)*\nnot loaded: plugin 'transformers' "),
    ],
)
def test_a_model_of_a_blocked_bridge_names_the_plugin(
    blocked: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", blocked)
    with pytest.raises(UserError, match=message):
        open_registry().resolve(name, data="digits")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"recipe": "odd"}, "the recipe 'odd' comes from plugin 'zoo_mine'"),
        ({"recipe": "vit-micro/odd"}, "the recipe 'vit-micro/odd' comes from plugin 'zoo_mine'"),
        ({"recipe": "even"}, "unknown recipe 'even'"),  # which it has for another model
        ({"data": "pairs"}, "the dataset 'pairs' comes from plugin 'zoo_mine'"),
        ({"data": "odd"}, r"unknown dataset 'odd'(.|\n)*\nnot loaded: plugin 'zoo_mine'"),
    ],
)
def test_a_recipe_or_data_of_a_blocked_plugin_names_it(
    asked: dict[str, str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "zoo_mine").mkdir()
    (folder / "zoo_mine" / "__init__.py").write_text(MANIFEST.format(more=""))
    (folder / "zoo_mine" / "registry.yaml").write_text(
        "schema_version: 1\nrecipes:\n  vit-micro/odd: {data: digits}\n  vit-tiny/even: {data: digits}\n"
        "datasets:\n  pairs: {task: image-classification, description: pairs, source: made, license: CC0-1.0}\n"
    )
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "zoo_mine")
    with pytest.raises(UserError, match=message):
        open_registry().resolve("vit-micro", **asked)
