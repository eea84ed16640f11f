"""Every model of the catalogue learns, and learning has not changed: overfit one batch, and golden losses.

The large ones are cut to depth 2, to small pictures, and to few channels over waveforms; what is tested is the path
from the registry to the loss.
"""

import numpy as np
import pytest
import torch

from zoo import plugins
from zoo.data.seeding import item_rng, seed_of
from zoo.optim import build_optimizer
from zoo.registry import Resolved, open_registry, settle

SMALL = {"core.depth": 2, "train.lr": 2e-3, "train.weight_decay": 0.0}
GOLDEN = {
    "vit-micro": [
        2.3026, 2.2329, 2.1580, 2.0331, 1.9183, 1.7696, 1.6500, 1.5237, 1.3823, 1.2713,
        1.1533, 1.0345, 0.9159, 0.8217, 0.7177, 0.6302, 0.5592, 0.4893, 0.4299, 0.3777,
    ],
    "vit-tiny": [
        2.3026, 2.1514, 1.9368, 1.7255, 1.5459, 1.4100, 1.1437, 0.9690, 0.8039, 0.6774,
        0.5447, 0.4297, 0.3207, 0.2527, 0.1991, 0.1540, 0.1241, 0.1007, 0.0814, 0.0654,
    ],
    "text-micro": [
        1.7918, 1.3019, 0.8178, 0.3681, 0.1234, 0.0474, 0.0195, 0.0112, 0.0049, 0.0027,
        0.0017, 0.0012, 0.0006, 0.0005, 0.0003, 0.0004, 0.0007, 0.0006, 0.0004, 0.0002,
    ],
    "stt-micro": [
        12.5403, 9.3024, 7.4810, 6.6426, 5.9966, 5.3968, 4.8278, 4.3202, 3.8905, 3.5399,
        3.2666, 3.0686, 2.9371, 2.8510, 2.7878, 2.7419, 2.7076, 2.6740, 2.6506, 2.6322,
    ],
}  # fmt: skip


def small(name: str) -> Resolved:
    known = open_registry()
    recipe = next(key for key, each in known.recipes_of(name).items() if known.datasets[each.data.name].embedded)
    waveforms = {"embed.conv_dims": [32] * 7, "embed.position_kernel": 16, "train.lr": 5e-4}
    rates = {"stt-small": 1e-3, "stt-base": 5e-4, "whisper-tiny": 5e-4, "whisper-base": 5e-4, "whisper-small": 3e-4}
    rates["vit-base-siglip"] = 5e-4
    others = {name: {"train.lr": rate} for name, rate in rates.items()}
    others |= {"wav2vec2-base": waveforms, "hubert-base": waveforms}
    return known.resolve(name, recipe=recipe, settings={**SMALL, **others.get(name, {})})


def losses(name: str, steps: int, *, augmented: bool) -> list[float]:
    """The mean loss of every step, over and over on 16 items: the first, or of recordings the shortest, and of those
    that are written token by token but four."""
    asked = small(name)
    task_class = plugins.task_class(asked.spec.task)
    splits = task_class.datasets(asked.spec)
    spec = settle(asked, splits.settings).spec
    task = task_class(spec, splits.info)
    torch.manual_seed(seed_of("weights", 0))
    model = task_class.build(spec)
    optimizer = build_optimizer(model, spec.train)
    # It takes long to find where things are said: there is little to look through, and the trainer's clipping.
    heard, count = spec.task.startswith("speech-"), 4 if spec.task == "speech-seq2seq" else 16
    chosen = np.argsort(splits.train.lengths or (), kind="stable")[:count].tolist() if heard else range(count)
    found = []
    for step in range(steps):
        items = [splits.train[i] for i in chosen]
        rngs = [item_rng(0, step, item.id) if augmented else None for item in items]
        samples = [task.transform(item, rng) for item, rng in zip(items, rngs, strict=True)]
        batch = task.collate(samples, [item.id for item in items])
        torch.manual_seed(seed_of("dropout", 0, step))
        loss, number = task.loss(model(batch.inputs), batch)
        optimizer.zero_grad()
        (loss / number).backward()
        if heard:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        found.append(loss.item() / number)
    return found


@pytest.mark.parametrize("name", [name for name in open_registry().models if "large" not in name])
def test_overfits_one_batch(name: str) -> None:
    waveform = small(name).spec.embed.get("front") == "waveform"
    steps = {"stt": 100, "whisper": 50}.get(name.partition("-")[0], 30 if waveform else 60)
    assert losses(name, steps, augmented=False)[-1] < 0.1


@pytest.mark.parametrize("name", GOLDEN)
def test_the_first_20_losses_are_those_of_before(name: str) -> None:
    assert losses(name, 20, augmented=True) == pytest.approx(GOLDEN[name], abs=1e-3)
