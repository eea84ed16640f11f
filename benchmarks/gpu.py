"""Does `vit-small` train, resume and evaluate on a GPU in bf16 with torch.compile, and how fast?

``python -m benchmarks.gpu``. The pictures are the digits enlarged to 224×224, so that the work is ViT-Small/16's.
Without a CUDA device nothing is written.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import record
from zoo import device

SETTINGS = {
    "embed.image_size": 224,
    "embed.patch_size": 16,
    "train.batch_size": 256,
    "train.workers": 8,
    "train.save_every": 30,
    "train.log_every": 5,
}
STEPS = 60


def train(out: Path, where: str, *flags: str, **settings: object) -> None:
    pairs = [f"{key}={json.dumps(value)}" for key, value in (SETTINGS | settings).items()]
    arguments = [part for pair in pairs for part in ("--set", pair)]
    name = ["train", "vit-small", "--recipe", "digits", "--device", where, "--out", str(out)]
    if record.zoo(*name, *arguments, *flags).returncode:
        sys.exit("the training failed")


def measure(where: str, *, precision: str, compiled: bool, steps: int) -> dict[str, object]:
    """Train, resume a copy that lacks the last half, and evaluate."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        flags = ["--precision", precision, "--steps", str(steps), "--set", f"train.compile={json.dumps(compiled)}"]
        train(out, where, *flags)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        trained = [row for row in rows if row["split"] == "train"][2:]  # compiling comes first
        (out / "checkpoints" / f"step-{steps:08d}" / "manifest.json").unlink()
        (out / "status.json").unlink()
        train(out, where, *flags, "--resume")
        if record.zoo("eval", str(out), "--device", where).returncode:
            sys.exit("the evaluation failed")
        return {
            "work": "zoo train vit-small, 224×224, batch 256; resumed and evaluated",
            "setting": f"{precision}{', torch.compile' if compiled else ''}",
            "device": where,
            "items_per_second": median(row["items_per_second"] for row in trained),
            "data_wait": median(row["data_wait"] for row in trained),
            "memory_gib": max(row["memory_bytes"] for row in trained) / 2**30,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small pictures, four steps, nothing written")
    options = parser.parse_args()
    where = device.pick(options.device)
    if options.quick:
        SETTINGS.update({"embed.image_size": 8, "embed.patch_size": 4, "train.batch_size": 16, "train.workers": 0})
        SETTINGS.update({"train.save_every": 2, "train.log_every": 1})
        print(measure(options.device, precision="bf16", compiled=False, steps=4))
        return
    rows = [
        measure(options.device, precision=precision, compiled=compiled, steps=STEPS)
        for precision, compiled in (("fp32", False), ("bf16", False), ("bf16", True))
    ]
    print(record.write("gpu", rows, identity=("work", "setting", "device"), hardware=device.describe(where)))


if __name__ == "__main__":
    main()
