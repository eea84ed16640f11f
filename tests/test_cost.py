"""The formulas against the built core: parameters and operations exactly, activations nearly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zoo.core import Transformer
from zoo.cost import Cost, core_cost, core_parameters, training_memory_bytes
from zoo.specs import CoreSpec, TrainSpec

BIASES = ("q", "k", "v", "out", "mlp", "norm")


@st.composite
def cores(draw) -> CoreSpec:
    num_kv_heads = draw(st.sampled_from([1, 2, 4]))
    cross, causal = draw(st.booleans()), draw(st.booleans())
    norm_position = draw(st.sampled_from(["pre", "post"]))
    return CoreSpec(
        dim=draw(st.sampled_from([32, 48])),
        depth=draw(st.integers(1, 3)),
        num_heads=4,
        num_kv_heads=draw(st.sampled_from([None, num_kv_heads])),
        head_dim=draw(st.sampled_from([None, 6])),
        mlp_dim=draw(st.sampled_from([None, 40])),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        norm_position=norm_position,
        first_norm=norm_position == "post" or draw(st.booleans()),
        final_norm=draw(st.booleans()),
        activation=draw(st.sampled_from(["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu"])),
        bias=tuple(name for name in BIASES if draw(st.booleans())),
        qk_norm=draw(st.booleans()),
        layer_scale=draw(st.sampled_from([None, 0.1])),
        rotary_theta=draw(st.sampled_from([None, 10_000.0, (10_000.0, 500.0)])),
        windows=draw(st.sampled_from([None, (4, 0)])),
        causal=causal,
        conv_kernel=None if causal else draw(st.sampled_from([None, 5])),
        cross_attention=cross,
        context_dim=draw(st.sampled_from([None, 20])) if cross else None,
    )


@settings(max_examples=60, deadline=None)
@given(core=cores(), num_tokens=st.integers(1, 9), num_context=st.integers(1, 9))
def test_parameters_and_flops_are_those_of_the_built_core(core: CoreSpec, num_tokens: int, num_context: int) -> None:
    built = Transformer(**core.model_dump())
    context = torch.randn(1, num_context, core.context_dim or core.dim) if core.cross_attention else None
    # the counter knows CUDA's fused kernels but not the CPU's; unfused, attention is two products, counted alike
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        built(torch.randn(1, num_tokens, core.dim), context=context)
    assert core_parameters(core) == sum(parameter.numel() for parameter in built.parameters())
    assert core_cost(core, num_tokens, num_context).flops == counter.get_total_flops()


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu"])
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"qk_norm": True, "layer_scale": 0.1},
        {"num_kv_heads": 2, "norm": "rmsnorm"},
        {"norm_position": "post"},
        {"conv_kernel": 7},
    ],
)
def test_activations_are_nearly_what_autograd_keeps(activation: str, knobs: dict) -> None:
    core = CoreSpec(dim=64, depth=3, num_heads=4, activation=activation, **knobs)
    built = Transformer(**core.model_dump())
    own = {parameter.untyped_storage().data_ptr() for parameter in built.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    tokens = torch.randn(2, 50, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = built(tokens)
    assert output.requires_grad
    assert 2 * core_cost(core, 50).activations == pytest.approx(sum(kept.values()), rel=0.1)


def test_memory_counts_each_copy_of_the_weights_and_a_micro_batch_of_activations() -> None:
    cost = Cost(parameters=1000, flops=0, activations=10)
    assert training_memory_bytes(cost, TrainSpec(batch_size=8)) == 4 * (4 * 1000 + 8 * 10)
    assert training_memory_bytes(cost, TrainSpec(batch_size=8, optimizer="sgd")) == 4 * (3 * 1000 + 8 * 10)
    assert training_memory_bytes(cost, TrainSpec(batch_size=8, ema_decay=0.99)) == 4 * (5 * 1000 + 8 * 10)
