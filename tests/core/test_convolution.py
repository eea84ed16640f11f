"""The convolution between attention and MLP."""

import pytest
import torch
from torch import nn
from torchaudio.models import Conformer

from zoo.core import Convolution, Transformer

DIM, KERNEL = 12, 5


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_torchaudio(dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    conformer = Conformer(DIM, 2, 8, 1, KERNEL)
    theirs = conformer.conformer_layers[0].conv_module.to(dtype).eval()
    ours = Convolution(DIM, KERNEL).to(dtype)
    ours.norm = nn.Identity()
    gate, _, depthwise, norm, _, out, _ = theirs.sequential
    norm.running_var.fill_(1 - norm.eps)
    for source, target in ((gate, ours.gate), (depthwise, ours.depthwise), (out, ours.out)):
        target.weight.data = source.weight.data.reshape(target.weight.shape)
        target.bias.data = source.bias.data
    x = torch.randn(3, 9, DIM, dtype=dtype)
    assert (ours(theirs.layer_norm(x)) - theirs(x)).abs().max() <= bound


def test_a_token_sees_its_neighbours_only() -> None:
    torch.manual_seed(0)
    convolution = Convolution(DIM, KERNEL)
    x = torch.randn(1, 11, DIM)
    changed = x.clone()
    changed[:, 5] += 1
    apart = (convolution(x) - convolution(changed)).abs().amax((0, 2))
    assert apart.nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="make it odd"):
        Convolution(DIM, 4)
    with pytest.raises(ValueError, match="sees later tokens"):
        Transformer(DIM, 1, 2, causal=True, conv_kernel=3)
