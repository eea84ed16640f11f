"""What moves the weights: the optimiser, its learning rate as a function of the step, and their average.

Loshchilov & Hutter 2019 (AdamW), arXiv:1711.05101; Loshchilov & Hutter 2017 (cosine), arXiv:1608.03983;
Vaswani et al. 2017 (inverse square root), arXiv:1706.03762; Polyak & Juditsky 1992 (averaging).
"""

import math

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoo.core.layers import FusedLinear
from zoo.specs import TrainSpec


def decayed(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay is meant for: matrices and kernels.

    Norms, biases, positions, special tokens and embeddings are not shrunk.
    """
    matrices = nn.Linear | FusedLinear | _ConvNd
    return {
        f"{name}.weight".removeprefix(".") for name, module in model.named_modules() if isinstance(module, matrices)
    }


def build_optimizer(model: nn.Module, train: TrainSpec) -> Optimizer:
    decays = decayed(model)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in trained if name in decays], "weight_decay": train.weight_decay},
        {"params": [p for name, p in trained if name not in decays], "weight_decay": 0.0},
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
