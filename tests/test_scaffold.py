"""A new plugin is whole at once: it installs, its own tests pass, and it trains."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.plugins.scaffold import write_plugin


def test_a_new_plugin_installs_passes_its_tests_and_trains(tmp_path: Path) -> None:
    source, site = tmp_path / "new", tmp_path / "site"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("zoo", "plugins", "new", "bird-songs", "--out", source).strip() == str(source)
    run("pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--target", site, source)
    tested = run("pytest", "-q", "-p", "no:cacheprovider", source)
    assert re.search(r"\b13 passed\b", tested)
    run("zoo", "train", "bird-songs-micro", "--steps", "2", "--device", "cpu", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "report.json").exists()
    predicted = run("zoo", "predict", tmp_path / "run", "abbacab", "--json")
    assert '"label"' in predicted


def test_every_name_is_the_new_one(tmp_path: Path) -> None:
    folder = write_plugin("bird-songs", tmp_path / "new")
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).as_posix() for path in written} == {
        "README.md",
        "pyproject.toml",
        "tests/test_zoo_bird_songs.py",
        *(f"zoo_bird_songs/{name}.py" for name in ("__init__", "data", "model", "spec", "task")),
        "zoo_bird_songs/registry.yaml",
    }
    assert not [path for path in written if "newplug" in path.read_text()]
    assert 'bird-songs = "zoo_bird_songs"' in (folder / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "name", ["Birds", "1bird", "bird songs", "bird--songs", "bird-", "-bird", "../bird", "", "b" * 41]
)
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no plugin name"):
        write_plugin(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["vit", "zoo-vit", "tensorboard", "image-classification"])
def test_a_name_that_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"the name '{name}' is taken"):
        write_plugin(name, tmp_path / "new")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="is not an empty folder"):
            write_plugin("birds", folder)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]
