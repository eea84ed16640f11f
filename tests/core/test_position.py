import math

import pytest
import torch

from zoo.core import Layout, LearnedPosition, Rotary, SinusoidalPosition, interpolate_grid, sinusoids


def test_rotary_turns_each_pair_by_its_angle() -> None:
    rotary = Rotary(6, theta=100.0)
    q = torch.randn(1, 4, 2, 8, dtype=torch.float64)
    turned, _ = rotary(q, q, torch.tensor([0, 1, 5, 9]))
    for t, position in enumerate([0, 1, 5, 9]):
        pair = torch.complex(q[0, t, :, :3], q[0, t, :, 3:6])
        angle = position * 100.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
        want = pair * torch.polar(torch.ones(3, dtype=torch.float64), angle)
        assert (torch.complex(turned[0, t, :, :3], turned[0, t, :, 3:6]) - want).abs().max() < 1e-5
    assert torch.equal(turned[..., 6:], q[..., 6:])


def test_rotary_scores_depend_on_distance_only() -> None:
    torch.manual_seed(0)
    rotary = Rotary(16)
    q, k = torch.randn(1, 1, 1, 16).expand(1, 5, 1, 16), torch.randn(1, 1, 1, 16).expand(1, 5, 1, 16)

    def scores(shift: int) -> torch.Tensor:
        a, b = rotary(q, k, torch.arange(5) + shift)
        return torch.einsum("bthk,bshk->ts", a, b)

    assert (scores(0) - scores(1000)).abs().max() < 1e-3
    assert (scores(0)[0, 1] - scores(0)[3, 4]).abs() < 1e-5


def test_rotary_is_not_blunted_by_half_precision() -> None:
    sharp, cast = Rotary(8), Rotary(8).bfloat16()
    x = torch.randn(1, 3, 1, 8)
    positions = torch.tensor([10, 1000, 4001])
    assert torch.equal(sharp(x, x, positions)[0], cast(x, x, positions)[0])
    assert not sharp.state_dict()


@pytest.mark.parametrize("position", [LearnedPosition(6, 8), SinusoidalPosition()], ids=["learned", "sinusoidal"])
def test_positions_are_the_same_in_every_layout_and_in_decoding(position: torch.nn.Module) -> None:
    x = torch.randn(2, 5, 8)
    want = position(x)
    layout = Layout.from_lengths([5, 2])
    assert torch.equal(position(torch.cat([x[0], x[1, :2]]), layout), torch.cat([want[0], want[1, :2]]))
    assert torch.equal(torch.cat([position(x[:, :3]), position(x[:, 3:], offset=3)], 1), want)


def test_learned_positions_end() -> None:
    position = LearnedPosition(4, 8)
    position(torch.randn(1, 4, 8))
    with pytest.raises(ValueError, match="5 tokens, but only 4"):
        position(torch.randn(1, 5, 8))
    with pytest.raises(ValueError, match="5 tokens"):
        position(torch.randn(5, 8), Layout.from_lengths([5]))
    with pytest.raises(ValueError, match="5 tokens"):
        position(torch.randn(1, 1, 8), offset=4)


@pytest.mark.parametrize("dim", [8, 7])
def test_sinusoids_follow_the_paper(dim: int) -> None:
    table = sinusoids(torch.arange(50), dim)
    for pos, channel in [(0, 0), (3, 2), (49, 5), (49, dim - 1)]:
        angle = pos / 10_000 ** ((channel - channel % 2) / dim)
        assert abs(table[pos, channel].item() - (math.cos if channel % 2 else math.sin)(angle)) < 1e-5


@pytest.mark.parametrize("num_prefix", [0, 1, 5])
@pytest.mark.parametrize("new", [(4, 4), (7, 3), (2, 2)])
def test_interpolation_equals_timm(num_prefix: int, new: tuple[int, int]) -> None:
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(num_prefix + 16, 8)
    want = resample_abs_pos_embed(table[None], list(new), [4, 4], num_prefix_tokens=num_prefix)[0]
    assert (interpolate_grid(table, (4, 4), new, num_prefix=num_prefix) - want).abs().max() <= 1e-6
    with pytest.raises(ValueError, match="no grid of 3 x 4"):
        interpolate_grid(table, (3, 4), new, num_prefix=num_prefix)


def test_the_gradient_of_packed_positions_is_the_same_every_time() -> None:
    """Places repeat from sequence to sequence; their gradients must not be added in the threads' order."""
    layout = Layout.from_lengths([40] * 200)
    position, x = LearnedPosition(40, 96), torch.randn(8000, 96)
    gradients = []
    for _ in range(5):
        position.zero_grad()
        (position(x, layout) * x).sum().backward()
        gradients.append(position.weight.grad.clone())
    assert all(torch.equal(each, gradients[0]) for each in gradients)
