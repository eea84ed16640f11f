"""Is anything lost? ``python -m benchmarks.reliability``: trainings killed with SIGKILL in mid-epoch, then resumed.

The final `model.safetensors` of a run killed three times must have the SHA-256 of a run never killed. The same check on
a build that forgets the optimiser on resuming must fail, or the check would show nothing.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from zoo import device

SPEC = [
    "vit-micro",
    "--recipe",
    "digits",
    "--device",
    "cpu",
    "--set",
    "train.save_every=7",
    "--set",
    "train.ema_decay=0.99",
]
STEPS = 120
KILLS = 3
FORGETFUL = """
import zoo.trainer
restore = zoo.trainer.restore
def forget(checkpoint, model, optimizer, ema):
    restore(checkpoint, model, optimizer, ema)
    optimizer.state.clear()
zoo.trainer.restore = forget
from zoo.cli import main
main()
"""


def train(out: Path, workers: int, *flags: str, code: str | None = None) -> subprocess.Popen[bytes]:
    program = ["-c", code] if code else ["-m", "zoo"]
    arguments = ["train", *SPEC, "--steps", str(STEPS), "--set", f"train.workers={workers}", "--out", str(out), *flags]
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def final_hash(out: Path) -> str:
    weights = out / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def killed(out: Path, workers: int, code: str | None = None) -> list[int]:
    """Train, killing thrice between two checkpoints; the steps that were logged when it was killed."""
    at = []
    for kill in range(KILLS):
        wanted = (kill + 1) * STEPS // (KILLS + 1) + 3  # between two checkpoints, in mid-epoch
        process = train(out, workers, *(["--resume"] if kill else []), code=code)
        while _logged(out) < wanted:
            if process.poll() is not None:
                raise SystemExit(f"the training ended before step {wanted}")
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        at.append(_logged(out))
    if train(out, workers, "--resume", code=code).wait():
        raise SystemExit("the last resume failed")
    return at


def _logged(out: Path) -> int:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max(
        (int(line.split(",", 1)[0].rpartition(":")[2]) for line in lines if line.startswith('{"step": ')), default=0
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.parse_args()
    SPEC.extend(["--set", "train.log_every=1"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for workers in (0, 2):
            whole, cut, broken = (Path(folder) / f"{name}-{workers}" for name in ("whole", "cut", "broken"))
            if train(whole, workers).wait():
                raise SystemExit("the undisturbed training failed")
            at = killed(cut, workers)
            killed(broken, workers, code=FORGETFUL)
            print(
                f"{workers} workers, killed at steps {at}:\n  whole   {final_hash(whole)}\n  resumed {final_hash(cut)}"
            )
            rows.append(
                {
                    "check": f"SIGKILL in mid-epoch, then --resume, {workers} workers: final weights of equal SHA-256",
                    "tried": KILLS,
                    "passed": KILLS if final_hash(cut) == final_hash(whole) else 0,
                    "broken_build_caught": final_hash(broken) != final_hash(whole),
                    "killed_at": at,
                    "sha256": final_hash(whole),
                }
            )
    holds = all(row["passed"] == row["tried"] and row["broken_build_caught"] for row in rows)
    record.write("reliability", rows, identity=("check",), hardware=device.describe(device.pick("cpu")))
    print(f"holds: {holds}")
    sys.exit(not holds)


if __name__ == "__main__":
    main()
