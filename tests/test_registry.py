"""The registry: names, layers and what they make; whose fault an error is; catalogues held against each other."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import plugins
from zoo.catalogue import load
from zoo.errors import UserError
from zoo.registry import (
    built_in_catalogue,
    check,
    gather,
    list_models,
    open_registry,
    read_run_spec,
    register,
    settle,
    write_run_spec,
)
from zoo.specs import DataSpec, Measured

TASK = "task: image-classification"
CORE = "core: {dim: 8, depth: 1, num_heads: 2}"


def catalogue(path: Path, text: str) -> Path:
    path.write_text(f"schema_version: 1\n{text}")
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let a catalogue be that of an installed plugin."""

    def install(text: str, *, name: str = "toy") -> Path:
        path = catalogue(tmp_path / f"{name}.yaml", text)
        before = tuple(plugins.catalogues())
        monkeypatch.setattr(plugins, "catalogues", lambda: [*before, (name, path)])
        return path

    return install


# ---------------------------------------------------------------- layers


def test_each_layer_wins_over_the_one_below_and_is_named() -> None:
    resolved = open_registry().resolve("vit-small", settings=["train.lr=1e-3", "train.betas=[0.8, 0.9]"])
    spec, sources = resolved.spec, resolved.sources
    assert (spec.core.dim, sources["core.dim"]) == (384, "registry")
    assert (spec.core.norm_eps, sources["core.norm_eps"]) == (1e-6, "default")
    assert (spec.embed["patch_size"], sources["embed.patch_size"]) == (4, "recipe")
    assert (spec.embed["channels"], sources["embed.channels"]) == (1, "data")
    assert (spec.head["num_classes"], sources["head.num_classes"]) == (10, "data")
    assert (spec.train.lr, sources["train.lr"]) == (1e-3, "command")
    assert (spec.train.betas, sources["train.betas"]) == ((0.8, 0.9), "command")
    assert (spec.data.name, sources["data.name"]) == ("digits", "recipe")
    assert resolved.recipe == "vit-small/digits"


def test_settings_may_be_values_and_later_ones_win() -> None:
    registry = open_registry()
    assert registry.resolve("vit-small", settings={"train.steps": 7}).spec.train.steps == 7
    assert registry.resolve("vit-small", settings=["train.steps=7", "train.steps=null"]).spec.train.steps is None


def test_the_data_picks_the_recipe(tmp_path: Path) -> None:
    registry = open_registry()
    assert registry.resolve("vit-micro", data="mnist").recipe == "vit-micro/mnist"
    assert registry.resolve("vit-micro", recipe="mnist").spec.data.name == "mnist"
    assert registry.resolve("vit-micro", recipe="vit-micro/mnist", data="digits").spec.data.name == "digits"
    other = registry.resolve("vit-small", data="cifar100")
    assert (other.recipe, other.spec.embed["image_size"], other.spec.head["num_classes"]) == (None, 224, 100)
    folder = registry.resolve("vit-small", data=str(tmp_path))
    assert (folder.spec.data.name, folder.sources["data.name"]) == (str(tmp_path.resolve()), "command")
    assert folder.spec.head["num_classes"] == 1000


def test_what_the_data_decides_is_settled_late(tmp_path: Path) -> None:
    asked = open_registry().resolve("vit-small", data=str(tmp_path), settings=["train.lr=0.5", "head.pool=mean"])
    settled = settle(asked, {"head.num_classes": 7})
    assert (settled.spec.head["num_classes"], settled.sources["head.num_classes"]) == (7, "data")
    assert (settled.spec.head["pool"], settled.sources["head.pool"]) == ("mean", "command")
    assert settled.sources["core.dim"] == "registry"
    assert settled.sources["task"] == "registry"
    assert settled.spec.train == asked.spec.train


def test_a_setting_may_agree_with_the_data_but_not_contradict_it(tmp_path: Path) -> None:
    asked = open_registry().resolve("vit-small", data=str(tmp_path), settings=["head.num_classes=7"])
    assert settle(asked, {"head.num_classes": 7}).sources["head.num_classes"] == "command"
    with pytest.raises(UserError, match=r"--set head.num_classes=7 contradicts the data, which has 3; leave it out"):
        settle(asked, {"head.num_classes": 3})
    with pytest.raises(UserError, match=r"the data: head.num_clases: unknown key 'num_clases'; did you mean"):
        settle(asked, {"head.num_clases": 3})


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr=abc", "--set train.lr=abc: expected a number, got 'abc'"),
        ("train.lrr=1", "--set train.lrr=1: unknown key 'lrr'; did you mean 'lr'?"),
        ("train.steps=-1", "--set train.steps=-1: must be ≥ 1, got -1"),
        (
            "train.distill.temperature=3",
            "--set train.distill.temperature=3: 'teacher' is missing; say it too, as train.distill.teacher",
        ),
        ("train.lr=.nan", "--set train.lr=.nan: '.nan' is not a finite number"),
        ("train.optimizer=adam", "--set train.optimizer=adam: 'adam' is not one of adamw, sgd; did you mean 'adamw'?"),
        ("embed.patch_sise=2", "--set embed.patch_sise=2: unknown key 'patch_sise'; did you mean 'patch_size'?"),
        ("head.num_classes=5", "--set head.num_classes=5 contradicts the data, which has 10; leave it out"),
        ("core.dim=385", "--set core.dim=385: dim 385 does not divide by num_heads 6; set head_dim or change one"),
        ("lr=1", "--set lr: unknown key 'lr'; did you mean 'train.lr'?"),
        ("trian.lr=1", "--set trian.lr: unknown key 'trian'; did you mean 'train.lr'?"),
        ("train.lr", "--set train.lr: write KEY=VALUE, such as --set train.lr=3e-4"),
        ("train=3", "--set train: name a value in it, such as --set train.NAME=VALUE"),
        ("data.name=x", "--set data.name: use --data x"),
        ("train.lr=[", "--set train.lr=[: not YAML: while parsing a flow node, did not find expected node content"),
    ],
)
def test_a_wrong_setting_is_one_message(setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        open_registry().resolve("vit-small", settings=[setting])
    assert str(caught.value).partition("\n")[0] == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["core.rotary_theta=1e4", "core.head_dim=7"], "rotary positions turn pairs of channels, but a head has 7"),
        (["core.conv_kernel=4"], "a convolution of 4 tokens has none in the middle; make conv_kernel odd"),
        (["core.conv_kernel=3", "core.causal=true"], "a convolution sees later tokens"),
        (["core.norm_position=post", "core.first_norm=false"], "first_norm false is for norm_position pre"),
        (["core.rotary_theta=[]"], "expected a value at least, got none"),
        (["core.rotary_theta=[1e4, -5]"], "must be > 0, got -5"),
        (["core.context_dim=8"], "context_dim is of cross-attention; set cross_attention true, or leave it out"),
        (["core.num_kv_heads=4"], "num_heads 6 does not divide by num_kv_heads 4"),
    ],
)
def test_a_core_that_cannot_be_built_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_registry().resolve("vit-small", settings=settings)


def test_wrong_settings_are_told_all_at_once() -> None:
    with pytest.raises(UserError) as caught:
        open_registry().resolve("vit-small", settings=["train.lr=abc", "core.dpth=1", "embed.image_size=0"])
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "vit-smal"}, "unknown model 'vit-smal'; did you mean 'vit-small'?\nrun 'zoo list'"),
        ({"recipe": "digit"}, "unknown recipe 'digit'; did you mean 'digits'?"),
        ({"recipe": "vit-tiny/digits"}, "recipe 'vit-tiny/digits' is for another model; those of 'vit-small'"),
        ({"data": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?\nrun 'zoo data list'"),
        ({"data": "no/folder"}, "--data no/folder: there is no such folder or file"),
        ({"task": "image-clasification"}, "unknown task 'image-clasification'; did you mean 'image-classification'?"),
    ],
)
def test_an_unknown_name_says_what_was_meant(asked: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        open_registry().resolve(**{"name": "vit-small", **asked})
    assert str(caught.value).startswith(message)


# ---------------------------------------------------------------- several catalogues


def test_a_plugins_entries_join_ours_and_may_refer_to_them(installed) -> None:
    installed(
        f"models:\n  toy: {{{TASK}, {CORE}, recipe: d}}\n"
        "recipes:\n  toy/d: {data: digits, embed: {patch_size: 2}}\n"
    )
    registry = open_registry()
    assert registry.resolve("toy").spec.embed["patch_size"] == 2
    assert registry.origin("models", "toy") == "toy"
    assert registry.origin("models", "vit-small") == "zoo"
    assert list_models(plugin="vit") == list_models("vit-*")
    assert (registry.owner("toy"), registry.owner("vit-small")) == ("toy", "vit")
    assert list_models("to?") == list_models("toy") == ["toy"]


def test_of_equal_names_the_first_counts_and_the_other_is_a_problem(installed) -> None:
    path = installed(f"models:\n  vit-small: {{{TASK}, {CORE}}}\n")
    registry = open_registry()
    assert registry.models["vit-small"].core.dim == 384
    (problem,) = registry.problems
    assert (problem.plugin, str(problem)) == (
        "toy",
        f"{path}:3:3: models.vit-small: model 'vit-small' is already in the catalogue of 'zoo'; rename it",
    )


def test_the_best_measured_result_counts(installed) -> None:
    said = "metric: accuracy, seeds: 1, seconds: 1.0, hardware: h"
    installed(
        f"models:\n  toy: {{{TASK}, {CORE}, recipe: a}}\n"
        "recipes:\n"
        f"  toy/a: {{data: digits, measured: {{value: 0.5, {said}}}}}\n"
        f"  toy/b: {{data: mnist, measured: {{value: 0.75, {said}}}}}\n"
        "  toy/c: {data: cifar10}\n"
    )
    best = open_registry().measured("toy")
    assert best is not None
    assert (best[0], best[1].value) == ("mnist", 0.75)
    errors = [
        Measured(metric="wer", value=v, higher_is_better=False, seeds=1, seconds=1, hardware="h") for v in (0.1, 0.9)
    ]
    assert max(errors, key=lambda each: each.goodness).value == 0.1
    assert open_registry().measured("vit-large") is None


def test_a_broken_catalogue_is_an_error_only_for_who_asks_for_its_names(installed) -> None:
    installed(f"models:\n  bad: {{{TASK}}}\n  good: {{{TASK}, {CORE}}}\n")
    installed("models: [", name="unreadable")
    registry = open_registry()
    assert {problem.plugin for problem in registry.problems} == {"toy", "unreadable"}
    assert "vit-small" in registry.models
    assert "good" in registry.models
    with pytest.raises(UserError, match=r"toy.yaml:3:3: models.bad.core: 'core' is missing"):
        registry.resolve("bad")
    with pytest.raises(UserError, match=r"unknown model 'other'.*\n.*\nnot read: .*unreadable.yaml:3:1: not YAML"):
        registry.resolve("other")


def test_an_option_that_the_task_refuses_is_an_error_at_its_place(installed) -> None:
    path = installed(f"models:\n  toy: {{{TASK}, {CORE}, embed: {{patch_sise: 2}}}}\n")
    with pytest.raises(UserError) as caught:
        open_registry().resolve("toy", data="digits")
    assert str(caught.value) == (
        f"{path}:3:85: models.toy.embed.patch_sise: unknown key 'patch_sise'; did you mean 'patch_size'?"
    )


def test_a_dataset_of_another_task_is_refused_unless_the_task_is_named(installed) -> None:
    installed("datasets:\n  sounds: {task: hearing, description: d, source: s, license: MIT, settings: {head.x: 1}}\n")
    with pytest.raises(UserError, match="dataset 'sounds' is for hearing, but model 'vit-small' is for image-class"):
        open_registry().resolve("vit-small", data="sounds")
    spec = open_registry().resolve("vit-small", data="sounds", task="image-classification").spec
    assert (spec.data.name, "x" in spec.head) == ("sounds", False)


@pytest.fixture
def new_session():
    yield
    plugins.reset()


@pytest.mark.usefixtures("new_session")
def test_a_registered_model_is_there_at_once() -> None:
    core = {"dim": 8, "depth": 1, "num_heads": 2}
    register(models={"mine": {"task": "image-classification", "core": core}})
    assert open_registry().resolve("mine", data="digits").spec.core.dim == 8
    with pytest.raises(UserError, match=r"zoo.register: models.mine.core"):
        register(models={"mine": {"task": "image-classification", "core": {}}}, replace=True)


# ---------------------------------------------------------------- checking a file


def test_our_catalogue_is_sound() -> None:
    assert check(built_in_catalogue()) == []


def test_check_finds_what_only_tasks_and_other_catalogues_know(tmp_path: Path) -> None:
    path = catalogue(
        tmp_path / "registry.yaml",
        f"""models:
  vit-small: {{{TASK}, {CORE}}}
  a: {{task: image-clasification, {CORE}}}
  b: {{{TASK}, {CORE}, embed: {{patch_size: 0}}, train: {{lr: -1}}, recipe: digit}}
  c: {{{TASK}, {CORE}, recipe: digits}}
recipes:
  b/digits: {{data: digit}}
  c/digits: {{data: digits, core: {{num_heads: 3}}, train: {{epoch: 3}}}}
  d/digits: {{data: digits}}
datasets:
  mine: {{{TASK}, description: d, source: s, license: MIT, settings: {{head.num_clases: 3}}}}
""",
    )
    assert [str(problem).removeprefix(str(path)) for problem in check(path)] == [
        ":3:3: models.vit-small: model 'vit-small' is already in the catalogue of 'zoo'; rename it",
        ":4:13: models.a.task: unknown task 'image-clasification'; did you mean 'image-classification'?",
        ":5:95: models.b.embed.patch_size: must be ≥ 1, got 0",
        ":5:111: models.b.train.lr: must be > 0, got -1",
        ":5:124: models.b.recipe: unknown recipe 'b/digit'; did you mean 'b/digits'?",
        ":8:20: recipes.b/digits.data: unknown dataset 'digit'; did you mean 'digits'?",
        ":9:34: recipes.c/digits.core: dim 8 does not divide by num_heads 3; set head_dim or change one",
        ":9:58: recipes.c/digits.train.epoch: unknown key 'epoch'; did you mean 'epochs'?",
        ":10:3: recipes.d/digits: unknown model 'd'",
        ":12:90: datasets.mine.settings.head.num_clases: task 'image-classification' has no setting 'head.num_clases'",
    ]


# ---------------------------------------------------------------- a run's spec


@settings(max_examples=30, deadline=None)
@given(name=st.text(min_size=1), lr=st.floats(1e-12, 1e6), text=st.sampled_from(["1e3", "no", "0o7", "~", "1_0", ".5"]))
def test_a_written_spec_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, name: str, lr: float, text: str
) -> None:
    path = tmp_path_factory.mktemp("run") / "spec.yaml"
    spec = open_registry().resolve("vit-small").spec
    train = spec.train.model_copy(update={"lr": lr})
    spec = spec.model_copy(
        update={"data": DataSpec(name=name), "train": train, "augment": {"text": text, "name": name}}
    )
    write_run_spec(spec, path)
    assert read_run_spec(path) == spec
    assert [each.name for each in path.parent.iterdir()] == ["spec.yaml"]


def test_a_broken_run_spec_is_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    write_run_spec(open_registry().resolve("vit-small").spec, path)
    path.write_text(re.sub(r"epochs: \d+", "epochs: many", path.read_text()))
    with pytest.raises(UserError, match=r"spec.yaml:\d+:11: train.epochs: expected a whole number, got 'many'"):
        read_run_spec(path)
    with pytest.raises(UserError, match=r"none.yaml: cannot be read"):
        read_run_spec(tmp_path / "none.yaml")


def test_gather_keeps_the_order_of_catalogues(tmp_path: Path) -> None:
    files = [catalogue(tmp_path / f"{name}.yaml", f"models:\n  {name}: {{{TASK}, {CORE}}}\n") for name in "ba"]
    assert list(gather([(path.stem, load(path)) for path in files]).models) == ["b", "a"]


# ---------------------------------------------------------------- data by a user's word


def test_data_is_a_name_a_path_or_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = open_registry()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:cd").mkdir()
    assert known.place("digits", "image-classification") == "digits"
    assert known.place(Path("ab:cd")) == str(tmp_path / "ab:cd")
    assert known.place("hf:owner/name@main") == "hf:owner/name@main"
    with pytest.raises(UserError, match="dataset 'digits' is for image-classification, not for speech-to-text"):
        known.place("digits", "speech-to-text")


@pytest.mark.parametrize("value", ["|", ", ", "&", "-", ":", "#", "7", "null-ish"])
def test_text_is_taken_as_it_is(value: str) -> None:
    settings = [f"data.label_separator={value}"]
    assert open_registry().resolve("text-micro", settings=settings).spec.data.label_separator == value
    quoted = [f'data.label_separator="{value}"']
    assert open_registry().resolve("text-micro", settings=quoted).spec.data.label_separator == value


def test_settings_of_data_that_a_task_does_not_read_are_refused() -> None:
    with pytest.raises(UserError, match=r"'image-classification' does not read data.holdout_group"):
        open_registry().resolve("vit-micro", settings=["data.holdout_group=ann"])
    with pytest.raises(UserError, match=r"does not read data.label_column; it reads data.text_column, data.holdout"):
        open_registry().resolve("stt-micro", settings=["data.label_column=x"])
