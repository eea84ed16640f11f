"""wav2vec 2.0 and HuBERT in our rooms: equal outputs, gradients and texts, a recording as if alone, and back."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
import transformers
from torch import Tensor, nn
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from zoo.contract import Batch
from zoo.core import Layout, Model
from zoo.errors import UserError
from zoo.registry.resolution import Layer, nested, resolve
from zoo.specs import RunSpec
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, randomise, record
from zoo.weights import Published, Table, from_published
from zoo_speech.spec import EmbedSpec, cost
from zoo_speech.task import SpeechToText
from zoo_speech.wav2vec2.weights import HUBERT, TORCHAUDIO, WAV2VEC2, Torchaudio, Transformers
from zoo_speech.writing import write

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"EAT'")
SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "conv_dim": [16, 24, 24, 32],
    "conv_kernel": [10, 3, 3, 2],
    "conv_stride": [5, 2, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": len(TOKENS),
    "pad_token_id": 0,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
KERNELS = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2, base": ("wav2vec2", {}),
    "wav2vec2, base, of the published kernels": ("wav2vec2", KERNELS),
    "wav2vec2, large": ("wav2vec2", LARGE),
    "wav2vec2, large as it was first": ("wav2vec2", {"conv_bias": True, "intermediate_size": 192}),
    "wav2vec2, an odd kernel of positions": ("wav2vec2", {"num_conv_pos_embeddings": 7, "hidden_act": "relu"}),
    "hubert, base": ("hubert", {}),
    "hubert, large": ("hubert", LARGE),
    "hubert without a norm of its features": ("hubert", {"feat_proj_layer_norm": False}),
}
AUDIO = {"torchaudio wav2vec2, base": False, "torchaudio wav2vec2, large": True}
LENGTHS = (1203, 4000, 2761)
WITHOUT_GRADIENT = (r".*k_proj\.bias", r".*conv_layers\.0\.conv\.bias")
"""A softmax cancels the first, and a norm of channels the second."""


def awaken(reference: nn.Module) -> None:
    """Random numbers, the convolutions' as wide as carries a signal through them: else all tokens are nearly alike, and
    a gradient is what rounding leaves of their differences."""
    randomise(reference)
    for name, parameter in reference.named_parameters():
        if "conv_layers" in name and name.endswith("conv.weight"):
            nn.init.kaiming_normal_(parameter)


def published(
    kind: str, options: Mapping[str, Any], dtype: torch.dtype, *, head: bool = True, folder: Path = Path("nowhere")
) -> tuple[nn.Module, Published]:
    """A model of transformers' with random weights, and what its folder on the Hub would hold."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SMALL | dict(options))
    auto = transformers.AutoModelForCTC if head else transformers.AutoModel
    reference = auto.from_config(config, attn_implementation="sdpa").to(dtype).eval()
    awaken(reference)
    return reference, Published(folder, reference.state_dict(), config.to_dict())


def of_torchaudio(large: bool, dtype: torch.dtype, *, head: bool = True) -> tuple[nn.Module, Published]:
    torch.manual_seed(0)
    reference = torchaudio.models.wav2vec2_model(
        extractor_mode="layer_norm" if large else "group_norm",
        extractor_conv_layer_config=list(
            zip(*(SMALL[f"conv_{each}"] for each in ("dim", "kernel", "stride")), strict=True)
        ),
        extractor_conv_bias=large,
        encoder_embed_dim=SMALL["hidden_size"],
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=SMALL["num_conv_pos_embeddings"],
        encoder_pos_conv_groups=SMALL["num_conv_pos_embedding_groups"],
        encoder_num_layers=SMALL["num_hidden_layers"],
        encoder_num_heads=SMALL["num_attention_heads"],
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=SMALL["intermediate_size"],
        encoder_ff_interm_dropout=0.1,
        encoder_dropout=0.1,
        encoder_layer_norm_first=large,
        encoder_layer_drop=0.1,
        aux_num_out=len(TOKENS) if head else None,
    )
    reference = reference.to(dtype).eval()
    awaken(reference)
    return reference, Published(Path("nowhere"), reference.state_dict(), {})


def spec_of(family: Transformers | Torchaudio, source: Published, **more: Any) -> RunSpec:
    """As the weights decide; what torchaudio's cannot tell, a user's model says."""
    if isinstance(family, Torchaudio):
        more |= {"core.num_heads": SMALL["num_attention_heads"], "embed.conv_strides": SMALL["conv_stride"]}
    settings = {**family.settings(source), **more, "data.name": "nowhere"}
    return resolve("stt", family.task, [Layer("weights", nested(settings))]).spec


def ours(family: Transformers | Torchaudio, source: Published, dtype: torch.dtype) -> tuple[Model, Table, RunSpec]:
    spec = spec_of(family, source)
    model, table = SpeechToText.build(spec).to(dtype).eval(), family.table(spec)
    placed = from_published(model, source.tensors, table)
    assert not placed.new
    model.load_state_dict(placed.tensors)
    assert cost(spec).parameters == sum(each.numel() for each in model.parameters())
    return model, table, spec


def family_of(kind: str) -> Transformers:
    return {"wav2vec2": WAV2VEC2, "hubert": HUBERT}[kind]


def recordings(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(length, generator=generator, dtype=torch.float64).to(dtype) + 0.02 for length in LENGTHS]


def inputs_of(samples: list[Tensor], spec: RunSpec) -> dict[str, Any]:
    """A ragged batch, with something where pads are, which must not be heard."""
    embed, counts = EmbedSpec.model_validate(spec.embed), [len(each) for each in samples]
    padded = torch.full((len(counts), max(counts)), 9.0, dtype=samples[0].dtype)
    for row, own in zip(padded, samples, strict=True):
        row[: len(own)] = own
    lengths = [embed.num_tokens(count) for count in counts]
    layout = Layout.from_lengths(lengths)
    return {"samples": padded, "num_samples": torch.tensor(counts), "layout": layout, "num_tokens": sum(lengths)}


def normalised(samples: Tensor) -> Tensor:
    """As transformers reads a recording."""
    return torch.from_numpy(Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm([samples.numpy()], None)[0])


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]) -> None:
    reference, source = published(*VARIANTS[variant], dtype)
    model, table, spec = ours(family_of(VARIANTS[variant][0]), source, dtype)
    samples = recordings(dtype)
    found = parity(
        model,
        table,
        inputs_of(samples, spec),
        reference,
        lambda: torch.cat([reference(normalised(each)[None]).logits[0] for each in samples]),
        without_gradient=WITHOUT_GRADIENT,
    )
    record(record_property, variant, f"transformers {transformers.__version__}, one recording at a time", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("variant", AUDIO)
def test_equals_torchaudio(variant: str, dtype: torch.dtype, record_property: Callable[[str, object], None]) -> None:
    reference, source = of_torchaudio(AUDIO[variant], dtype)
    model, table, spec = ours(TORCHAUDIO, source, dtype)
    samples = recordings(dtype)
    read = normalised if AUDIO[variant] else lambda each: each
    found = parity(
        model,
        table,
        inputs_of(samples, spec),
        reference,
        lambda: torch.cat([reference(read(each)[None])[0][0] for each in samples]),
        without_gradient=WITHOUT_GRADIENT,
    )
    record(record_property, variant, f"torchaudio {torchaudio.__version__}, one recording at a time", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


# ---------------------------------------------------------------- tensors


@pytest.mark.parametrize("variant", [*VARIANTS, *AUDIO])
def test_goes_back_unchanged(variant: str) -> None:
    if variant in AUDIO:
        family, (_, source) = TORCHAUDIO, of_torchaudio(AUDIO[variant], torch.float32)
    else:
        family, (_, source) = family_of(VARIANTS[variant][0]), published(*VARIANTS[variant], torch.float32)
    model, table, _ = ours(family, source, torch.float32)
    heard = {name: each for name, each in source.tensors.items() if not name.endswith("masked_spec_embed")}
    assert len(heard) == len(source.tensors) - (variant not in AUDIO)
    check_there_and_back(model, table, heard)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_an_encoder_alone_gets_a_new_head(kind: str) -> None:
    _, whole = published(kind, {}, torch.float32)
    _, source = published(kind, {}, torch.float32, head=False)
    assert not any(name.startswith(kind) for name in source.tensors)
    family = family_of(kind)
    assert not family.info(source)
    spec = spec_of(family, source, **{"head.num_symbols": 5})
    placed = from_published(SpeechToText.build(spec), source.tensors, family.table(spec))
    assert set(placed.new) == {"head.classifier.weight", "head.classifier.bias"}
    assert torch.equal(placed.tensors["embed.project.bias"], source.tensors["feature_projection.projection.bias"])
    assert spec.core.model_dump() == spec_of(family, whole, **{"head.symbols": "characters"}).core.model_dump()


def test_what_was_pretrained_brings_tensors_that_a_recogniser_has_no_use_for() -> None:
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**SMALL)
    source = Published(Path(), transformers.Wav2Vec2ForPreTraining(config).state_dict(), config.to_dict())
    spec = spec_of(WAV2VEC2, source)
    placed = from_published(SpeechToText.build(spec), source.tensors, WAV2VEC2.table(spec))
    assert set(placed.new) == {"head.classifier.weight", "head.classifier.bias"}
    strange = {**source.tensors, "wav2vec2.adapter.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"weights without a place: wav2vec2\.adapter\.weight"):
        from_published(SpeechToText.build(spec), strange, WAV2VEC2.table(spec))


@pytest.mark.parametrize("family", [WAV2VEC2, TORCHAUDIO])
def test_weight_norm_as_torch_had_it_before_is_read_too(family: Transformers | Torchaudio) -> None:
    of_peer = published("wav2vec2", {}, torch.float32) if family is WAV2VEC2 else of_torchaudio(False, torch.float32)
    source = of_peer[1]
    new, old = ("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v")
    tensors = dict(source.tensors)
    for one, other in zip(new, old, strict=True):
        tensors = {name.replace(one, other): each for name, each in tensors.items()}
    assert tensors.keys() != source.tensors.keys()
    older = Published(source.place, tensors, source.config)
    assert family.settings(older) == family.settings(source)
    (one, _, _), (other, _, _) = (ours(family, each, torch.float32) for each in (source, older))
    assert all(torch.equal(each, other.state_dict()[name]) for name, each in one.state_dict().items())


def test_what_torchaudio_s_tensors_cannot_tell_is_left_to_the_model() -> None:
    _, source = of_torchaudio(True, torch.float32)
    assert TORCHAUDIO.recognises(source)
    assert not TORCHAUDIO.info(source)
    found = TORCHAUDIO.settings(source)
    assert not {"core.num_heads", "embed.conv_strides", "head.symbols"} & found.keys()
    assert (found["core.norm_position"], found["embed.normalise"], found["embed.position_groups"]) == ("pre", True, 4)
    assert not WAV2VEC2.recognises(source)
    wavlm = torchaudio.models.wavlm_model(
        "group_norm", None, False, 48, 0.1, 16, 4, 1, 3, 32, 128, 0.1, 96, 0.1, 0.1, False, 0.1, None
    )
    assert not TORCHAUDIO.recognises(Published(Path(), wavlm.state_dict(), {}))
    lacking = {name: each for name, each in source.tensors.items() if "pos_conv_embed" not in name}
    with pytest.raises(UserError, match=r"lack 'encoder\.transformer\.pos_conv_embed"):
        TORCHAUDIO.settings(Published(Path(), lacking, {}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"add_adapter": True}, "an adapter after the encoder"),
        ({"adapter_attn_dim": 16}, "adapters of languages"),
        ({"conv_pos_batch_norm": True}, "a batch norm before the convolution of positions"),
        ({"use_weighted_layer_sum": True}, "a head that weighs the layers"),
        ({"feat_extract_activation": "relu"}, "feat_extract_activation is 'relu'"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm is 'batch'"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"hidden_act": ["gelu"]}, "has a wrong value"),
        ({"hidden_size": None}, "has no hidden_size of whole numbers"),
        ({"conv_stride": [5, "2"]}, "has no conv_stride of whole numbers"),
        ({"num_conv_pos_embeddings": True}, "has no num_conv_pos_embeddings of whole numbers"),
    ],
)
def test_what_the_rooms_cannot_be_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HUBERT.settings(Published(Path("here"), {}, SMALL | config))


def test_convolutions_of_different_number_are_refused() -> None:
    with pytest.raises(UserError, match="say 4, 4 and 3 convolutions"):
        spec_of(WAV2VEC2, Published(Path("here"), {}, SMALL | {"conv_stride": [5, 2, 2]}))


# ---------------------------------------------------------------- symbols


def write_folder(folder: Path, tokens: Mapping[str, int], **spelling: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(dict(tokens)), encoding="utf-8")
    if spelling:
        (folder / "tokenizer_config.json").write_text(json.dumps(spelling), encoding="utf-8")
    return folder


NUMBERED = {token: number for number, token in enumerate(TOKENS)}
ELSEWHERE = {"|": 0, "ä": 1, "b": 2, "-": 3, "[UNK]": 4, "[PAD]": 5}
MARKS = {"pad_token": "[PAD]", "unk_token": {"content": "[UNK]"}}


@pytest.mark.parametrize(
    ("numbers", "options", "spelling"),
    [
        (NUMBERED, {}, {}),
        (NUMBERED, {}, {"do_lower_case": True}),
        (ELSEWHERE, {"pad_token_id": 5, "vocab_size": 6}, MARKS),
        (ELSEWHERE, {"pad_token_id": 5, "vocab_size": 8}, MARKS),  # and two rows for tokens that were added
    ],
)
def test_greedy_text_is_transformers(
    numbers: dict[str, int], options: dict[str, Any], spelling: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path, numbers, **spelling)
    reference, source = published("wav2vec2", options, torch.float32, folder=folder)
    model, _, spec = ours(WAV2VEC2, source, torch.float32)
    info = WAV2VEC2.info(source)
    task = SpeechToText(spec, info)
    told = {key: value for key, value in spelling.items() if key != "unk_token"}
    if "unk_token" in spelling:
        told["unk_token"] = "[UNK]"
    peer = Wav2Vec2CTCTokenizer(folder / "vocab.json", **told)
    samples = recordings(torch.float32)
    texts = []
    with torch.no_grad():
        logits = model(inputs_of(samples, spec)).logits.split(
            [EmbedSpec.model_validate(spec.embed).num_tokens(n) for n in LENGTHS]
        )
        for own, sound in zip(logits, samples, strict=True):
            path = reference(normalised(sound)[None]).logits[0].argmax(-1)
            text = peer.decode(path)
            for mark in ("<s>", "</s>", "<unk>", "[UNK]"):  # which write nothing here
                text = text.replace(mark.lower() if spelling.get("do_lower_case") else mark, "")
            found = task.search(own.numpy())
            texts.append(write(task.symbols, found.symbols))
            assert texts[-1] == " ".join(text.split())
    assert len("".join(texts)) > 20, "too little is said for a comparison"
    targets = {"symbols": torch.tensor([1, 2]), "counts": torch.tensor([2])}
    output = model(inputs_of(samples[:1], spec))
    total, _ = task.loss(output, Batch({}, targets, ("one",)))
    wanted = reference(normalised(samples[0])[None], labels=targets["symbols"][None]).loss
    torch.testing.assert_close(total, wanted)
