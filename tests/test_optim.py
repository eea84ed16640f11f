"""Which weights decay, and the learning rate as a function of the step."""

import pytest
import torch
from torch import nn

from zoo.core import Attention, Transformer
from zoo.errors import UserError
from zoo.optim import average, build_optimizer, decayed, freeze, learning_rate
from zoo.specs import TrainSpec


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.stem = nn.Conv2d(1, 4, 2)
        self.table = nn.Embedding(3, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = Attention(4, 2)
        self.out = nn.Linear(4, 2)


def test_only_matrices_and_kernels_decay() -> None:
    matrices = {"stem.weight", "out.weight", "attention.qkv.weight", "attention.out.weight"}
    assert decayed(Small()) == matrices
    with_decay, without = build_optimizer(Small(), TrainSpec(weight_decay=0.1)).param_groups
    assert (with_decay["weight_decay"], len(with_decay["params"])) == (0.1, 4)
    assert (without["weight_decay"], len(without["params"])) == (0.0, 8)


def test_frozen_weights_are_left_out() -> None:
    model = Small()
    freeze(model, ["out"])
    assert sum(len(group["params"]) for group in build_optimizer(model, TrainSpec()).param_groups) == 10


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["embed", "core"], {"head.weight", "head.bias"}),
        (["core.blocks.[01]", "embed", "head", "core.norm"], None),
        (["*.bias", "embed", "core.blocks.*.attention.*", "core.blocks.*.mlp", "core.*norm*"], {"head.weight"}),
    ],
)
def test_what_is_frozen_is_named_by_patterns(patterns: list[str], left: set[str] | None) -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(3, 8), "core": Transformer(8, 2, 2), "head": nn.Linear(8, 2)})
    if left is None:
        with pytest.raises(UserError, match="nothing is left to train"):
            freeze(model, patterns)
        return
    freeze(model, patterns)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == left


def test_a_pattern_that_names_nothing_is_refused_with_what_there_is() -> None:
    model = nn.ModuleDict({"core": Transformer(8, 2, 2), "head": nn.Linear(8, 2)})
    with pytest.raises(UserError, match=r"train.freeze: the model has no 'cor'\nit has core.blocks.N, core.norm, head"):
        freeze(model, ["cor"])


def test_each_block_has_a_share_of_the_next_one_s_rate() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(3, 8), "core": Transformer(8, 2, 2), "head": nn.Linear(8, 2)})
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, TrainSpec(layer_decay=0.5, weight_decay=0.1)).param_groups
    scales = {names[each]: (group["lr_scale"], group["weight_decay"]) for group in groups for each in group["params"]}
    assert scales.keys() == set(names.values())
    assert scales["embed.weight"] == (0.125, 0.0)
    assert scales["core.blocks.0.mlp.fc1.weight"] == (0.25, 0.1)
    assert scales["core.blocks.1.norm1.weight"] == (0.5, 0.0)
    assert scales["core.norm.weight"] == (1.0, 0.0)
    assert scales["head.weight"] == (1.0, 0.1)


@pytest.mark.parametrize(
    ("schedule", "middle", "last"), [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1.0, 1.0)]
)
def test_schedules(schedule: str, middle: float, last: float) -> None:
    train = TrainSpec.model_validate(
        {"lr": 1.0, "schedule": schedule, "warmup_fraction": 0.1, "final_lr_fraction": 0.1}
    )
    rates = [learning_rate(step, 111, train) for step in range(111)]
    assert rates[:11] == pytest.approx([(i + 1) / 11 for i in range(11)])
    assert rates[11] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(middle, abs=0.01)
    assert rates[110] == pytest.approx(last)


def test_inverse_square_root_follows_the_warm_up() -> None:
    train = TrainSpec(lr=1.0, schedule="inverse_sqrt", warmup_fraction=0.1)
    assert learning_rate(99, 1000, train) == pytest.approx(1.0)
    assert learning_rate(399, 1000, train) == pytest.approx(0.5)


def test_average_is_exponential() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = average(model, 0.9)
    ema.update_parameters(model)
    nn.init.ones_(model.weight)
    ema.update_parameters(model)
    assert float(ema.module.weight.detach()) == pytest.approx(0.1)
