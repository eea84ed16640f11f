"""A run's low-rank adapters as PEFT keeps them, so that they travel: what `zoo.weights.adapters` reads.

Ours are of queries, keys and values each apart. Where the published model has these as one, their B's stand beneath
each other in zeros, and their A's beneath each other: B A is the same, its rank the sum of theirs.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.catalogue.wording import as_yaml
from zoo.core import LowRank, adapters_of, drop_lora
from zoo.errors import RunWarning, UserError, listing
from zoo.files import user_path
from zoo.run import Run, open_run
from zoo.weights.adapters import CONFIG, PREFIX, TENSORS, has_adapters
from zoo.weights.hub import name_on_hub
from zoo.weights.in_memory import names_in_memory
from zoo.weights.start import Start, start_of
from zoo.weights.table import SAME, TRANSPOSED, Form, Place, Table, places_of

OF_TARGETS = ("head.num_classes",)
"""What the data decides, and a library's head takes as it is."""
BOTH = {"text_config", "vision_config"}
"""Of the configuration of two encoders."""


def export(run: str | Path | Run, out: str | Path) -> Path:
    """Write the adapters of a run's best checkpoint, in the names of the weights that it began with, and its head where
    the library's own model computes the same with it; where not, a `RunWarning` says so.

    Args:
        out: A new or an empty folder.

    Returns:
        The folder.

    Raises:
        UserError: The run has none, or began with no published weights, or with adapters.
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
    if has_adapters(Path(spec.weights.source)):
        raise UserError(
            f"the run '{run.folder}' adapts what the adapters in '{spec.weights.source}' made of their weights, which "
            "is no base that PEFT reads\nmerge those with PEFT, and train upon the weights that it writes"
        )
    model = run.load_adapted(run.checkpoint())
    adapters = adapters_of(model.core)
    drop_lora(model.core)
    table = start.family.table(spec)
    places = list(places_of(model, table))
    head = _head(run, start, places, table)
    # The library's model for the task has the encoder within; the bare one, which a head of one's own goes upon, is it,
    # but for one of two encoders.
    inner = table.prefix if head is None and not start.published.config.keys() >= BOTH else ""
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    alphas: dict[str, float] = {}
    for place in places:
        module, _, kind = place.name.rpartition(".")
        adapted = adapters.get(module.removeprefix("core.")) if kind == "weight" else None
        if adapted is None:
            continue
        assert place.row is not None, "what is adapted is published"
        assert place.row.form in (SAME, TRANSPOSED), "and a matrix"
        for name, (down, up) in _parts(adapted, place, place.row.form).items():
            named = names_in_memory(name.removeprefix(inner).removesuffix(".weight"), start.published)
            for own, rows in zip(named, up.chunk(len(named)), strict=True):
                parts[own], alphas[own] = (down, rows), adapted.scale * len(down)
    saved = {own: each for name, each in (head or {}).items() for own in names_in_memory(name, start.published)}
    turned = any(place.row is not None and place.row.form is TRANSPOSED for place in places)
    ranks = {own: len(down) for own, (down, _) in parts.items()}
    config = _config(ranks, alphas, saved, Path(spec.weights.source), turned=turned)
    _write(folder, parts, saved, config)
    return folder


def _write(
    folder: Path, parts: Mapping[str, tuple[Tensor, Tensor]], saved: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    low_ranks = {
        f"{own}.lora_{each}.weight": part
        for own, low_rank in parts.items()
        for each, part in zip("AB", low_rank, strict=True)
    }
    tensors = {f"{PREFIX}{name}": each.detach().contiguous().clone() for name, each in {**low_ranks, **saved}.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS[0])
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _head(run: Run, start: Start, places: Sequence[Place], table: Table) -> dict[str, Tensor] | None:
    """The head as published, with what PEFT needs beside it. None, with a `RunWarning`, where the library's own model
    does something else with it."""
    of_head = [place for place in places if place.name.startswith("head.")]
    alike = start.family.task == run.spec.task
    theirs = getattr(start.family, "of_their_head", lambda published: {})(start.published) if alike else {}
    ours = {**start.settings, **{f"head.{key}": value for key, value in run.spec.head.items()}}
    other = {
        key: value
        for key, value in theirs.items()
        if key.startswith(("core.", "head.")) and ours.get(key) != value and key not in OF_TARGETS
    }
    unnamed = [f"{place.name}, which has no name there" for place in of_head if place.row is None or not alike]
    if other or unnamed:
        differing = [f"{key} {as_yaml(ours.get(key))}, not {as_yaml(each)}" for key, each in other.items()]
        said = " ".join(f"--set {key}={as_yaml(each)}" for key, each in other.items())
        warnings.warn(
            f"the head of '{run.folder}' is not that of {start.family.name} and stays with the run: it has "
            f"{listing([*differing, *unnamed], 4)}\n"
            "the adapters alone are written, for the library's model without a head"
            + (f"; one that goes with them is trained with {said}" if said and "core." not in said else ""),
            RunWarning,
            stacklevel=3,
        )
        return None
    head = table.published({name: each for place in of_head for name, each in place.published.items()})
    known = table.published({name: each for place in places for name, each in place.published.items()})
    saved = _outer(head)
    for again, name in table.tied.items():  # PEFT keeps modules whole, and each with parameters of its own
        if again not in head and (name in head or any(again.startswith(f"{each}.") for each in saved)):
            head[again] = known[name]
    return head


def _parts(adapted: LowRank, place: Place, form: Form) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each published weight that is stacked into ours, and adapted."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    begin = 0
    for name, tensor in place.published.items():
        width = len(form.read(tensor))
        end = begin + width
        downs: list[Tensor] = []
        ups: list[Tensor] = []
        first = 0
        for i, rows in enumerate(adapted.widths):
            above, below = max(first, begin), min(first + rows, end)
            if str(i) in adapted.down and above < below:
                up = adapted.up[str(i)]
                ups.append(up.new_zeros(width, up.shape[1]))
                ups[-1][above - begin : below - begin] = up[above - first : below - first]
                downs.append(adapted.down[str(i)])
            first += rows
        if downs:
            found[name] = torch.cat(downs), torch.cat(ups, 1)
        begin = end
    return found


def _outer(names: Iterable[str]) -> list[str]:
    """The modules of parameters, without those within others."""
    modules = {name.rpartition(".")[0] for name in names}
    return sorted(each for each in modules if not any(each.startswith(f"{other}.") for other in modules))


def _config(
    ranks: Mapping[str, int], alphas: Mapping[str, float], head: Iterable[str], source: Path, *, turned: bool
) -> dict[str, Any]:
    """As PEFT's `LoraConfig` has it; where modules differ, the rank and alpha of most are everyone's."""
    (most, _), *_ = Counter((ranks[module], alphas[module]) for module in alphas).most_common(1)
    # Where others have the weights too, on the Hub; else where they lie, as PEFT has it.
    name, revision = name_on_hub(source) or (str(source if source.is_dir() else source.parent), None)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": name,
        "revision": revision,
        "r": most[0],
        "lora_alpha": _plain(most[1]),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": turned,
        "target_modules": sorted(alphas),
        "modules_to_save": _outer(head) or None,
        "rank_pattern": {module: rank for module, rank in ranks.items() if (rank, alphas[module]) != most},
        "alpha_pattern": {module: _plain(a) for module, a in alphas.items() if (ranks[module], a) != most},
        "inference_mode": True,
    }


def _plain(number: float) -> float | int:
    return round(number) if abs(number - round(number)) < 1e-9 else number
