"""A run's low-rank adapters as PEFT keeps them, so that they travel: what `zoo.weights.adapters` reads.

Ours are of queries, keys and values each apart. Where the published model has these as one, their B's stand beneath
each other in zeros, and their A's beneath each other: B A is the same, its rank the sum of theirs.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.core import LowRank, adapters_of, drop_lora
from zoo.errors import UserError, listing
from zoo.files import user_path
from zoo.run import Run, open_run
from zoo.weights.adapters import CONFIG, PREFIX, TENSORS
from zoo.weights.start import start_of
from zoo.weights.table import SAME, Place, places_of


def export(run: str | Path | Run, out: str | Path) -> Path:
    """Write the adapters and the head of a run's best checkpoint, in the names of the weights that it began with.

    Args:
        out: A new or an empty folder.

    Returns:
        The folder.

    Raises:
        UserError: The run has none, began with no published weights, or they cannot be said in their names.
    """
    run = run if isinstance(run, Run) else open_run(run)
    folder, spec = user_path(out), run.spec
    if spec.train.lora is None or spec.weights is None:
        raise UserError(f"the run '{run.folder}' has no adapters\nexport one that was trained with train.lora")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' is not an empty folder\nname a new or an empty one with --out")
    start = start_of(spec)
    assert start is not None, "adapters are trained upon weights"
    if spec.weights.family == "run":
        raise UserError(
            f"the run '{run.folder}' adapts another run, whose weights have no published names\n"
            "export one that began with published weights"
        )
    model = run.load_adapted(run.checkpoint())
    adapters = adapters_of(model.core)
    drop_lora(model.core)
    tensors: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    unsaid: list[str] = []
    head: dict[str, Tensor] = {}
    table = start.family.table(spec)
    for place in places_of(model, table):
        module, _, kind = place.name.rpartition(".")
        adapted = adapters.get(module.removeprefix("core.")) if kind == "weight" else None
        if adapted is None and not place.name.startswith("head."):
            continue
        if place.row is None or (adapted is not None and place.row.form is not SAME):
            unsaid.append(place.name)
        elif adapted is None:
            head |= place.published
        else:
            for name, (down, up) in _parts(adapted, place).items():
                own = name.removesuffix(".weight")
                tensors |= {f"{PREFIX}{own}.lora_A.weight": down, f"{PREFIX}{own}.lora_B.weight": up}
                alphas[own] = adapted.scale * len(down)
    if unsaid:
        raise UserError(
            f"{listing(unsaid, 4)} of '{run.folder}' cannot be said in the names of {start.family.name}\n"
            "export a run whose head is that of the published model"
        )
    tensors |= {f"{PREFIX}{name}": tensor for name, tensor in table.published(head).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: each.detach().contiguous().clone() for name, each in tensors.items()}, folder / TENSORS[0])
    config = _config(tensors, alphas, Path(spec.weights.source))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def _parts(adapted: LowRank, place: Place) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each published weight that is stacked into ours, and adapted."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    begin = 0
    for name, tensor in place.published.items():
        end = begin + len(tensor)
        downs: list[Tensor] = []
        ups: list[Tensor] = []
        first = 0
        for i, width in enumerate(adapted.widths):
            above, below = max(first, begin), min(first + width, end)
            if str(i) in adapted.down and above < below:
                up = adapted.up[str(i)]
                ups.append(up.new_zeros(len(tensor), up.shape[1]))
                ups[-1][above - begin : below - begin] = up[above - first : below - first]
                downs.append(adapted.down[str(i)])
            first += width
        if downs:
            found[name] = torch.cat(downs), torch.cat(ups, 1)
        begin = end
    return found


def _config(tensors: Mapping[str, Tensor], alphas: Mapping[str, float], source: Path) -> dict[str, Any]:
    """As PEFT's `LoraConfig` has it; where modules differ, the rank and alpha of most are everyone's."""
    ranks = {module: len(tensors[f"{PREFIX}{module}.lora_A.weight"]) for module in alphas}
    (most, _), *_ = Counter((ranks[module], alphas[module]) for module in alphas).most_common(1)
    saved = {name.removeprefix(PREFIX).rpartition(".")[0] for name in tensors if ".lora_" not in name}
    outer = [each for each in saved if not any(each.startswith(f"{other}.") for other in saved)]
    name, revision = _base(source)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": name,
        "revision": revision,
        "r": most[0],
        "lora_alpha": _plain(most[1]),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(alphas),
        "modules_to_save": sorted(outer) or None,
        "rank_pattern": {module: rank for module, rank in ranks.items() if (rank, alphas[module]) != most},
        "alpha_pattern": {module: _plain(a) for module, a in alphas.items() if (ranks[module], a) != most},
        "inference_mode": True,
    }


def _base(source: Path) -> tuple[str, str | None]:
    """What the weights are called where others have them too: on the Hub; else where they lie."""
    cached = re.search(r"/models--([^/]+)/snapshots/([0-9a-f]{40})", source.as_posix())
    if cached is None:
        return str(source if source.is_dir() else source.parent), None
    return cached[1].replace("--", "/"), cached[2]


def _plain(number: float) -> float | int:
    return round(number) if abs(number - round(number)) < 1e-9 else number
