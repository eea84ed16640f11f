import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo.core
from zoo.core import DENSE, Layout, Model, Stream, Transformer


class Tokens(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.table = nn.Embedding(10, dim)

    def forward(self, tokens: Tensor, cu_seqlens: Tensor | None = None, max_len: int | None = None) -> Stream:
        layout = DENSE if cu_seqlens is None else Layout(cu_seqlens=cu_seqlens, max_len=max_len)
        return Stream(self.table(tokens), layout)


class Each(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.out = nn.Linear(dim, 3)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.out(x)


def make(dim: int = 16) -> Model:
    return Model(Tokens(dim), Transformer(dim, 2, 4), Each(dim)).eval()


def test_walks_through_the_rooms() -> None:
    torch.manual_seed(0)
    model, tokens = make(), torch.arange(6).reshape(2, 3)
    output = model({"tokens": tokens})
    assert output.logits.shape == (2, 3, 3)
    assert output.layout is DENSE
    assert output.intermediates is None
    layout = Layout.from_lengths([3, 3])
    packed = model({"tokens": tokens.flatten(), "cu_seqlens": layout.cu_seqlens, "max_len": 3})
    assert packed.layout.packed
    assert (packed.logits - output.logits.flatten(0, 1)).abs().max() <= 1e-5
    told = model({"tokens": tokens}, return_intermediates=True)
    assert (told.logits - output.logits).abs().max() <= 1e-5
    assert told.intermediates is not None
    assert len(told.intermediates.weights) == 2


def test_cores_of_one_width_are_exchanged() -> None:
    torch.manual_seed(0)
    one, other, tokens = make(), make(), torch.arange(4)[None]
    before = one({"tokens": tokens}).logits
    one.core = other.core
    assert one.core is other.core
    assert not torch.equal(one({"tokens": tokens}).logits, before)
    one.core.blocks[0].mlp.fc1.weight.data.zero_()
    assert other.core.blocks[0].mlp.fc1.weight.abs().max() == 0


def test_a_core_of_another_width_is_refused_and_the_model_kept() -> None:
    model = make()
    core = model.core
    with pytest.raises(ValueError, match="core has width 32, but embed has 16"):
        model.core = Transformer(32, 1, 4)
    assert model.core is core
    with pytest.raises(ValueError, match="head has width 8, but embed has 16"):
        Model(Tokens(16), Transformer(16, 1, 4), Each(8))
    model.core = nn.Identity()  # states no width


def test_survives_pickling() -> None:
    model, tokens = make(), torch.arange(4)[None]
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin({"tokens": tokens}).logits, model({"tokens": tokens}).logits)


COMPILED = """
import torch
from zoo.core import DENSE, Layout, Model, Stream, Transformer

class Embed(torch.nn.Module):
    def forward(self, x, layout=DENSE):
        return Stream(x, layout)

class Head(torch.nn.Module):
    def forward(self, x, layout):
        return x * 2

modern = dict(num_kv_heads=2, head_dim=6, norm="rmsnorm", activation="swiglu", bias=("q",), qk_norm=True,
              rotary_theta=1e3, windows=(None, 3), layer_scale=0.5, causal=True)
for options in ({}, modern):
    model = Model(Embed(), Transformer(16, 2, 4, drop_path=0.1, **options), Head())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    compiled({"x": torch.randn(2, 5, 16)}).logits.sum().backward()
    model.eval()
    for inputs in ({"x": torch.randn(2, 5, 16)}, {"x": torch.randn(10, 16), "layout": Layout.from_lengths([3, 5, 2])}):
        assert (compiled(inputs).logits - model(inputs).logits).abs().max() < 1e-5
"""


def test_compiles_to_one_graph() -> None:
    """In a process of its own: shape checks at import would break the graph."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_core_knows_no_kind_of_input() -> None:
    words = re.compile(r"(?<![a-z])(image|picture|audio|text|speech|voice|vision|visual|pixel|patch)", re.IGNORECASE)
    for path in Path(zoo.core.__file__).parent.glob("*.py"):
        source = path.read_text()
        assert not words.findall(source), path.name
        assert not re.findall(r"(?:from|import) zoo\.(?!core)", source), path.name
