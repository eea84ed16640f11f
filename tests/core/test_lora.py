"""Low-rank adapters: they begin as nothing, learn alone, and can be merged and taken out exactly."""

import copy

import pytest
import torch
from torch import Tensor

from zoo.core import Transformer, add_lora, drop_lora, merge_lora

TARGETS = ("q", "k", "v", "out", "fc1", "fc2")


def core(**knobs: object) -> Transformer:
    torch.manual_seed(0)
    return Transformer(**({"dim": 16, "depth": 2, "num_heads": 2} | knobs)).eval()  # pyright: ignore[reportArgumentType]


def stir(model: Transformer) -> None:
    """Other adapters than new ones, which add nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 5, 16)


def test_an_adapted_core_begins_as_it_was(x: Tensor) -> None:
    plain = core()
    adapted = copy.deepcopy(plain)
    add_lora(adapted, rank=3, alpha=6.0, targets=TARGETS)
    assert torch.equal(adapted(x), plain(x))


@pytest.mark.parametrize("target", TARGETS)
def test_each_projection_is_adapted_apart(x: Tensor, target: str) -> None:
    plain = core(num_kv_heads=1, activation="geglu")
    adapted = copy.deepcopy(plain)
    add_lora(adapted, rank=3, alpha=6.0, targets=[target])
    trained = {name for name, each in adapted.named_parameters() if each.requires_grad}
    assert len(trained) == 2 * 2  # up and down, of each block
    stir(adapted)
    adapted(x).sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in adapted.parameters() if each.requires_grad)
    assert all(each.grad is None for each in adapted.parameters() if not each.requires_grad)
    merged = copy.deepcopy(adapted)
    merge_lora(merged)
    changed = {name for name, each in merged.named_parameters() if not torch.equal(each, plain.get_parameter(name))}
    place = {"out": "attention.out", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}.get(target, "attention.qkv")
    assert changed == {f"blocks.{i}.{place}.weight" for i in range(2)}
    if target in "qkv":
        before = plain.blocks[0].attention.qkv.weight.split([16, 8, 8])
        after = merged.blocks[0].attention.qkv.weight.split([16, 8, 8])
        assert [not torch.equal(*pair) for pair in zip(before, after, strict=True)] == [
            target == each for each in "qkv"
        ]


def test_merging_and_taking_out_are_exact(x: Tensor) -> None:
    plain = core()
    adapted = copy.deepcopy(plain)
    add_lora(adapted, rank=3, alpha=6.0, targets=TARGETS)
    stir(adapted)
    merged, dropped = copy.deepcopy(adapted), copy.deepcopy(adapted)
    merge_lora(merged)
    drop_lora(dropped)
    assert torch.equal(merged(x), adapted(x))
    assert not torch.equal(merged(x), plain(x))
    assert torch.equal(dropped(x), plain(x))
    for each in (merged, dropped):
        assert each.state_dict().keys() == plain.state_dict().keys()
        assert all(parameter.requires_grad for parameter in each.parameters())


def test_the_formula_is_that_of_the_paper() -> None:
    adapted = core()
    before = adapted.blocks[1].mlp.fc2.weight.detach().clone()
    add_lora(adapted, rank=2, alpha=8.0, targets=["fc2"])
    stir(adapted)
    low_rank = adapted.blocks[1].mlp.fc2.parametrizations.weight[0]
    expected = before + 8 / 2 * low_rank.up["0"] @ low_rank.down["0"]
    torch.testing.assert_close(adapted.blocks[1].mlp.fc2.weight, expected, rtol=0, atol=1e-6)


def test_cross_attention_is_adapted_too(x: Tensor) -> None:
    adapted = core(cross_attention=True, context_dim=8)
    add_lora(adapted, rank=2, alpha=2.0, targets=["q", "v"])
    stir(adapted)
    adapted(x, context=torch.randn(2, 3, 8)).sum().backward()
    names = {name.partition(".parametrizations")[0] for name, each in adapted.named_parameters() if each.requires_grad}
    assert {name.rpartition(".")[2] for name in names} == {"qkv", "q", "kv"}


def test_what_cannot_be_adapted_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown targets gate; choose some of q, k, v, out, fc1, fc2"):
        add_lora(core(), rank=2, alpha=2.0, targets=["q", "gate"])
    with pytest.raises(ValueError, match="rank 17 is above 16, the width of q/k/v; lower it"):
        add_lora(core(), rank=17, alpha=2.0, targets=["q"])
    with pytest.raises(ValueError, match="the core has none of q, v"):
        add_lora(torch.nn.Linear(2, 2), rank=2, alpha=2.0)
