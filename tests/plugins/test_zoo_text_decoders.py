"""transformers' decoders in our rooms: equal outputs, gradients and writing, one text or many, and back unchanged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from zoo.core import Layout, Model, make_norm
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, randomise, record
from zoo.weights import Published, Table, from_published
from zoo_text.causal import CausalLanguageModelling
from zoo_text.generate import continue_text, likeliest
from zoo_text.spec import causal_cost, cost
from zoo_text.task import TextClassification
from zoo_text.weights import CAUSAL, DECODERS, GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, Encoder

GPT = {"n_embd": 48, "n_layer": 3, "n_head": 3, "n_positions": 40, "vocab_size": 60}
LLM = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 60,
    "max_position_embeddings": 40,
}
ROPE = {"rope_type": "default", "rope_theta": 500.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT),
    "gpt2 of another width inside, unscaled, untied": (
        "gpt2",
        GPT | {"n_inner": 80, "activation_function": "relu", "scale_attn_weights": False, "tie_word_embeddings": False},
    ),
    "llama": ("llama", LLM),
    "llama with biases and wide heads, tied": (
        "llama",
        LLM
        | {
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 16,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-5,
            "rope_parameters": ROPE,
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("mistral", LLM | {"sliding_window": 6}),
    "mistral without a window": ("mistral", LLM | {"sliding_window": None}),
    "qwen2": ("qwen2", LLM | {"rope_parameters": ROPE}),
    "qwen2 with windows, tied": (
        "qwen2",
        LLM | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "tie_word_embeddings": True},
    ),
    "qwen3": ("qwen3", LLM | {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 with biases": ("qwen3", LLM | {"head_dim": 12, "attention_bias": True}),
}
LENGTHS = (5, 17, 30)
HEADS = {"text-classification": "AutoModelForSequenceClassification", "causal-lm": "AutoModelForCausalLM"}
IN_PEERS = f"transformers {transformers.__version__}, one text at a time"


def published(kind: str, options: dict[str, Any], dtype: torch.dtype, task: str) -> tuple[nn.Module, Published]:
    """A model of transformers' with random weights, and what its folder on the Hub would hold."""
    torch.manual_seed(0)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model(kind, num_labels=4, **special, **options)
    auto = getattr(transformers, HEADS[task])
    reference = auto.from_config(config, attn_implementation="sdpa").to(dtype).eval()
    randomise(reference)
    tensors = dict(reference.state_dict())
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return reference, Published(Path(), tensors, config.to_dict())


def ours(source: Published, dtype: torch.dtype, task: str) -> tuple[Model, Table]:
    causal = task == "causal-lm"
    family = next(each for each in (CAUSAL if causal else DECODERS) if each.recognises(source))
    settings = {**family.settings(source), **({} if causal else {"head.num_classes": 4}), "data.name": "nowhere"}
    spec = resolve("text", family.task, [Layer("weights", nested(settings))]).spec
    task_class = CausalLanguageModelling if causal else TextClassification
    model, table = task_class.build(spec).to(dtype).eval(), family.table(spec)
    placed = from_published(model, source.tensors, table)
    assert not placed.new
    model.load_state_dict(placed.tensors)
    assert (causal_cost if causal else cost)(spec).parameters == sum(each.numel() for each in model.parameters())
    return model, table


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their norms are of float32 whatever they are given; these are of float64."""

    def forward(self: LlamaRMSNorm, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    for norm in (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm):
        before = norm.forward
        monkeypatch.setattr(
            norm, "forward", lambda self, x, before=before: (forward if x.dtype == torch.float64 else before)(self, x)
        )


@pytest.mark.parity
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(
    variant: str, task: str, dtype: torch.dtype, record_property: Callable[[str, object], None]
) -> None:
    reference, source = published(*VARIANTS[variant], dtype, task)
    model, table = ours(source, dtype, task)
    texts = [torch.randint(3, 60, (length,)) for length in LENGTHS]

    def expected() -> Tensor:
        found = [reference(text[None]).logits for text in texts]
        return torch.cat([each[0] for each in found] if task == "causal-lm" else found)

    found = parity(
        model,
        table,
        {"tokens": torch.cat(texts), "layout": Layout.from_lengths(LENGTHS)},
        reference,
        expected,
        without_gradient=(r".*k_proj\.bias",),
    )
    name = f"{variant}, causal language modelling" if task == "causal-lm" else variant
    record(record_property, name, IN_PEERS, dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_back_unchanged(variant: str, task: str) -> None:
    _, source = published(*VARIANTS[variant], torch.float32, task)
    model, table = ours(source, torch.float32, task)
    check_there_and_back(model, table, source.tensors)


@torch.no_grad()
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_writes_what_transformers_writes(variant: str, dtype: torch.dtype) -> None:
    reference, source = published(*VARIANTS[variant], dtype, "causal-lm")
    model, _ = ours(source, dtype, "causal-lm")
    for length in LENGTHS[:2]:
        prompt = torch.randint(3, 60, (length,))

        def theirs(end: int | None, prompt: Tensor = prompt) -> list[int]:
            whole = reference.generate(
                prompt[None],
                attention_mask=torch.ones_like(prompt[None]),
                do_sample=False,
                max_new_tokens=20,
                eos_token_id=end,
            )
            return whole[0, len(prompt) :].tolist()

        made = continue_text(model, prompt, likeliest, max_new_tokens=20, ends=())
        assert made == theirs(None)
        assert len(made) == 20
        # the same again, each time from the whole text: what is kept of earlier tokens changes nothing
        tokens = prompt
        for _ in range(20):
            inputs = {"tokens": tokens, "layout": Layout.from_lengths([len(tokens)])}
            tokens = torch.cat([tokens, model(inputs).logits[-1:].argmax(-1)])
        assert made == tokens[length:].tolist()
        end = made[7]
        stopped = continue_text(model, prompt, likeliest, max_new_tokens=20, ends=(end,))
        assert [*stopped, end] == theirs(end)


@torch.no_grad()
def test_writing_stops_where_no_position_is_left() -> None:
    reference, source = published(*VARIANTS["gpt2"], torch.float32, "causal-lm")
    model, _ = ours(source, torch.float32, "causal-lm")
    prompt = torch.randint(3, 60, (35,))
    made = continue_text(model, prompt, likeliest, max_new_tokens=20, ends=(), max_tokens=40)
    assert len(made) == 6  # the last needs no place: nothing follows it
    with torch.no_grad():
        whole = reference.generate(
            prompt[None], attention_mask=torch.ones(1, 35), do_sample=False, max_new_tokens=6, eos_token_id=None
        )
    assert made == whole[0, 35:].tolist()
    with pytest.raises(ValueError, match="only 40 positions were learned"):
        continue_text(model, prompt, likeliest, max_new_tokens=20, ends=())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_core_s_norm_is_llama_s(dtype: torch.dtype) -> None:
    """In half precision theirs rounds before it multiplies by the weight, ours after: one step of rounding apart."""
    torch.manual_seed(0)
    theirs, own = LlamaRMSNorm(64, 1e-3).to(dtype), make_norm("rmsnorm", 64, 1e-3).to(dtype)
    torch.nn.init.normal_(theirs.weight, mean=1.0, std=0.3)
    own.load_state_dict(theirs.state_dict())
    for size in (3.0, 0.02):  # of which the second has a variance that eps outweighs
        x = (torch.randn(50, 64) * size).to(dtype)
        torch.testing.assert_close(own(x), theirs(x), rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForCausalLM"])
@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_what_was_published_without_a_classifier_gets_a_new_one(variant: str, kind: str) -> None:
    name, options = VARIANTS[variant]
    config = transformers.AutoConfig.for_model(name, **options)
    reference = getattr(transformers, kind).from_config(config)
    prefix = f"{reference.base_model_prefix}." if kind != "AutoModel" else ""
    older = {"gpt2": f"{prefix}h.0.attn.bias", "llama": f"{prefix}layers.0.self_attn.rotary_emb.inv_freq"}[variant]
    tensors = {**reference.state_dict(), older: torch.ones(1)}
    source = Published(Path(), tensors, config.to_dict())
    family = next(each for each in DECODERS if each.recognises(source))
    settings = {**family.settings(source), "head.num_classes": 4, "data.name": "nowhere"}
    spec = resolve("text", family.task, [Layer("weights", nested(settings))]).spec
    placed = from_published(TextClassification.build(spec), tensors, family.table(spec))
    assert list(placed.new) == ["head.classifier.weight"]


OLDER_LLM = LLM | {"rope_theta": 500.0, "rope_scaling": None}


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        (LLAMA, LLM | {"rope_scaling": {"type": "linear", "factor": 2.0}}, r"scaled \(linear\)"),
        (LLAMA, LLM | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"scaled \(llama3\)"),
        (QWEN2, LLM | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, r"scaled \(yarn\)"),
        (LLAMA, LLM | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}}, "of a part of each head"),
        (QWEN3, LLM | {"rope_parameters": {"full_attention": ROPE}}, "other ones in other layers"),
        (LLAMA, LLM | {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        (LLAMA, LLM | {"num_key_value_heads": 0}, "num_key_value_heads 0, which is no whole number"),
        (GPT2, GPT | {"scale_attn_by_inverse_layer_idx": True}, "layer by layer"),
        (GPT2, GPT | {"add_cross_attention": True}, "second sequence"),
        (GPT2, GPT | {"n_layer": "3"}, "n_layer '3', which is no whole number"),
        (GPT2, {"vocab_size": 60}, "has no 'n_embd'"),
    ],
)
def test_a_configuration_that_the_core_cannot_be_is_refused(
    family: Encoder, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        family.settings(Published(Path("here"), {}, config))


def test_older_configurations_mean_what_newer_ones_do() -> None:
    newer = LLAMA.settings(Published(Path("here"), {}, LLM | {"rope_parameters": ROPE}))
    older = LLAMA.settings(Published(Path("here"), {}, OLDER_LLM | {"head_dim": None}))
    assert newer == older
    assert newer["core.rotary_theta"] == [500.0]
    window = {"sliding_window": 7, "max_window_layers": 2}
    assert QWEN2.settings(Published(Path("here"), {}, OLDER_LLM | window))["core.windows"] is None
    used = window | {"use_sliding_window": True}
    assert QWEN2.settings(Published(Path("here"), {}, OLDER_LLM | used))["core.windows"] == [0, 0, 7]
    assert MISTRAL.settings(Published(Path("here"), {}, OLDER_LLM | window))["core.windows"] == [7]
