"""What moves the weights: the optimiser, its learning rate as a function of the step, and their average.

Loshchilov & Hutter 2019 (AdamW), arXiv:1711.05101; Loshchilov & Hutter 2017 (cosine), arXiv:1608.03983;
Vaswani et al. 2017 (inverse square root), arXiv:1706.03762; Polyak & Juditsky 1992 (averaging); Clark et al. 2020
(layer-wise learning rates), arXiv:2003.10555.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoo.core import FusedLinear, LowRank, Model, adapters_of, add_lora
from zoo.errors import UserError, listing
from zoo.specs import TrainSpec


def decayed(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay is meant for: matrices, kernels and low-rank adapters.

    Norms, biases, positions, special tokens and embeddings are not shrunk.
    """
    found: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | FusedLinear | _ConvNd):
            found.add(f"{name}.weight".removeprefix("."))
        elif isinstance(module, LowRank):
            found.update(f"{name}.{own}" for own, _ in module.named_parameters())
    return found


def choose_trained(model: Model, train: TrainSpec) -> None:
    """Leave to the training what the spec says: the rest is frozen, or adapted in its stead.

    Raises:
        UserError: The model cannot be trained so.
    """
    if train.layer_decay is not None and not hasattr(model.core, "blocks"):
        raise UserError(
            "train.layer_decay goes by the blocks of a core of ours, and this model's is another library's\n"
            "leave it out; train.freeze takes names such as core and core.network.layer1"
        )
    if train.lora is not None:
        model.embed.requires_grad_(False)
        try:
            add_lora(model.core, rank=train.lora.rank, alpha=train.lora.alpha, targets=train.lora.targets)
        except ValueError as error:
            raise UserError(f"train.lora: {error}") from error
    freeze(model, train.freeze)
    if train.lora is not None and not any(_is_trained(each) for each in adapters_of(model.core).values()):
        raise UserError("train.freeze: it leaves no adapter to train\nleave core out of it, or train.lora")


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Leave parameters as they are: those of which a pattern names the module, or themselves.

    Raises:
        UserError: A pattern names none, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        named = [name for name in parameters if any(fnmatchcase(name, each) for each in (pattern, f"{pattern}.*"))]
        if not named:
            known = dict.fromkeys(re.sub(r"blocks\.\d+.*", "blocks.N", name.rpartition(".")[0]) for name in parameters)
            raise UserError(f"train.freeze: the model has no '{pattern}'\nit has {listing(list(known), 12)}")
        for name in named:
            parameters[name].requires_grad_(False)
    if not _is_trained(model):
        raise UserError("train.freeze: nothing is left to train\nleave the head, or something else, out of it")


def depth_of(name: str, num_blocks: int) -> int:
    """How far from the input a parameter is: 0 in the first room, i + 1 in block i (from 0), then num_blocks + 1."""
    block = re.match(r"core\.blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else 0 if name.startswith("embed.") else num_blocks + 1


def build_optimizer(model: nn.Module, train: TrainSpec) -> Optimizer:
    """Of what is trained. Each group has an ``lr_scale``, its share of the learning rate."""
    decays, num_blocks = decayed(model), len(getattr(getattr(model, "core", None), "blocks", ()))
    parts: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = (train.layer_decay or 1.0) ** (num_blocks + 1 - depth_of(name, num_blocks))
            parts[scale, train.weight_decay if name in decays else 0.0].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parts[scale, decay], "weight_decay": decay, "lr_scale": scale}
        for scale, decay in sorted(parts, reverse=True)
    ]
    if train.optimizer == "sgd":
        return SGD(groups, lr=train.lr, momentum=train.betas[0], nesterov=train.betas[0] > 0)
    return AdamW(groups, lr=train.lr, betas=train.betas, fused=True)


def learning_rate(step: int, total: int, train: TrainSpec) -> float:
    """The rate of the update numbered `step`, from 0: a linear rise, then the schedule."""
    warmup = round(train.warmup_fraction * total)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup - 1)
    floor = train.final_lr_fraction
    match train.schedule:
        case "cosine":
            share = floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2
        case "linear":
            share = 1 - (1 - floor) * min(1.0, done)
        case "inverse_sqrt":
            share = math.sqrt(max(1, warmup) / max(1, step + 1))
        case "constant":
            share = 1.0
    return train.lr * share


def average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights, updated by ``.update_parameters(model)``."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
