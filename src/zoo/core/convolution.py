"""The core's other way to mix tokens: a gated depthwise convolution, local where attention is global.

Conformer: Gulati et al. 2020, arXiv:2005.08100; its batch norm is the core's norm here, so that the tokens of one
sequence never count in another.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.core.layers import init_linear, make_norm
from zoo.core.pack import DENSE, Layout, to_packed, to_padded


class Convolution(nn.Module):
    """Linear and gate, a convolution of each channel over neighbouring tokens, norm, SiLU, linear.

    Args:
        dim: width of a token.
        kernel: tokens that it sees, itself in the middle; odd.
        bias: of the linear layers and the convolution.
        norm: kind of norm after the convolution; `norm_eps` and `norm_bias` are its.
    """

    def __init__(
        self,
        dim: int,
        kernel: int,
        *,
        bias: bool = True,
        norm: str = "layernorm",
        norm_eps: float = 1e-6,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a convolution of {kernel} tokens has none in the middle; make it odd")
        self.gate = nn.Linear(dim, 2 * dim, bias=bias)
        self.depthwise = nn.Conv2d(dim, dim, (1, kernel), padding=(0, kernel // 2), groups=dim, bias=bias)
        self.norm = make_norm(norm, dim, norm_eps, bias=norm_bias)
        self.out = nn.Linear(dim, dim, bias=bias)
        init_linear(self.gate)
        init_linear(self.out)

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout = DENSE) -> Float[Tensor, "*tokens d"]:
        x = F.glu(self.gate(x), -1)
        num_tokens = x.shape[0]
        if layout.packed:  # pads are zero, as what lies beyond the ends is
            x = to_padded(x, layout)
        elif (valid := layout.padding_mask(num_tokens)) is not None:
            x = x * valid[..., None]
        # One row high: the kernels of two-dimensional convolution are the faster ones on the CPU.
        x = self.depthwise(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)
        if layout.packed:
            x = to_packed(x, layout, num_tokens)
        return self.out(F.silu(self.norm(x)))
