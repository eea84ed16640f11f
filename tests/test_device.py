"""Which device a name means, and what is said of one that is not here."""

import pytest

from zoo import device
from zoo.errors import UserError


@pytest.mark.parametrize("name", ["gpu", "cuda:first", "cuda:", "CPU", ""])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{name}'; there are: auto, cpu, cuda, cuda:N, mps"):
        device.pick(name)


def test_what_is_not_here() -> None:
    with pytest.raises(UserError, match=r"device 'cuda:99' is not usable here; usable: .*cpu"):
        device.pick("cuda:99")
    assert device.pick("cpu").type == "cpu"
    assert device.pick("auto").type in {"cuda", "mps", "cpu"}
