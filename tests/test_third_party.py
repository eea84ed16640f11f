"""A stranger's plugin, installed and trained: sequence tagging, ragged and packed, on the shared core."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent / "third_party" / "zoo_toy"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--target", folder, SOURCE], check=True)
    return folder


def run(site: Path, *command: str | Path) -> str:
    done = ended(site, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(site: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=site, env=environment, capture_output=True, text=True, check=False
    )


def zoo(site: Path, *arguments: str | Path) -> Any:
    return json.loads(run(site, "zoo", *arguments, "--json"))


def test_it_is_listed_like_ours(site: Path) -> None:
    row = next(row for row in zoo(site, "plugins", "list") if row["name"] == "toy")
    assert (row["status"], row["distribution"], row["version"]) == ("loaded", "zoo-toy", "1.2.3")
    assert row["tasks"] == ["sequence-tagging"]
    assert [model["name"] for model in zoo(site, "list", "--plugin", "toy")] == ["toy-micro"]


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("show", "toy-micro"), "the model 'toy-micro'"),
        (("data", "show", "highlow"), "the dataset 'highlow'"),
        (("train", "vit-micro", "--data", "highlow"), "the dataset 'highlow'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_it_brings_is_its_own_where_it_is_blocked(
    site: Path, command: tuple[str, ...], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DISABLE_PLUGINS", "toy")
    done = ended(site, "zoo", *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{what} comes from plugin 'toy' (zoo-toy 1.2.3), which is not loaded (blocked)" in done.stderr
    assert "take it out of ZOO_DISABLE_PLUGINS to use it" in done.stderr


def test_it_trains_evaluates_and_predicts(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(site, "zoo", "train", "toy-micro", "--steps", "80", "--device", "cpu", "--out", folder)
    report = json.loads((folder / "report.json").read_text())
    assert report["metrics"]["accuracy"]["value"] > 0.9  # each letter's more frequent tag gives 0.64
    assert "zoo-toy" in (folder / "spec.yaml").read_text()
    (predicted,) = zoo(site, "predict", folder, "abcad")
    assert len(predicted["tags"].split()) == 5


def test_its_own_tests_pass(site: Path) -> None:
    tested = run(
        site,
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        SOURCE / "tests",
        "--rootdir",
        SOURCE,
        "-c",
        SOURCE / "pyproject.toml",
    )
    assert " passed" in tested
    assert "skipped" not in tested
