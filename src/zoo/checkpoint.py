"""Checkpoints: safetensors, and a manifest written last. No manifest, no checkpoint.

    checkpoints/step-00000120/
        model.safetensors                the weights, with the spec and the data's info as metadata
        state/optimizer.safetensors      state/ema.safetensors      state/trainer.json
        manifest.json                    sizes and SHA-256 of the above

A writer killed at any byte leaves a whole checkpoint or none (after Orbax's commit marker). Nothing random is
stored: every draw is a function of (seed, step), so a step number is all that resuming needs.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from zoo.core import LowRank
from zoo.errors import UserError
from zoo.files import flush, write_atomically

MANIFEST = "manifest.json"
METADATA_KEY = "zoo"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path

    @property
    def step(self) -> int:
        return int(self.folder.name.removeprefix("step-"))

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def ema_weights(self) -> Path | None:
        path = self.folder / "state" / "ema.safetensors"
        return path if path.exists() else None

    def trainer(self) -> dict[str, Any]:
        return json.loads((self.folder / "state" / "trainer.json").read_text())

    def metadata(self) -> dict[str, Any]:
        """``{"spec": ..., "info": ...}``, as stored with the weights."""
        with safe_open(self.weights, "pt") as file:
            return json.loads(file.metadata()[METADATA_KEY])


def save_checkpoint(
    root: Path,
    step: int,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    ema: AveragedModel | None,
    trainer: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> Checkpoint:
    """Write the checkpoint of `step` into `root`, its manifest last.

    Raises:
        UserError: The disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    if (whole := checkpoint_at(root, step)) is not None:
        return whole
    folder = root / f"step-{step:08d}"
    # One key only: safetensors orders several at random, and equal runs shall give equal files.
    text = {METADATA_KEY: json.dumps(metadata, sort_keys=True, ensure_ascii=False)}
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a killed writer left
        (folder / "state").mkdir(parents=True)
        save_file(_contiguous(state_of(model)), folder / "model.safetensors", metadata=text)
        save_file(_contiguous(_slots(model, optimizer)), folder / "state" / "optimizer.safetensors")
        if ema is not None:
            save_file(_contiguous(state_of(ema.module)), folder / "state" / "ema.safetensors", metadata=text)
        (folder / "state" / "trainer.json").write_text(json.dumps(trainer, indent=2))
        files = {str(path.relative_to(folder)): _seal(path) for path in sorted(folder.rglob("*.*"))}
        write_atomically(folder / MANIFEST, json.dumps({"step": step, "files": files}, indent=2))
    except Exception as error:  # safetensors raises its own type for a full disk
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(
            f"cannot save the checkpoint of step {step} in '{root}': {error}\n"
            "make room or make the folder writable, then go on with --resume"
        ) from error
    return Checkpoint(folder)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer, ema: AveragedModel | None) -> None:
    """Put a checkpoint's weights, optimiser state and average back."""
    load_state(model, load_file(checkpoint.weights))
    if ema is not None:
        assert checkpoint.ema_weights is not None, "a run with an average saves it"
        load_state(ema.module, load_file(checkpoint.ema_weights))
        ema.n_averaged.fill_(checkpoint.trainer()["updates"])
    parameters = dict(model.named_parameters())
    for key, value in load_file(checkpoint.folder / "state" / "optimizer.safetensors").items():
        name, _, slot = key.rpartition("/")
        optimizer.state[parameters[name]][slot] = value.to(parameters[name].device)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: all, or, where adapters are, these and the head, which may be new."""
    state = model.state_dict()
    if not any(isinstance(module, LowRank) for module in model.modules()):
        return state
    parameters = model.named_parameters()
    frozen = {name for name, p in parameters if not p.requires_grad and not name.startswith("head.")}
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def load_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_of` gave."""
    assert tensors.keys() == state_of(model).keys(), "a checkpoint is loaded into the model that it was saved from"
    model.load_state_dict(tensors, strict=False)


def checkpoint_at(root: Path, step: int) -> Checkpoint | None:
    """The checkpoint of that step, if it is there and whole."""
    folder = root / f"step-{step:08d}"
    return Checkpoint(folder) if folder.is_dir() and _fault(folder) is None else None


class Found(NamedTuple):
    """The newest whole checkpoint, and a line on each newer one that has a manifest and yet is broken."""

    checkpoint: Checkpoint | None
    broken: Sequence[str]


def newest_checkpoint(root: Path) -> Found:
    """Look for the newest whole checkpoint, holding every byte against its hash.

    A folder without a manifest is what a killed writer left, and is passed over.
    """
    broken: list[str] = []
    for folder in reversed(_folders(root)):
        fault = _fault(folder)
        if fault is None:
            return Found(Checkpoint(folder), broken)
        if (folder / MANIFEST).exists():
            broken.append(f"{folder.name} is not whole: {fault}")
    return Found(None, broken)


def saved_steps(root: Path) -> list[int]:
    """The steps that checkpoints were written of, the oldest first; whether every byte is there is not looked at."""
    return [int(each.name.removeprefix("step-")) for each in _folders(root) if (each / MANIFEST).exists()]


def discard_after(root: Path, step: int) -> None:
    """Remove the broken checkpoints after the one that a run goes on from, lest they count as its newest."""
    for folder in _folders(root):
        if Checkpoint(folder).step > step:
            shutil.rmtree(folder)


def prune(root: Path, keep: int, best_step: int | None) -> None:
    """Remove all but the `keep` newest checkpoints and the best one."""
    best = None if best_step is None else f"step-{best_step:08d}"
    for folder in _folders(root)[:-keep]:
        if folder.name != best:
            # The manifest first: a half-removed checkpoint must not look whole.
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    """Of all checkpoints, whole or not, the oldest first; a user's copies under other names are left alone."""
    return sorted(folder for folder in root.glob("step-*") if folder.name.removeprefix("step-").isdecimal())


def _fault(folder: Path) -> str | None:
    """Why the checkpoint is not whole; None when it is."""
    try:
        for name, facts in json.loads((folder / MANIFEST).read_text())["files"].items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                    return f"{name} differs from its SHA-256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def _seal(path: Path) -> dict[str, Any]:
    flush(path)
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _slots(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{slot}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor whole and for itself; of those that are tied every name has its own copy."""
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.detach().contiguous()
        found[name] = whole.clone() if whole.data_ptr() in places else whole
        places.add(whole.data_ptr())
    return found
