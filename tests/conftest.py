"""A task small enough to train in a test: which of two sums is larger, from four numbers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo import plugins
from zoo.run import Run

FOLDER = Path(__file__).parent / "tiny"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The model `tiny`, brought by the plugin module `zoo_tiny`, here and in processes started from here."""
    monkeypatch.setenv("ZOO_PLUGINS", "zoo_tiny")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    monkeypatch.syspath_prepend(FOLDER)
    plugins.reset()
    yield "tiny"
    for name in [name for name in sys.modules if name.startswith("zoo_tiny")]:
        del sys.modules[name]
    plugins.reset()


@pytest.fixture
def trained(tiny: str, tmp_path: Path) -> Run:
    """A finished run of `tiny`."""
    from zoo.trainer import train

    return train(tiny, steps=12, seed=7, device="cpu", out=tmp_path / "run", show_progress=False)
