"""Commands on what there is: what they print, for people and for programs, and how they end."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from zoo.cli import doctor, main

CATALOGUE = Path(__file__).parents[2] / "registry.yaml"
PUBLISHED = {"vit-tiny": 5_717_416, "vit-small": 22_050_664, "vit-base": 86_567_656, "vit-large": 304_326_632}
"""Parameters of timm's vit_*_patch16_224."""


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return run


def test_list_tells_each_model_and_what_it_weighs(zoo) -> None:
    status, out, _ = zoo("list", "--task", "image-classification", "--plugin", "vit", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert {name: rows[name]["parameters"] for name in PUBLISHED} == PUBLISHED
    assert 400_000 < rows["vit-micro"]["parameters"] < 600_000
    assert {rows[name]["data"] for name in ("vit-micro", "vit-tiny", "vit-small", "vit-base")} == {"digits"}


def test_list_is_a_table_for_people(zoo) -> None:
    status, out, _ = zoo("list", "vit-t")
    header, row = out.splitlines()
    assert status == 0
    assert header.split() == ["model", "task", "parameters", "data", "result"]
    assert row.split()[:4] == ["vit-tiny", "image-classification", "5,717,416", "digits"]


def test_the_version_is_told(zoo) -> None:
    assert zoo("--version") == (0, f"zoo {version('attention-zoo')}\n", "")


def test_list_of_nothing_says_so(zoo) -> None:
    status, out, err = zoo("list", "no-such")
    assert (status, out) == (0, "")
    assert err.startswith("no model matches; run 'zoo list' for all\n")
    assert "models of other libraries: zoo list timm/no-such, zoo list hf/no-such\n" in err
    assert "zoo list 'timm/no-such*'" in zoo("list", "no-such*")[2]
    status, _, err = zoo("list", "--plugin", "vlt")
    assert (status, err.splitlines()[0]) == (2, "zoo: unknown plugin 'vlt'; did you mean 'vit'?")


def test_show_tells_published_weights_and_who_reported_what(zoo) -> None:
    status, out, _ = zoo("show", "vit-small")
    header, *rows = [line for line in out.splitlines() if line.startswith(("weights ", "augreg-", "deit-"))]
    assert status == 0
    assert header.split() == ["weights", "trained", "on", "source", "revision", "licence", "size", "reported", "by"]
    assert len(rows) == 2
    for told in (
        "hf:timm/vit_small_patch16_224.augreg_in21k_ft_in1k  7e2c5563",
        "Apache-2.0",
        " 88 MB ",
        " timm, results",
    ):
        assert told in rows[0]
    assert "accuracy 0.8138 on ImageNet-1k, validation" in rows[0]
    shown = json.loads(zoo("show", "vit-small", "--json")[1])["weights"]["augreg-in21k-ft-in1k"]
    assert (shown["reported"]["value"], shown["size_bytes"], len(shown["revision"])) == (0.81384, 88216496, 40)
    _, out, _ = zoo("show", "vit-micro")
    assert not any(line.startswith("weights") for line in out.splitlines())


def test_show_says_where_each_value_came_from(zoo) -> None:
    status, out, _ = zoo("show", "vit-small", "--set", "train.lr=1e-3", "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["spec"]["train"]["lr"], shown["sources"]["train.lr"]) == (1e-3, "command")
    assert (shown["spec"]["embed"]["channels"], shown["sources"]["embed.channels"]) == (1, "data")
    assert (shown["recipe"], shown["data"]["license"]) == ("vit-small/digits", "CC-BY-4.0")
    assert shown["training_memory_bytes"] > 16 * shown["parameters"]


def test_show_costs_what_the_built_model_has(zoo) -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from zoo.plugins import task_class
    from zoo.specs import RunSpec

    _, out, _ = zoo("show", "vit-micro", "--json")
    shown = json.loads(out)
    model = task_class("image-classification").build(RunSpec(**shown["spec"]))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model({"image": torch.randn(1, 1, 8, 8)})
    assert shown["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert shown["flops"] == counter.get_total_flops()


def test_show_is_a_page_for_people(zoo) -> None:
    status, out, _ = zoo("show", "vit-small", "--data", "cifar100")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0
    assert ["head.num_classes", "100", "data"] in lines
    assert ["train.compile", "false", "default"] in lines
    assert ["core.dim", "384", "registry"] in lines


def test_show_of_a_wrong_name_ends_with_2(zoo) -> None:
    status, out, err = zoo("show", "vit-smal")
    assert (status, out, err) == (2, "", "zoo: unknown model 'vit-smal'; did you mean 'vit-small'?\nrun 'zoo list'\n")


def test_registry_check_lists_every_error(zoo, tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("schema_version: 1\nmodles: {}\nmodels: 3\n")
    status, out, err = zoo("registry", "check", str(path), "--json")
    assert (status, err) == (2, f"zoo: 2 problems in {path}\n")
    assert [(each["line"], each["column"]) for each in json.loads(out)] == [(2, 1), (3, 9)]
    status, out, err = zoo("registry", "check", str(path))
    assert (status, out) == (2, "")
    assert f"{path}:2:1: modles: unknown key 'modles'; did you mean 'models'?" in err.splitlines()


def test_registry_check_of_a_copy_of_an_installed_catalogue_is_content(zoo, tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_bytes(CATALOGUE.read_bytes())
    status, out, _ = zoo("registry", "check", str(tmp_path / "registry.yaml"), "--json")
    assert (status, out) == (0, "[]\n")


def test_registry_check_of_ours_is_content(zoo) -> None:
    assert zoo("registry", "check", str(CATALOGUE), "--json") == (0, "[]\n", f"{CATALOGUE}: no problems\n")


def test_doctor_ends_with_0_where_training_works(zoo) -> None:
    status, out, _ = zoo("doctor", "--json")
    found = {each["what"]: each for each in json.loads(out)}
    assert status == 0
    assert {"python", "torch", "torchvision", "timm", "cpu", "plugin vit", "ZOO_MIRROR", "ZOO_CACHE"} <= found.keys()


def test_doctor_looks_where_downloads_go(zoo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    status, out, _ = zoo("doctor", "--json")
    (found,) = [each for each in json.loads(out) if each["what"] == "ZOO_CACHE"]
    assert (status, found["status"]) == (0, "note")
    assert found["found"].endswith(f"'{tmp_path / 'file'}' is no folder that can be written")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "not" / "yet"))
    assert not [line for line in zoo("doctor")[1].splitlines() if "ZOO_CACHE" in line and line.startswith("note")]


def test_doctor_tells_what_does_not_work_together_from_what_training_needs(
    zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(module: str) -> str:
        return "ImportError: built for another torch" if module == refused else ""

    monkeypatch.setattr(doctor, "_import_error", refuse)
    refused = "torchaudio"
    status, out, _ = zoo("doctor")
    (line,) = [line for line in out.splitlines() if "torchaudio" in line]
    assert (status, line.split()[0]) == (0, "note")
    assert "pip install 'torchaudio" in line
    refused = "timm"
    status, _, err = zoo("doctor")
    assert (status, err) == (1, "training does not work here until what is marked 'broken' is mended\n")
