"""A weight map in both directions, and what it says of weights that do not fit."""

import pytest
import torch
from torch import Tensor, nn

from zoo.core import Transformer
from zoo.errors import UserError
from zoo.weights import LEADING, Row, Table, from_published, to_published

TABLE = Table(
    (
        Row("0.blocks.{}.attention.qkv", ("net.{}.q", "net.{}.k", "net.{}.v")),
        Row("0.blocks.{}.attention.out", "net.{}.out"),
        Row("0.blocks.{}.norm1", "net.{}.norm"),
        Row("0.norm.weight", "net.last", LEADING),
        Row("0.blocks.{}.norm2.weight", "net.{}.second"),
        Row("0.blocks.{}.mlp", "net.{}.mlp"),
        Row("head.classifier", "classifier", predicts=True),
    ),
    ignored=(r"net\.\d+\.mask",),
    prefix="net.",
    older={"norm.gamma": "norm.weight"},
)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", Transformer(8, 2, 2, num_kv_heads=1, mlp_dim=8, norm="rmsnorm", bias=("q", "v", "out")))
        self.head = nn.ModuleDict({"classifier": nn.Linear(8, 3)})


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier()


@pytest.fixture
def published(model: Classifier) -> dict[str, Tensor]:
    return to_published(model, TABLE)


def test_projections_are_parted_by_their_widths_and_biases(model: Classifier, published: dict[str, Tensor]) -> None:
    fused = model.get_submodule("0").blocks[1].attention.qkv
    assert torch.equal(published["net.1.q.weight"], fused.weight[:8])
    assert torch.equal(published["net.1.k.weight"], fused.weight[8:12])
    assert torch.equal(published["net.1.v.bias"], fused.bias[8:])
    assert "net.1.k.bias" not in published
    assert published["net.last"].shape == (1, 8)


def test_there_and_back_is_the_same(model: Classifier, published: dict[str, Tensor]) -> None:
    other = Classifier()
    placed = from_published(other, published, TABLE)
    assert not placed.new
    other.load_state_dict(placed.tensors)
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in other.state_dict().items())


def test_older_names_a_lacking_prefix_and_tensors_without_learning_are_known(
    model: Classifier, published: dict[str, Tensor]
) -> None:
    bare = {name.removeprefix("net."): each for name, each in published.items() if name.startswith("net.")}
    bare = {name.replace("norm.weight", "norm.gamma"): each for name, each in bare.items()}
    placed = from_published(model, bare | {"0.mask": torch.ones(1)}, TABLE)
    assert placed.new == ["head.classifier.weight", "head.classifier.bias"]
    assert not placed.replaced
    assert torch.equal(placed.tensors["0.norm.weight"], published["net.last"][0])


def test_what_predicts_other_targets_stays_new(model: Classifier, published: dict[str, Tensor]) -> None:
    published["classifier.weight"] = torch.zeros(7, 8)
    placed = from_published(model, published, TABLE, same_targets=False)
    assert placed.new == placed.replaced == ["head.classifier.weight", "head.classifier.bias"]
    assert torch.equal(placed.tensors["head.classifier.weight"], model.head["classifier"].weight)


def test_all_that_does_not_fit_is_named(model: Classifier, published: dict[str, Tensor]) -> None:
    del published["net.1.k.weight"]
    published["net.0.mlp.fc1.weight"] = torch.zeros(8, 9)
    published["net.2.extra"] = torch.zeros(1)
    with pytest.raises(UserError) as raised:
        from_published(model, published, TABLE)
    told = str(raised.value)
    assert "places without a weight: 0.blocks.1.attention.qkv.weight (net.1.k.weight)" in told
    assert "weights without a place: net.2.extra" in told
    assert "not as needed: net.0.mlp.fc1.weight is [8, 9], not [8, 8]" in told


def test_what_does_not_fit_is_called_as_its_file_has_it(model: Classifier, published: dict[str, Tensor]) -> None:
    bare = {name.removeprefix("net."): each for name, each in published.items() if name.startswith("net.")}
    bare = {name.replace("norm.weight", "norm.gamma"): each for name, each in bare.items()}
    del bare["1.k.weight"]
    strange = {"0.norm.gamma": torch.ones(9), "2.extra": torch.zeros(1), "2.norm.gamma": torch.zeros(1)}
    with pytest.raises(UserError) as raised:
        from_published(model, bare | strange, TABLE, source="a/place")
    told = str(raised.value)
    assert told.startswith("the weights 'a/place' do not fit the model\n")
    assert "weight: 0.blocks.1.attention.qkv.weight (1.k.weight)\n" in told
    assert "place: 2.extra, 2.norm.gamma\n" in told
    assert "needed: 0.norm.gamma is [9], not [8]\n" in told


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("net.last", torch.zeros(2, 8), r"net.last is \[2, 8\], not \[1, 8\]"),
        ("net.last", torch.tensor(1.0), r"net.last is \[\], not \[1, 8\]"),
        ("net.0.q.weight", torch.zeros(8, 9), r"net.0.q.weight is \[8, 9\], not \[8, 8\]"),
        ("net.0.norm.weight", torch.ones(8, dtype=torch.int8), "net.0.norm.weight is int8, not dense floating point"),
        ("net.0.norm.weight", torch.ones(8).to_sparse(), "net.0.norm.weight is float32, not dense floating point"),
    ],
)
def test_a_tensor_of_another_shape_or_kind_is_refused(
    model: Classifier, published: dict[str, Tensor], name: str, tensor: Tensor, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        from_published(model, published | {name: tensor}, TABLE)


def test_rows_do_not_move_from_one_projection_to_the_next(model: Classifier, published: dict[str, Tensor]) -> None:
    swapped = {"net.0.q.weight": torch.zeros(12, 8), "net.0.k.weight": torch.zeros(0, 8)}
    with pytest.raises(UserError, match=r"net.0.q.weight is \[12, 8\], not \[8, 8\]"):
        from_published(model, published | swapped, TABLE)


def test_a_head_that_is_there_in_part_is_told(model: Classifier, published: dict[str, Tensor]) -> None:
    del published["classifier.bias"]
    with pytest.raises(UserError, match=r"places without a weight: head.classifier.bias \(classifier.bias\)"):
        from_published(model, published, TABLE)


def test_a_tensor_in_no_row_is_told_both_ways(model: Classifier, published: dict[str, Tensor]) -> None:
    shorter = Table(TABLE.rows[1:], TABLE.ignored, TABLE.prefix)
    with pytest.raises(UserError, match=r"attention.qkv.weight \(in no row of the table\)"):
        from_published(model, published, shorter)
    with pytest.raises(UserError, match=r"attention.qkv.weight' has no name among those published"):
        to_published(model, shorter)


def test_a_published_tensor_may_hold_several() -> None:
    table = Table(
        (Row("head.q", "head.q_proj"), Row("head.kv", ("head.k_proj", "head.v_proj"))),
        parts={f"head.in_{kind}": [f"head.{each}_proj.{kind}" for each in "qkv"] for kind in ("weight", "bias")},
    )
    torch.manual_seed(0)
    model = nn.Module()
    model.head = nn.ModuleDict({"q": nn.Linear(4, 4), "kv": nn.Linear(4, 8)})
    found = to_published(model, table)
    assert {name: list(each.shape) for name, each in found.items()} == {"head.in_weight": [12, 4], "head.in_bias": [12]}
    assert torch.equal(found["head.in_weight"], torch.cat([model.head["q"].weight, model.head["kv"].weight]))
    placed = from_published(model, found, table)
    assert not placed.new
    assert all(torch.equal(each, placed.tensors[name]) for name, each in model.state_dict().items())
    with pytest.raises(
        UserError, match=r"have 'head.in_bias' and head.k_proj.bias, which are the same\nleave out what"
    ):
        from_published(model, {**found, "head.k_proj.bias": torch.zeros(4)}, table)
    short = {**found, "head.in_weight": found["head.in_weight"][:11]}
    with pytest.raises(UserError, match=r"head.in_weight: head.v_proj.weight is \[3, 4\], not \[4, 4\]"):
        from_published(model, short, table)
    with pytest.raises(UserError, match=r"places without a weight: head.q.bias \(head.q_proj.bias\)"):
        from_published(model, {"head.in_weight": found["head.in_weight"], "head.in_bias": torch.tensor(1.0)}, table)
