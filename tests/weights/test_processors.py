"""How pictures and recordings are read is one publication's to say: to the rooms of ours, and to a bridge's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from published_transformers import SMALL, publish_image, publish_speech, trained
from timm.data.config import resolve_data_config

from zoo.errors import UserError
from zoo.weights import Published
from zoo.weights.processors import heard_of, normalisation_of, read_processor, seen_by_timm, seen_of, timm_card
from zoo_speech.wav2vec2.weights import WAV2VEC2
from zoo_transformers import index
from zoo_transformers.weights import PICTURES, RECORDINGS
from zoo_vit.encoders import VIT
from zoo_vit.pictures import fit_size

VIEW = tuple(f"embed.{key}" for key in ("image_size", "crop_fraction", "crop_mode", "interpolation"))


def test_it_needs_no_torch() -> None:
    program = "import sys, zoo.weights.processors; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "processor",
    [
        transformers.DeiTImageProcessor(),  # squashed to 256, and the middle 224 of it
        transformers.ViTImageProcessor(size={"height": 40, "width": 40}, resample=0),
        transformers.CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 24, "width": 24}),
        transformers.ViTImageProcessor(size={"height": 16, "width": 16}, rescale_factor=1 / 127.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_bridge_reads_pictures_as_our_rooms_do(processor: Any, tmp_path: Path) -> None:
    publish_image(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))
    source = Published(tmp_path, {}, json.loads((tmp_path / "config.json").read_text()))
    ours, bridged = VIT.settings(source), PICTURES.settings(source)
    assert {key: bridged[key] for key in VIEW} == {key: ours[key] for key in VIEW}
    assert PICTURES.info(source)["mean"] == VIT.info(source)["mean"]
    assert PICTURES.info(source)["std"] == VIT.info(source)["std"]
    assert index.model(str(tmp_path)).embed["image_size"] == ours["embed.image_size"]


@pytest.mark.parametrize(
    "processor",
    [
        transformers.ConvNextImageProcessor(size={"shortest_edge": 224}),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
        transformers.LevitImageProcessor(),
        transformers.PoolFormerImageProcessor(),
        transformers.BeitImageProcessor(),
    ],
    ids=lambda value: f"{type(value).__name__} {value.size}",
)
@pytest.mark.parametrize("shape", [(267, 302), (300, 212), (427, 640)])
def test_pictures_are_seen_as_other_processors_make_them(
    processor: Any, shape: tuple[int, int], tmp_path: Path
) -> None:
    processor.save_pretrained(tmp_path)
    seen = seen_of(read_processor(tmp_path, "image_processor"), tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    wanted = processor(images=Image.fromarray(pixels), do_normalize=False, do_rescale=False, return_tensors="np")
    how = {key.removeprefix("embed."): seen[key] for key in VIEW[1:]}
    found = fit_size(np.ascontiguousarray(pixels.transpose(2, 0, 1)), seen["embed.image_size"], **how)
    np.testing.assert_array_equal(found, wanted["pixel_values"][0])


def test_resampling_that_ours_is_not_is_refused_by_a_bridge_too(tmp_path: Path) -> None:
    publish_image(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 16, "resample": 1}))
    with pytest.raises(UserError, match="by Pillow's resampling 1, which ours cannot be"):
        index.model(str(tmp_path))


@pytest.mark.parametrize(
    ("said", "is_flipped"),
    [
        (transformers.MobileViTImageProcessor().to_dict(), True),
        ({"image_processor_type": "MobileViTImageProcessor"}, True),  # as its kind does where nothing is said
        (transformers.MobileViTImageProcessor(do_flip_channel_order=False).to_dict(), False),
        ({"do_flip_channels": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, True),
        (transformers.ViTImageProcessor().to_dict(), False),
    ],
)
def test_blue_before_red_is_refused(said: dict[str, Any], is_flipped: bool, tmp_path: Path) -> None:
    publish_image(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    source = Published(tmp_path, {}, json.loads((tmp_path / "config.json").read_text()))
    if not is_flipped:
        assert PICTURES.info(source) == VIT.info(source)
        return
    for read in (PICTURES.info, VIT.info, lambda _: normalisation_of(said, tmp_path, 3)):
        with pytest.raises(UserError, match="gives blue before red, which is not done here\nbegin with random numbers"):
            read(source)


def test_a_network_that_fits_its_positions_to_pictures_sees_those_of_its_processor(
    tmp_path: Path, pictures: Path
) -> None:
    config = transformers.Dinov2Config(image_size=28, patch_size=7, **SMALL)
    transformers.Dinov2ForImageClassification(config).save_pretrained(tmp_path / "model")
    cropped = transformers.BitImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 14, "width": 14})
    cropped.save_pretrained(tmp_path / "model")
    run = trained(f"hf/{tmp_path / 'model'}", str(pictures), tmp_path / "run", weights="pretrained")
    assert (run.spec.embed["image_size"], run.spec.embed["crop_fraction"]) == (14, 14 / 16)
    table = run.load_model().state_dict()["core.network.embeddings.position_embeddings"]
    assert table.shape[1] == 1 + (28 // 7) ** 2


@pytest.mark.parametrize(
    "said",
    [{}, {"crop_pct": 0.95}, {"crop_mode": "squash"}, {"interpolation": "bilinear"}, {"crop_pct": None}],
    ids=str,
)
def test_what_timm_leaves_out_is_as_it_takes_it(said: dict[str, Any]) -> None:
    card = {"mean": [0.5] * 3, "std": [0.5] * 3, **said}
    found = resolve_data_config(pretrained_cfg=card)
    for config in (card, {"architecture": "vit_small_patch16_224", "pretrained_cfg": card}):
        seen = seen_by_timm(timm_card(config), Path())
        assert [seen[key] for key in VIEW[1:]] == [found[key] for key in ("crop_pct", "crop_mode", "interpolation")]
    assert seen_by_timm(timm_card({"architecture": "vit"}), Path()) == {}


def test_what_a_whole_processor_writes_is_read(tmp_path: Path) -> None:
    publish_speech(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    hearing = transformers.Wav2Vec2FeatureExtractor(do_normalize=False, sampling_rate=8000)
    letters = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), pad_token="<pad>")
    transformers.Wav2Vec2Processor(hearing, letters).save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    source = Published(tmp_path, {}, json.loads((tmp_path / "config.json").read_text()))
    for found in (WAV2VEC2.settings(source), RECORDINGS.settings(source)):
        assert (found["embed.sample_rate_hz"], found["embed.normalise"]) == (8000, False)
    assert index.model(str(tmp_path)).embed == {"sample_rate_hz": 8000, "normalise": False}
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')  # as transformers chooses
    assert read_processor(tmp_path, "feature_extractor")["sampling_rate"] == 8000


@pytest.mark.parametrize(
    ("said", "message"),
    [({"sampling_rate": "fast"}, "which is no rate of samples"), ({"feature_size": 80}, "asks for features")],
)
def test_recordings_that_ours_cannot_be_are_told(said: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        heard_of(said, tmp_path)
