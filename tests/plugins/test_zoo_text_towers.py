"""The text encoders of transformers' CLIP and SigLIP in our rooms: equal outputs and gradients, and back unchanged."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from zoo.core import Layout, Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.specs import RunSpec
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, randomise, record
from zoo.weights import Published, Table, from_published
from zoo_text import tokenizer as tokenizers
from zoo_text.spec import EmbedSpec, cost
from zoo_text.task import TextClassification
from zoo_text.towers import CLIP, SIGLIP, TOWERS

EOS, PAD = 59, 1
TEXT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "bos_token_id": 0,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}
LENGTHS = (5, 17, 30)


class Case(NamedTuple):
    """A class of transformers', its configuration's options, and what of its output is compared.

    Args:
        unread: Published tensors that the class has and does not read for that.
    """

    name: str
    config: str
    options: dict[str, Any]
    compared: str = "pooler_output"
    unread: tuple[str, ...] = ()


OF_PICTURES = ("vision_model", "visual_projection", "logit_scale", "logit_bias")
VARIANTS: dict[str, Case] = {
    "clip-text, pooled": Case("CLIPTextModel", "CLIPTextConfig", TEXT),
    "clip-text, pooled at the highest token": Case("CLIPTextModel", "CLIPTextConfig", TEXT | {"eos_token_id": 2}),
    "clip-text": Case(
        "CLIPTextModelWithProjection",
        "CLIPTextConfig",
        TEXT | {"projection_dim": 24, "hidden_act": "gelu"},
        "text_embeds",
    ),
    "clip-text of both": Case(
        "CLIPModel",
        "CLIPConfig",
        {"text_config": TEXT, "vision_config": VISION, "projection_dim": 24},
        "get_text_features",
        OF_PICTURES,
    ),
    "siglip-text": Case("SiglipTextModel", "SiglipTextConfig", TEXT),
    "siglip-text, projected to another width": Case(
        "SiglipTextModel", "SiglipTextConfig", TEXT | {"projection_size": 24, "layer_norm_eps": 1e-5}
    ),
    "siglip-text of both": Case(
        "SiglipModel",
        "SiglipConfig",
        {"text_config": TEXT, "vision_config": VISION},
        "get_text_features",
        OF_PICTURES,
    ),
    "siglip2-text": Case("Siglip2TextModel", "Siglip2TextConfig", TEXT),
}


class Prefixed(nn.Module):
    """A model whose parameters have the prefix that they have in a publication of both encoders."""

    def __init__(self, model: nn.Module, prefix: str) -> None:
        super().__init__()
        self.model, self.prefix = model, prefix

    def named_parameters(self, *_: Any, **__: Any) -> Any:
        return iter(Table((), prefix=self.prefix).named(dict(self.model.named_parameters())).items())


def published(case: Case, dtype: torch.dtype) -> tuple[Any, Published]:
    """A model of transformers' with random weights, and what its folder on the Hub would hold."""
    torch.manual_seed(0)
    config = getattr(transformers, case.config)(**case.options)
    reference = getattr(transformers, case.name)(config).to(dtype).eval()
    reference.set_attn_implementation("sdpa")
    randomise(reference)
    return reference, Published(Path("nowhere"), reference.state_dict(), json.loads(config.to_json_string()))


def ours(source: Published, dtype: torch.dtype) -> tuple[Model, Table, RunSpec]:
    """Without a classifier, of which none was published: the model gives what is pooled."""
    (family,) = (each for each in TOWERS if each.recognises(source))
    settings = {**family.settings(source), "head.num_classes": 4, "data.name": "nowhere"}
    spec = resolve("text", family.task, [Layer("weights", nested(settings))]).spec
    model, table = TextClassification.build(spec).to(dtype).eval(), family.table(spec)
    placed = from_published(model, source.tensors, table)
    assert set(placed.new) == {"head.classifier.weight", "head.classifier.bias"}
    model.load_state_dict(placed.tensors)
    assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
    vars(model.head)["_modules"]["classifier"] = nn.Identity()
    return model, table, spec


def random_texts(ends: bool) -> list[Tensor]:
    """Ragged; the token that ends a text is its last, but of the second it is followed by others."""
    texts = [torch.randint(3, EOS, (length,)) for length in LENGTHS]
    if ends:
        texts[0][-1] = texts[1][9] = texts[1][12] = texts[2][-1] = EOS
    return texts


def said(reference: Any, case: Case, texts: Sequence[Tensor], fill: bool) -> Tensor:
    """What the peer makes of texts, one at a time."""
    given = [
        F.pad(text, (0, TEXT["max_position_embeddings"] - len(text)), value=PAD) if fill else text for text in texts
    ]
    if case.compared == "get_text_features":
        return torch.cat([reference.get_text_features(text[None]).pooler_output for text in given])
    return torch.cat([reference(text[None])[case.compared] for text in given])


def inputs(texts: Sequence[Tensor], spec: RunSpec) -> dict[str, Any]:
    embed = EmbedSpec.model_validate(spec.embed)
    given = [torch.from_numpy(tokenizers.filled_up(text.numpy(), embed)) for text in texts]
    return {"tokens": torch.cat(given), "layout": Layout.from_lengths([len(each) for each in given])}


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]) -> None:
    case = VARIANTS[variant]
    reference, source = published(case, dtype)
    model, table, spec = ours(source, dtype)
    texts = random_texts(ends="clip" in variant)
    found = parity(
        model,
        table,
        inputs(texts, spec),
        Prefixed(reference, table.prefix),
        lambda: said(reference, case, texts, fill="siglip" in variant),
        without_gradient=(r".*k_proj\.bias",),
    )
    record(record_property, variant, f"transformers {transformers.__version__}, one text at a time", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_back_unchanged(variant: str) -> None:
    case = VARIANTS[variant]
    _, source = published(case, torch.float32)
    model, table, _ = ours(source, torch.float32)
    named = Table((), prefix=table.prefix).named(source.tensors)
    read = {name: each for name, each in named.items() if not name.startswith(case.unread or "-")}
    assert len(named) == len(read) or case.unread
    check_there_and_back(model, table, read)


@pytest.mark.parametrize("family", TOWERS, ids=lambda family: family.name)
def test_what_a_configuration_leaves_out_is_as_transformers_has_it(family: Any) -> None:
    for kind in family.alone:
        config = transformers.AutoConfig.for_model(kind)
        assert family.defaults == {key: getattr(config, key) for key in family.defaults}


@pytest.mark.parametrize("again", [{}, {"text_config_dict": None}, {"text_config_dict": {"hidden_size": 768}}])
def test_a_part_for_texts_is_read_as_transformers_does(again: dict[str, Any]) -> None:
    said = {"text_config": {"num_attention_heads": 4, "eos_token_id": 2}, **again}
    wanted = transformers.CLIPConfig(**said).text_config
    found = CLIP.settings(Published(Path("nowhere"), {}, {"model_type": "clip", **said}))
    assert (found["core.dim"], found["core.num_heads"]) == (wanted.hidden_size, wanted.num_attention_heads)
    assert found["head.eos_token"] == (None if wanted.eos_token_id == 2 else wanted.eos_token_id)


def test_what_decides_by_which_token_a_text_is_filled_up(tmp_path: Path) -> None:
    source = Published(tmp_path, {}, {"model_type": "siglip_text_model", **TEXT})
    assert SIGLIP.settings(source)["embed.pad_token"] == PAD
    tokenizer = tokenizers.learn("wordpiece", ["a cat"] * 3, max_vocab_size=300, lowercase=True)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": tokenizers.MASK}))
    assert SIGLIP.settings(source)["embed.pad_token"] == tokenizer.token_to_id(tokenizers.MASK) != PAD
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "of another"}))
    with pytest.raises(UserError, match=r"nothing in .* says with which token texts are filled up"):
        _ = SIGLIP.settings(source)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (CLIP, {"eos_token_id": [2, 3]}, r"eos_token_id \[2, 3\] is no token"),
        (CLIP, {"hidden_act": "mish"}, "hidden_act is 'mish', which the core has not"),
        (CLIP, {"vocab_size": 0}, "vocab_size 0, which is no whole number above 0"),
        (CLIP, {"model_type": "clip", "text_config": "small"}, "has a text_config that is none"),
        (SIGLIP, {"pad_token_id": None}, "nothing in .* says with which token texts are filled up"),
    ],
)
def test_a_configuration_that_our_rooms_cannot_be_is_refused(
    family: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        family.settings(Published(Path("nowhere"), {}, {"model_type": family.alone[0], **TEXT, **changes}))


def test_texts_are_not_filled_up_with_what_is_no_token() -> None:
    values = nested(
        {"core.dim": 48, "core.num_heads": 3, "core.depth": 1, "embed.pad_token": 60, "embed.vocab_size": 60}
    )
    spec = resolve("text", CLIP.task, [Layer("weights", {**values, "data": {"name": "nowhere"}})]).spec
    with pytest.raises(UserError, match=r"embed\.pad_token 60 is no token: there are 60"):
        TextClassification.build(spec)
