"""Looking costs nothing: no command that only looks imports what computes."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "torchaudio", "timm", "transformers", "numpy", "sklearn", "matplotlib", "scipy", "PIL"}
HEAVY |= {"rich"}  # a help page in colours takes as long as all of ours
CATALOGUE = str(Path(__file__).parents[1] / "registry.yaml")
WATCH = """
import sys
from zoo.cli import main
try:
    main()
except SystemExit as stopped:
    code = stopped.code
else:
    code = 0
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["list"],
        ["list", "vit-*", "--json"],
        ["list", "timm/resnet*"],
        ["show", "vit-small"],
        ["--version"],
        ["export", "--help"],
        ["show", "timm/resnet18.a1_in1k"],
        ["list", "hf/*"],
        ["show", "hf/tiny-bert"],
        ["show", "vit-micro", "--data", "mnist", "--set", "train.lr=1e-3", "--json"],
        ["plugins", "list"],
        ["registry", "check", CATALOGUE],
        ["registry", "schema"],
        ["data", "list"],
    ],
    ids=" ".join,
)
def test_a_command_that_looks_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WATCH, *arguments], capture_output=True, text=True, check=False)
    imported = set(done.stderr.rpartition("imported: ")[2].split())
    assert done.returncode == 0, done.stderr
    assert "zoo" in imported
    assert not imported & HEAVY
