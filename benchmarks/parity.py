"""Are published weights the same models in our rooms? ``python -m benchmarks.parity`` holds each against its peer.

It runs the tests that are marked so (`pytest -m parity`), which build the peer with random weights, convert them and
compare outputs and the gradients of every tensor; differences are shares of the largest value.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks.record import write
from zoo import device
from zoo.testing.of_weights import BOUNDS

KEPT = ("-o", "junit_family=xunit1")
"""The older format keeps what a test records."""
ROOT = Path(__file__).parent.parent


def measure(only: str | None) -> list[dict[str, Any]]:
    """A row for each test that got as far as a comparison."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.xml")
        chosen = ["-k", only] if only else []
        command = [sys.executable, "-m", "pytest", "-q", "-m", "parity", *chosen, f"--junitxml={file}", *KEPT]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        tests = list(ElementTree.parse(file).iter("testcase"))
    if broken := [test.attrib["name"] for test in tests if test.find("properties") is None and _failed(test)]:
        sys.exit(f"nothing was compared in {', '.join(broken)}")
    rows = [row(test) for test in tests if test.find("properties") is not None]
    if not rows:
        sys.exit("no test compared anything")
    return sorted(rows, key=lambda row: (row["reference"], row["family"], row["dtype"]))


def _failed(test: ElementTree.Element) -> bool:
    return test.find("failure") is not None or test.find("error") is not None


def row(test: ElementTree.Element) -> dict[str, Any]:
    facts = {each.attrib["name"]: each.attrib["value"] for each in test.iter("property")}
    bound = BOUNDS[getattr(torch, facts["dtype"])]
    kinds = ("output_difference", "gradient_difference")
    differences = {key: float(facts[key]) if key in facts else None for key in kinds}
    return {
        "family": facts["family"],
        "reference": facts["reference"],
        "dtype": facts["dtype"],
        "tensors": int(facts["tensors"]),
        **differences,
        "bar": bound,
        "holds": not _failed(test) and max(filter(None, differences.values()), default=0) <= bound,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--only", help="families of which this is a part of the name")
    rows = measure(parser.parse_args().only)
    for row in rows:
        print(
            f"{row['family']:60} {row['dtype']:8} {row['tensors']:4} tensors  outputs {row['output_difference']:.1e}  "
            f"gradients {row['gradient_difference']}  {'holds' if row['holds'] else 'missed'}"
        )
    print(write("parity", rows, identity=["family", "dtype"], hardware=device.describe(device.pick("cpu"))))
    missed = [f"{row['family']} in {row['dtype']}" for row in rows if not row["holds"]]
    print(f"missed by {', '.join(missed)}" if missed else "every row holds its bar")


if __name__ == "__main__":
    main()
