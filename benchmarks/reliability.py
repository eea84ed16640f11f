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

MODELS = ("vit-micro", "text-micro", "stt-micro")
SETTINGS = ("train.save_every=7", "train.ema_decay=0.99", "train.log_every=1")
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


def train(model: str, out: Path, workers: int, *flags: str, code: str | None = None) -> subprocess.Popen[bytes]:
    program = ["-c", code] if code else ["-m", "zoo"]
    arguments = ["train", model, "--device", "cpu", "--steps", str(STEPS), "--out", str(out), *flags]
    for setting in (*SETTINGS, f"train.workers={workers}"):
        arguments += ["--set", setting]
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def final_hash(out: Path) -> str:
    weights = out / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def killed(model: str, out: Path, workers: int, code: str | None = None) -> list[int]:
    """Train, killing thrice between two checkpoints; the steps that were logged when it was killed."""
    at = []
    for kill in range(KILLS):
        wanted = (kill + 1) * STEPS // (KILLS + 1) + 3  # between two checkpoints, in mid-epoch
        process = train(model, out, workers, *(["--resume"] if kill else []), code=code)
        while _logged(out) < wanted:
            if process.poll() is not None:
                raise SystemExit(f"the training ended before step {wanted}")
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        at.append(_logged(out))
    if train(model, out, workers, "--resume", code=code).wait():
        raise SystemExit("the last resume failed")
    return at


def _logged(out: Path) -> int:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max(
        (int(line.split(",", 1)[0].rpartition(":")[2]) for line in lines if line.startswith('{"step": ')), default=0
    )


def measure(model: str, workers: int, folder: Path) -> dict[str, object]:
    whole, cut, broken = (folder / f"{model}-{workers}-{name}" for name in ("whole", "cut", "broken"))
    if train(model, whole, workers).wait():
        raise SystemExit("the undisturbed training failed")
    at = killed(model, cut, workers)
    killed(model, broken, workers, code=FORGETFUL)
    print(f"{model}, {workers} workers, killed at steps {at}:")
    print(f"  whole   {final_hash(whole)}\n  resumed {final_hash(cut)}")
    return {
        "check": f"{model}: SIGKILL in mid-epoch, then --resume, {workers} workers: final weights of equal SHA-256",
        "tried": KILLS,
        "passed": KILLS if final_hash(cut) == final_hash(whole) else 0,
        "broken_build_caught": final_hash(broken) != final_hash(whole),
        "killed_at": at,
        "sha256": final_hash(whole),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--only", choices=MODELS, help="one model")
    only = parser.parse_args().only
    models = [only] if only else MODELS
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(model, workers, Path(folder)) for model in models for workers in (0, 2)]
    holds = all(row["passed"] == row["tried"] and row["broken_build_caught"] for row in rows)
    record.write("reliability", rows, identity=("check",), hardware=device.describe(device.pick("cpu")))
    print(f"holds: {holds}")
    sys.exit(not holds)


if __name__ == "__main__":
    main()
