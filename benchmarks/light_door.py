"""What looking costs: user+system time of the commands that need no torch, against `python -c "import torch"`.

The two are run in turn, so that a busy machine slows both; the ratio is that of a pair, reported as the median with the
quartiles.
"""

import argparse
import os
import platform
import subprocess
import sys
from statistics import median, quantiles
from typing import Any

from benchmarks.record import write

BAR = 0.15
COMMANDS = {
    "zoo --help": ["-m", "zoo", "--help"],
    "zoo list": ["-m", "zoo", "list"],
    "zoo show vit-small": ["-m", "zoo", "show", "vit-small"],
    "zoo plugins list": ["-m", "zoo", "plugins", "list"],
    "zoo registry check registry.yaml": ["-m", "zoo", "registry", "check", "registry.yaml"],
    "zoo data list": ["-m", "zoo", "data", "list"],
}
AGAINST = ["-c", "import torch"]
# Installers compile what they install; a checkout compiles itself when first run, unless the environment forbids it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a Python process and its threads."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"python {' '.join(arguments)} failed:\n{complaint.decode()}")
    return usage.ru_utime + usage.ru_stime


def measure(work: str, repeats: int) -> dict[str, Any]:
    for arguments in (COMMANDS[work], AGAINST):
        cpu_seconds(arguments)  # once for the disk cache and the byte code
    ratios = [cpu_seconds(COMMANDS[work]) / cpu_seconds(AGAINST) for _ in range(repeats)]
    low, _, high = quantiles(ratios, n=4)
    ratio = median(ratios)
    return {
        "work": work,
        "against": "python -c 'import torch'",
        "setting": f"user+system time, {repeats} pairs, median and quartiles",
        "device": "cpu",
        "ratio": round(ratio, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "bar": BAR,
        "verdict": "holds" if ratio <= BAR else "missed",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=COMMANDS, help="one row")
    parser.add_argument("--quick", action="store_true", help="three pairs, not written")
    chosen = parser.parse_args()
    rows = [measure(work, 3 if chosen.quick else 15) for work in ([chosen.only] if chosen.only else COMMANDS)]
    for row in rows:
        print(f"{row['work']:20} {row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]  {row['verdict']}")
    if not chosen.quick:
        hardware = f"{os.cpu_count()} × {platform.machine()} CPU"
        print(write("light_door", rows, identity=["work"], hardware=hardware))
    missed = [row["work"] for row in rows if row["verdict"] == "missed"]
    print(f"bar {BAR}: missed by {', '.join(missed)}" if missed else f"bar {BAR}: every row holds it")


if __name__ == "__main__":
    main()
