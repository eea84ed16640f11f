"""Plugins that are broken in every way we could think of, all installed at once; and what a session brings."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from zoo import plugins
from zoo.contract import Task, TaskEntry
from zoo.errors import UserError
from zoo.registry import open_registry, register
from zoo.specs import PluginStamp

GOOD = """
    from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl

    @hookimpl
    def zoo_manifest():
        return Manifest(API_VERSION, (TaskEntry("{name}", "zoo_{name}:Missing"),), {{"{name}-data": "zoo_{name}:load"}})
"""


def manifest(returned: str) -> str:
    return f"""
        from zoo.contract import API_VERSION, Manifest, TaskEntry, hookimpl

        @hookimpl
        def zoo_manifest():
            return {returned}
    """


class Kind(NamedTuple):
    """A way to be broken: the module, and what its row says."""

    code: str
    status: str
    reason: str
    entry_points: str = "[zoo]\n{name} = zoo_{name}\n"
    metadata: str | None = "Metadata-Version: 2.1\nName: zoo-{name}\nVersion: 0.3\n"


BROKEN = {
    "raises": Kind(
        "raise RuntimeError('no luck\\ntoday')", "failed", "RuntimeError: no luck today (zoo_raises/__init__.py:1)"
    ),
    "exits": Kind("import sys; sys.exit('bye')", "failed", "SystemExit: bye"),
    "basal": Kind("class Stop(BaseException): pass\nraise Stop", "failed", "Stop (zoo_basal/__init__.py:2)"),
    "needs": Kind("import not_installed_anywhere", "failed", "No module named 'not_installed_anywhere'"),
    "syntax": Kind("def zoo_manifest(:", "failed", "SyntaxError"),
    "signature": Kind(
        """
        from zoo.contract import hookimpl

        @hookimpl
        def zoo_tracker(spec, place): ...
        """,
        "failed",
        "{'place'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "hook": Kind(
        "from zoo.contract import hookimpl\n@hookimpl\ndef zoo_manifst(): ...",
        "failed",
        "unknown hook 'zoo_manifst' in plugin zoo_hook",
    ),
    "hookless": Kind("def zoo_manifest(): ...", "failed", "mark its zoo_manifest() with @zoo.hookimpl"),
    "calling": Kind(manifest("1 / 0"), "failed", "ZeroDivisionError"),
    "mistyped": Kind(manifest("{'tasks': []}"), "failed", "zoo_manifest() returned dict, not zoo.Manifest"),
    "holding": Kind(manifest("Manifest(API_VERSION, ('tagging',))"), "failed", "Manifest.tasks holds 'tagging'"),
    "malformed": Kind(manifest("Manifest(API_VERSION, (TaskEntry('malformed', len),))"), "failed", "task is <built-in"),
    "future": Kind(
        manifest("Manifest(99)"), "incompatible", "made for plugin API 99, this zoo has 1; install a matching"
    ),
    "again": Kind(GOOD, "failed", "'vit' is already taken by attention-zoo", "[zoo]\nvit = zoo_again\n"),
    "sametask": Kind(
        manifest("Manifest(API_VERSION, (TaskEntry('sametask', 'a:B'), TaskEntry('image-classification', 'a:B')))"),
        "failed",
        "brings task 'image-classification' already; rename or block one",
    ),
    "samedata": Kind(
        manifest("Manifest(API_VERSION, (TaskEntry('samedata', 'a:B'),), {'digits': 'a:b'})"),
        "failed",
        "plugin 'vit' (attention-zoo 0.1.0) brings dataset 'digits' already",
    ),
    "nowhere": Kind("", "failed", "no module named 'zoo_absent' can be found", "[zoo]\nnowhere = zoo_absent\n"),
    "attribute": Kind(GOOD, "failed", "has no attribute 'plugin'", "[zoo]\nattribute = zoo_attribute:plugin\n"),
    "reference": Kind(GOOD, "failed", "'zoo reference/x' is not MODULE", "[zoo]\nreference = zoo reference/x\n"),
    "costly": Kind(
        manifest("Manifest(API_VERSION, (TaskEntry('costly', 'a:B', cost='zoo_costly:cost'),))")
        + "\n        def cost(spec):\n            print('{'); return 1 / 0\n",
        "loaded",
        "",
    ),
    "uncounted": Kind(
        manifest("Manifest(API_VERSION, (TaskEntry('uncounted', 'a:B', cost='zoo_uncounted:API_VERSION'),))"),
        "loaded",
        "",
    ),
    "shapeless": Kind(
        manifest("Manifest(API_VERSION, (TaskEntry('shapeless', 'a:B', embed='zoo_shapeless:zoo_manifest'),))"),
        "loaded",
        "",
    ),
    "fragile": Kind(
        manifest("Manifest(API_VERSION, (TaskEntry('fragile', 'a:B', head='zoo_fragile:Head'),))")
        + """
        from zoo.specs import Spec

        class Head(Spec):
            def model_post_init(self, context): return [][7]
        """,
        "loaded",
        "",
    ),
    "prints": Kind("print('hello from a plugin')\n" + dedent(GOOD), "loaded", ""),
    "nameless": Kind(GOOD, "loaded", "", metadata=None),
    "catalogue": Kind(GOOD, "loaded", "registry.yaml:3:"),
}
ROW_NAMES = {"again": "vit"}
USED = {
    "costly": "ZeroDivisionError",
    "uncounted": "TypeError",
    "shapeless": "embed is zoo_shapeless:zoo_manifest, which is no pydantic model",
    "fragile": "IndexError",
}
"""What is said once a command needs what such a plugin brings."""
CATALOGUE = "schema_version: 1\nmodels:\n  {name}-micro: {{task: {name}, core: {{dim: 8, depth: 1, num_heads: 2}}}}\n"


def install(site: Path, name: str, kind: Kind) -> None:
    package = site / f"zoo_{name}"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        dedent(kind.code).lstrip("\n").replace("{name}", name).replace("{{", "{").replace("}}", "}")
    )
    (package / "registry.yaml").write_text(
        CATALOGUE.format(name=name).replace("dim: 8", "dmi: 8" if name == "catalogue" else "dim: 8")
    )
    info = site / f"zoo_{name}-0.3.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(kind.entry_points.format(name=name))
    if kind.metadata:
        (info / "METADATA").write_text(kind.metadata.format(name=name))


def zoo(site: Path | None, *arguments: str, **environment: str) -> SimpleNamespace:
    path = {"PYTHONPATH": os.pathsep.join(map(str, filter(None, [site, *sys.path])))}
    command = [sys.executable, "-m", "zoo", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **path, **environment}
    )
    assert "Traceback" not in done.stderr + done.stdout
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for name, kind in BROKEN.items():
        install(folder, name, kind)
    return folder


@pytest.fixture(scope="module")
def rows(site: Path) -> list[dict[str, Any]]:
    listed = zoo(site, "plugins", "list", "--json")
    assert listed.code == 0
    return json.loads(listed.out)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    plugins.reset()
    yield
    plugins.reset()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_a_row(rows: list[dict[str, Any]], name: str) -> None:
    kind = BROKEN[name]
    row = next(
        row for row in rows if row["name"] == ROW_NAMES.get(name, name) and row["distribution"] != "attention-zoo"
    )
    assert row["status"] == kind.status
    assert kind.reason in row["reason"]
    assert "\n" not in row["reason"]
    assert (row["distribution"], row["version"]) == (
        ("unknown", None) if name == "nameless" else (f"zoo-{name}", "0.3")
    )


def test_broken_plugins_break_no_other(site: Path, rows: list[dict[str, Any]]) -> None:
    assert {row["status"] for row in rows if row["distribution"] == "attention-zoo"} == {"loaded"}
    listed = zoo(site, "list", "--json")
    assert listed.code == 0
    parameters = {model["name"]: model["parameters"] for model in json.loads(listed.out)}
    assert parameters["vit-small"] == 22_050_664
    for name, reason in USED.items():
        assert parameters[f"{name}-micro"] is None
        assert f"plugin '{name}' (zoo-{name} 0.3) failed: " in listed.err
        assert reason in listed.err


@pytest.mark.parametrize("name", USED)
def test_what_a_plugin_breaks_when_it_is_used_is_told(site: Path, name: str) -> None:
    used = zoo(site, "show", f"{name}-micro")
    assert (used.code, used.out) == (2, "")
    assert f"plugin '{name}' (zoo-{name} 0.3) failed: " in used.err
    assert USED[name] in used.err


@pytest.mark.parametrize("name", [name for name, kind in BROKEN.items() if kind.status != "loaded"])
def test_who_uses_a_broken_plugin_is_told(site: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(UserError) as told:
        plugins.task_class(name)
    assert BROKEN[name].reason in str(told.value)
    assert "zoo plugins list" in str(told.value)


@pytest.mark.parametrize(
    "arguments", [["show", "raises-micro"], ["plugins", "check", "raises"], ["show", "catalogue-micro"]]
)
def test_using_a_broken_plugin_exits_with_2(site: Path, arguments: list[str]) -> None:
    used = zoo(site, *arguments)
    assert used.code == 2
    assert "no luck today" in used.err or "dmi" in used.err


def test_a_reference_that_leads_nowhere_names_the_plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(UserError, match=r"plugin 'prints' \(zoo-prints 0\.3\) failed: AttributeError.*'Missing'"):
        plugins.task_class("prints")
    with pytest.raises(UserError, match="plugin 'prints'"):
        plugins.dataset_loader("prints-data")


def test_an_entry_point_that_is_none_is_a_row(tmp_path: Path) -> None:
    install(tmp_path, "unequal", Kind(GOOD, "failed", "", "[zoo]\nunequal\n"))
    listed = zoo(tmp_path, "plugins", "list", "--json")
    (row,) = [row for row in json.loads(listed.out) if row["distribution"] == "zoo-unequal"]
    assert (row["name"], row["status"], row["version"]) == ("zoo-unequal", "failed", "0.3")
    assert "its entry_points.txt cannot be read: " in row["reason"]
    assert "vit-small" in zoo(tmp_path, "list").out


# ---------------------------------------------------------------- environment


def by_name() -> Mapping[str, plugins.PluginRow]:
    return {row.name: row for row in plugins.rows()}


def test_a_plugin_is_blocked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "vit, other")
    assert by_name()["vit"].status == "blocked"
    assert by_name()["tensorboard"].status == "loaded"
    with pytest.raises(UserError, match="ZOO_DISABLE_PLUGINS"):
        plugins.task_class("image-classification")
    monkeypatch.delenv("ZOO_DISABLE_PLUGINS")
    assert by_name()["vit"].status == "loaded"


def test_third_party_blocks_all_but_ours_and_the_requested(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "third-party")
    ours = {"vit", "text", "speech", "tensorboard", "timm", "transformers"}
    assert {row.name for row in plugins.rows() if row.status == "loaded"} == ours
    assert "prints-micro" not in open_registry().models
    monkeypatch.setenv("ZOO_PLUGINS", "zoo_prints")
    assert by_name()["prints"].status == "loaded"
    assert "prints-micro" in open_registry().models


def test_a_requested_module_is_loaded_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_local.py").write_text(dedent(GOOD).format(name="local"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ZOO_PLUGINS", "zoo_local,zoo_vit")
    row = by_name()["zoo_local"]
    assert (row.status, row.distribution, row.tasks) == ("loaded", None, ("local",))
    assert [row.module for row in plugins.rows()].count("zoo_vit") == 1


def test_a_requested_module_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "zoo_nowhere")
    assert by_name()["zoo_nowhere"].status == "failed"
    assert "vit-small" in open_registry().models
    with pytest.raises(UserError, match="no module named 'zoo_nowhere'"):
        plugins.require(["zoo_nowhere"])


def test_listing_imports_nothing_heavy() -> None:
    program = (
        "import sys, zoo; from zoo import plugins; plugins.rows(); plugins.catalogues(); zoo.register()\n"
        "zoo.Task, zoo.Dataset, zoo.Tracker; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "torchvision", "timm", "matplotlib"} & set(done.stdout.split())


def test_a_stamp_changes_with_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "stamped", Kind(GOOD, "loaded", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = plugins.stamps("stamped")["stamped"]
    assert (before.distribution, before.version) == ("zoo-stamped", "0.3")
    (tmp_path / "zoo_stamped" / "extra.py").write_text("x = 1\n")
    assert plugins.stamps("stamped")["stamped"].sha256 not in {None, before.sha256}


# ---------------------------------------------------------------- trackers


def spec_with(*trackers: str) -> Any:
    resolved = open_registry().resolve("vit-micro", settings={"train.trackers": list(trackers)})
    return resolved.spec


def test_trackers_are_those_asked_for(tmp_path: Path) -> None:
    assert plugins.trackers(spec_with(), tmp_path) == []
    with pytest.raises(UserError, match=r"unknown tracker 'tensorbord'; did you mean 'tensorboard'\?"):
        plugins.trackers(spec_with("tensorbord"), tmp_path)


class Quiet:
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


def test_a_session_brings_a_tracker(tmp_path: Path) -> None:
    made: list[tuple[Any, Path]] = []
    register(trackers={"mine": lambda spec, folder: made.append((spec, folder)) or Quiet()})  # pyright: ignore
    spec = spec_with("mine")
    assert len(plugins.trackers(spec, tmp_path)) == 1
    assert made == [(spec, tmp_path)]
    with pytest.raises(UserError, match="the tracker 'mine' is registered already"):
        register(trackers={"mine": print})  # pyright: ignore


def test_tensorboard_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tracker,) = plugins.trackers(spec_with("tensorboard"), tmp_path)
    tracker.log(1, {"train/loss": 0.5})
    tracker.close()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_tensorboard_missing_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'attention-zoo\[tensorboard\]'"):
        plugins.trackers(spec_with("tensorboard"), tmp_path)


# ---------------------------------------------------------------- a session's own


class Parity(Task):
    """Is the number of ones even?"""


MODEL = {"task": "parity", "core": {"dim": 8, "depth": 1, "num_heads": 2}}


def test_a_session_brings_a_task() -> None:
    register(task=Parity, name="parity", models={"parity-micro": MODEL}, datasets={"bits": len})  # pyright: ignore
    assert plugins.task_class("parity") is Parity
    assert plugins.task_part("parity", "embed") is None
    assert plugins.dataset_loader("bits") is len
    assert plugins.rows()[-1].tasks == ("parity",)
    assert plugins.stamps("parity") == {"session": PluginStamp(distribution="session", version="unversioned")}
    assert open_registry().models["parity-micro"].task == "parity"
    assert open_registry().datasets["bits"].task == "parity"


def test_a_task_without_spec_classes_takes_from_a_command_what_its_models_have() -> None:
    register(
        task=Parity, name="parity", models={"parity-micro": {**MODEL, "head": {"width": 3}}}, datasets={"bits": len}
    )  # pyright: ignore
    known = open_registry()
    assert known.resolve("parity-micro", data="bits", settings={"head.width": 4}).spec.head == {"width": 4}
    with pytest.raises(UserError, match=r"has no setting 'head\.widht'; did you mean 'width'"):
        known.resolve("parity-micro", data="bits", settings={"head.widht": 4})
    with pytest.raises(UserError, match=r"has no setting 'augment\.shuffle'"):
        known.resolve("parity-micro", data="bits", settings={"augment.shuffle": True})


def test_a_cell_that_runs_again_replaces() -> None:
    register(task=Parity, name="parity", models={"parity-micro": MODEL})
    with pytest.raises(UserError, match="replace=True"):
        register(task=Parity, name="parity")
    other = type("Parity", (Parity,), {})
    register(task=other, name="parity", models={"parity-micro": MODEL}, replace=True)
    assert plugins.task_class("parity") is other


def test_a_task_entry_is_imported_when_used() -> None:
    register(task=TaskEntry("ordered", "collections:OrderedDict"))
    assert plugins.task_class("ordered").__name__ == "OrderedDict"


@pytest.mark.parametrize(
    ("brought", "message"),
    [
        ({"task": Parity, "name": "image-classification"}, "comes from plugin 'vit'"),
        ({"datasets": {"digits": len}}, "comes from plugin 'vit'"),
        ({"models": {"parity-micro": {**MODEL, "cores": {}}}}, "parity-micro.cores: unknown key 'cores'; did you mean"),
        ({"task": Parity}, "a task is a class with a name"),
        ({"task": object, "name": "parity"}, "object is no task: it lacks datasets, build, transform, collate, loss"),
        ({"models": {"vit-small": MODEL}}, "the model 'vit-small' comes from plugin 'zoo'"),
        (
            {"recipes": {"vit-small/digits": {"data": "digits"}}},
            "the recipe 'vit-small/digits' comes from plugin 'zoo'",
        ),
        ({"cards": {"digits": {}}, "replace": True}, "the dataset 'digits' comes from plugin 'vit'"),
    ],
)
def test_what_is_wrong_brings_nothing(brought: dict[str, Any], message: str) -> None:
    before = plugins.rows()
    with pytest.raises(UserError, match=message):
        register(**brought)
    assert plugins.rows() == before
