"""What every benchmark writes: its rows, and all that is needed to make them again."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pydantic")


def write(name: str, rows: Sequence[Mapping[str, Any]], *, identity: Sequence[str], hardware: str) -> Path:
    """Merge rows into ``results/NAME.json``.

    Args:
        identity: Keys that tell rows apart; a new row replaces the old one that agrees in them.
        hardware: What the rows were measured on.
    """
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    made = [dict(row) | {"hardware": hardware, "commit": commit(), "date": date.today().isoformat()} for row in rows]
    merged = {tuple(row.get(key) for key in identity): row for row in [*kept, *made]}
    document = {
        "command": f"python -m benchmarks.{name}",
        "commit": commit(),
        "date": date.today().isoformat(),
        "hardware": hardware,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "rows": list(merged.values()),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path


def commit() -> str | None:
    """The commit of this checkout, marked where files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../src", "../plugins", "../registry.yaml", "*.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def zoo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "zoo", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
