"""The checks of a plugin as a whole: that it is there, valid and light."""

import os
import subprocess
import sys
from unittest import SkipTest

from zoo import plugins, registry

HEAVY = ("torch", "torchvision", "torchaudio", "timm", "transformers")


def manifest(plugin: str) -> None:
    """It is loaded: its hooks and its manifest are valid, and its names are its own."""
    row = plugins.row(plugin)
    assert row.status == "loaded", f"it is {row.status}: {row.reason}"


def catalogue(plugin: str) -> None:
    """Its models, recipes and datasets are valid, and each dataset has a card and a loader."""
    opened, row = registry.open_registry(), plugins.row(plugin)
    paths = [path for name, path in plugins.catalogues() if name == plugin]
    broken = [str(problem) for path in paths for problem in registry.check(path)]
    assert not broken, "; ".join(broken)
    for name in opened.models:
        if opened.owner(name) == plugin:
            opened.own(name)
            for recipe in opened.recipes_of(name):
                opened.resolve(name, recipe=recipe)
    for dataset in row.datasets:
        assert dataset in opened.datasets, f"dataset '{dataset}' has no card in a registry.yaml"
        plugins.dataset_loader(dataset)
    for dataset in opened.datasets:
        if opened.origin("datasets", dataset) == plugin:
            assert dataset in row.datasets, f"dataset '{dataset}' has a card, but no loader in the manifest"


def light(plugin: str) -> None:
    """Listing it imports nothing heavy, so that `zoo list` and `zoo show` stay quick."""
    if plugin == plugins.SESSION:
        raise SkipTest("a session has no package")
    program = (
        "import sys; from zoo import plugins, registry\n"
        "known, row = registry.open_registry(), plugins.row(sys.argv[1])\n"
        "for name in known.models:\n"
        "    if known.owner(name) == row.name: plugins.cost(known.own(name).spec)\n"
        "print('imported:', *(name for name in sys.argv[2:] if name in sys.modules))"
    )
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program, plugin, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | path, check=False)
    assert done.returncode == 0, done.stderr.strip().rpartition("\n")[2]
    assert done.stdout.split() == ["imported:"], f"it imports {done.stdout.strip().removeprefix('imported: ')}"


CHECKS = (manifest, catalogue, light)
