"""The rooms that know text, and the shapes of the registered models."""

import pytest
import torch
from torch import nn

from zoo import plugins
from zoo.core import Layout, pack
from zoo.registry import open_registry
from zoo.testing.of_task import TOLERANCE
from zoo_text.model import TextEmbed, TextHead
from zoo_text.spec import HeadSpec


@pytest.mark.parametrize("size", ["micro", "tiny", "small"])
def test_cores_are_those_of_the_same_size_for_pictures(size: str) -> None:
    models = open_registry().models
    assert models[f"text-{size}"].core == models[f"vit-{size}"].core


def test_text_base_is_bert_base() -> None:
    """Parameters: 30,522 + 512 + 2 rows and a norm; 12 blocks; the pooler; Devlin et al. 2018 say 110 million."""
    spec = open_registry().own("text-base").spec
    dim, hidden, rows = 768, 3072, 30_522 + 512 + 2
    block = 4 * (dim * dim + dim) + (dim * hidden + hidden) + (hidden * dim + dim) + 2 * 2 * dim
    bert = rows * dim + 2 * dim + 12 * block + (dim * dim + dim)
    assert bert == 109_482_240  # transformers.BertModel(BertConfig()).num_parameters()
    cost = plugins.cost(spec)
    assert cost is not None
    assert cost.parameters == bert + dim * 2 + 2


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_a_token_knows_its_place_in_its_own_text(position: str) -> None:
    torch.manual_seed(0)
    embed = TextEmbed(8, 20, max_tokens=6, position=position)
    tokens = torch.tensor([3, 4, 5, 3, 4])
    x, layout, _ = embed(tokens, **offsets([3, 2]))
    alone = embed(tokens[3:], **offsets([2])).x
    torch.testing.assert_close(x[3:], alone)
    assert layout.max_len == 3
    assert torch.equal(x[0], x[3])  # the same token at the same place
    if position != "none":
        assert not torch.equal(embed(torch.tensor([3, 3]), **offsets([2]))[0][0], x[1])


@pytest.mark.parametrize("pool", ["cls", "mean", "max", "seq"])
def test_pooling_is_equal_packed_padded_and_alone(pool: str) -> None:
    torch.manual_seed(0)
    head = TextHead(8, 3, pool=pool, pooler="tanh")
    nn.init.normal_(head.classifier.weight)
    lengths = [4, 1, 6]
    x = torch.randn(3, 6, 8)
    valid = torch.arange(6) < torch.tensor(lengths)[:, None]
    padded = head(x, Layout(valid=valid))
    packed = head(*pack(x, valid))
    alone = torch.cat([head(x[i : i + 1, :length]) for i, length in enumerate(lengths)])
    torch.testing.assert_close(padded, alone, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(packed, alone, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("pool", ["cls", "mean", "max", "seq"])
def test_readout_weights_sum_to_one(pool: str) -> None:
    torch.manual_seed(0)
    weights = TextHead(8, 3, pool=pool).readout_weights(torch.randn(5, 8))
    assert weights.shape == (1, 5)
    assert weights.sum().item() == pytest.approx(1)


def offsets(lengths: list[int]) -> dict[str, object]:
    return {"layout": Layout.from_lengths(lengths)}


def test_a_pooler_is_read_as_older_runs_have_it() -> None:
    assert HeadSpec.model_validate({"pooler": True}).pooler == "tanh"
    assert HeadSpec.model_validate({"pooler": False}).pooler is None
