"""The bridge to transformers: its models give what they give there, to rounding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from published_transformers import (
    KINDS,
    WORDS,
    publish_image,
    publish_speech,
    publish_text,
)
from torch import nn

from zoo.core import Layout, Model
from zoo.registry.resolution import Layer, nested, resolve
from zoo.specs import RunSpec, network_of
from zoo.testing.of_weights import BOUNDS, check_there_and_back, parity, record
from zoo.weights import Published, from_published
from zoo_transformers import image, index, speech, text
from zoo_transformers.spec import IMAGE, SPEECH, TEXT, reach, stride
from zoo_transformers.weights import PICTURES, RECORDINGS, TEXTS

# ---------------------------------------------------------------- the same model


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_models_equal_transformers(
    kind: str, dtype: torch.dtype, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    reference = publish_text(tmp_path, kind, num_labels=3).to(dtype)
    reference.config.use_cache = False
    spec = spec_of(TEXT, tmp_path, {"embed.vocab_size": len(WORDS) + 4, "head.num_classes": 3})
    model, table, source = begun(text.build(spec), TEXTS, spec, tmp_path, reference, dtype)
    parts = [torch.randint(4, 30, (length,)) for length in (3, 7, 5)]
    inputs = {"tokens": torch.cat(parts), "layout": Layout.from_lengths([3, 7, 5])}
    found = parity(
        model,
        table,
        inputs,
        reference,
        lambda: torch.cat([reference(input_ids=part[None]).logits for part in parts]),
        without_gradient=[r".*(key|k_lin|k_proj|key_proj)\.bias"],
    )
    record(record_property, f"bridge: {kind}", f"transformers {transformers.__version__}", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst
    check_there_and_back(model, table, {name: source.tensors[name] for name in source.tensors})


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
def test_picture_models_equal_transformers(
    dtype: torch.dtype, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    reference = publish_image(tmp_path, num_labels=3).to(dtype)
    spec = spec_of(IMAGE, tmp_path, {"head.num_classes": 3})
    model, table, _ = begun(image.build(spec), PICTURES, spec, tmp_path, reference, dtype)
    images = torch.randn(2, 3, 16, 16, dtype=dtype)
    found = parity(
        model, table, {"image": images}, reference, lambda: reference(pixel_values=images).logits,
        without_gradient=[r".*(key|k_proj)\.bias"],
    )  # fmt: skip
    record(record_property, "bridge: vit", f"transformers {transformers.__version__}", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


@pytest.mark.parity
@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_recognisers_equal_transformers(
    norm: str, dtype: torch.dtype, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A batch of recordings of other lengths, each as transformers hears it alone, followed by its silence."""
    reference = publish_speech(tmp_path, feat_extract_norm=norm, conv_bias=norm == "layer").to(dtype)
    trunk = reference.wav2vec2
    mask = trunk.masked_spec_embed.detach()
    del trunk.masked_spec_embed  # no parameter: nothing is masked
    trunk.register_buffer("masked_spec_embed", mask)
    spec = spec_of(SPEECH, tmp_path, {"head.num_symbols": reference.config.vocab_size})
    model, table, _ = begun(speech.build(spec), RECORDINGS, spec, tmp_path, reference, dtype)
    step, span = stride(network_of(spec).options), reach(network_of(spec).options)
    assert (step, span) == (320, 400)
    recordings = [torch.randn(count, dtype=dtype) for count in (2500, 4000)]
    lengths = [-(-len(each) // step) for each in recordings]
    inputs = {
        "samples": nn.utils.rnn.pad_sequence(recordings, batch_first=True),
        "num_samples": torch.tensor([len(each) for each in recordings]),
        "layout": Layout.from_lengths(lengths),
        "num_tokens": sum(lengths),
    }
    heard = transformers.Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm([each.numpy() for each in recordings], None)
    alone = [torch.from_numpy(each) for each in heard]
    whole = [
        nn.functional.pad(each, (0, step * (n - 1) + span - len(each))) for each, n in zip(alone, lengths, strict=True)
    ]
    order = [1, 0, *range(2, reference.config.vocab_size)]  # the blank first

    def expected() -> torch.Tensor:
        return torch.cat([reference(input_values=each[None]).logits[0] for each in whole])[:, order]

    assert torch.allclose(model(inputs).logits, expected(), rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-5)
    with torch.no_grad():
        reference.lm_head.weight.copy_(reference.lm_head.weight[order])  # as ours is written back
        reference.lm_head.bias.copy_(reference.lm_head.bias[order])
    found = parity(
        model, table, inputs, reference,
        lambda: torch.cat([reference(input_values=each[None]).logits[0] for each in whole]),
        without_gradient=[r".*k_proj\.bias"],
    )  # fmt: skip
    record(record_property, f"bridge: wav2vec2, {norm} norm", f"transformers {transformers.__version__}", dtype, found)
    assert found.output_difference <= BOUNDS[dtype]
    assert found.gradient_difference is not None
    assert found.gradient_difference <= BOUNDS[dtype], found.worst


def spec_of(task: str, folder: Path, settings: dict[str, Any]) -> RunSpec:
    model = index.model(str(folder)).model_dump(mode="json", exclude_unset=True)
    rooms = {room: model[room] for room in ("core", "embed") if room in model}
    layers = [Layer("registry", rooms), Layer("weights", nested({**settings, "data.name": "nowhere"}))]
    return resolve("hf", task, layers).spec


def begun(model: Model, family: Any, spec: RunSpec, folder: Path, reference: Any, dtype: torch.dtype) -> Any:
    config = json.loads((folder / "config.json").read_text())
    tied = {name: each.clone() for name, each in reference.state_dict().items()}
    source, table = Published(folder, tied, config), family.table(spec)
    assert family.recognises(source)
    model = model.to(dtype).eval()
    placed = from_published(model, source.tensors, table)
    assert not placed.new
    assert not placed.left_out
    model.load_state_dict(placed.tensors)
    return model, table, source
