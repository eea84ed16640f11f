"""The README's two commands from an empty clone: what they print and how long they take.

``python -m benchmarks.first_run``. The report and its pictures go into the README; nothing of them is typed by hand.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from benchmarks.render import README, ROOT
from zoo import device

PICTURES = {"learning-curves.png", "confusion-matrix.png", "attention.png", "reliability.png"}


def main() -> None:
    """
    Raises:
        SystemExit: A command failed.
    """
    commands = re.search(r"^## Try it\n+```\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert commands is not None, "the README's first screen holds the two commands"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "zoo"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for line in commands[1].splitlines():
            for command in line.split(" && "):
                started = time.perf_counter()
                done = subprocess.run(command, shell=True, cwd=clone, capture_output=True, text=True)
                seconds = time.perf_counter() - started
                print(f"{command}: {seconds:.0f} s")
                if done.returncode:
                    sys.exit(done.stdout + done.stderr)
                last_line = "".join(done.stdout.splitlines()[-1:])
                printed = done.stdout if "zoo train" in command else last_line
                rows.append({"work": command, "seconds": seconds, "printed": printed})
        run = next((clone / "runs").iterdir())
        target = ROOT / "docs" / "pictures"
        target.mkdir(parents=True, exist_ok=True)
        for name in PICTURES:
            shutil.copy(run / name, target / name)
    (record.RESULTS / "first_run.json").unlink(missing_ok=True)  # with commands that the README has no longer
    record.write("first_run", rows, identity=("work",), hardware=device.describe(device.pick("cpu")))


if __name__ == "__main__":
    main()
