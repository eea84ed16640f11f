"""The rooms that know text, and the shapes of the registered models."""

import pytest
import torch
from torch import nn

from zoo import plugins
from zoo.core import DENSE, Layout, pack
from zoo.registry import open_registry
from zoo.testing.of_task import TOLERANCE
from zoo_text.model import CausalHead, TextEmbed, TextHead
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


@pytest.mark.parametrize("pool", ["cls", "last", "mean", "max", "seq"])
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


@pytest.mark.parametrize("pool", ["cls", "last", "mean", "max", "seq"])
def test_readout_weights_sum_to_one(pool: str) -> None:
    torch.manual_seed(0)
    weights = TextHead(8, 3, pool=pool).readout_weights(torch.randn(5, 8))
    assert weights.shape == (1, 5)
    assert weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_tokens_that_come_later_have_later_places(position: str) -> None:
    torch.manual_seed(0)
    embed = TextEmbed(8, 20, max_tokens=6, position=position, first_position=2, hands_on=["table"])
    tokens = torch.tensor([3, 4, 5, 3, 4])
    whole, _, aside = embed(tokens, **offsets([5]))
    later = embed(tokens[None, 3:], DENSE, offset=3).x
    torch.testing.assert_close(later[0], whole[3:])
    assert aside["table"] is embed.table.weight


def test_a_causal_head_scores_by_the_table_of_tokens_or_by_its_own() -> None:
    torch.manual_seed(0)
    x, table = torch.randn(5, 8), torch.randn(20, 8)
    torch.testing.assert_close(CausalHead(8, 20)(x, table=table), x @ table.T)
    own = CausalHead(8, 20, tied=False, bias=True)
    nn.init.normal_(own.bias)
    assert own.table is not None
    torch.testing.assert_close(own(x, table=table), x @ own.table.weight.T + own.bias)


@pytest.mark.parametrize(
    ("eos_token", "places"),
    [(7, [1, 0, 2]), (None, [3, 0, 5]), (0, [3, 0, 5])],
    ids=["its first", "the highest", "the last where there is none"],
)
def test_the_token_that_ends_a_text_is_pooled_packed_padded_and_alone(eos_token: int | None, places: list[int]) -> None:
    torch.manual_seed(0)
    head = TextHead(8, 3, pool="eos", eos_token=eos_token, pooler="linear", pooler_dim=5)
    nn.init.normal_(head.classifier.weight)
    tokens = torch.tensor([[3, 7, 7, 9, 0, 0], [7, 0, 0, 0, 0, 0], [4, 4, 7, 2, 7, 8]])
    valid = torch.arange(6) < torch.tensor([4, 1, 6])[:, None]
    x = torch.randn(3, 6, 8)
    wanted = head.classifier(head.pooler(x[torch.arange(3), torch.tensor(places)]))
    torch.testing.assert_close(head(x, Layout(valid=valid), tokens), wanted)
    torch.testing.assert_close(head(*pack(x, valid), tokens[valid]), wanted)
    alone = [head(x[i : i + 1, :n], tokens=tokens[i : i + 1, :n]) for i, n in enumerate([4, 1, 6])]
    torch.testing.assert_close(torch.cat(alone), wanted)
    with pytest.raises(ValueError, match="the embed hands none on"):
        head(x, Layout(valid=valid))


def offsets(lengths: list[int]) -> dict[str, object]:
    return {"layout": Layout.from_lengths(lengths)}


def test_a_pooler_is_read_as_older_runs_have_it() -> None:
    assert HeadSpec.model_validate({"pooler": True}).pooler == "tanh"
    assert HeadSpec.model_validate({"pooler": False}).pooler is None
