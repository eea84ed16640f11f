"""CLIP and SigLIP as they are published: both encoders loaded, each for its own task, say together what theirs say."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

import zoo
from zoo import plugins, registry
from zoo.contract import Item
from zoo.errors import UserError
from zoo.testing.of_weights import BOUNDS, randomise
from zoo.training import train
from zoo.weights.start import open_start

SIZE = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384}
"""Of text-micro and of vit-micro."""
WORDS = ["<end>", "<pad>", "<start>", "a", "green", "red", "cat", "newt", "drill", "hammer", "of", "two"]
TEXTS = ("a cat", "two green newt", "a red hammer of a cat", "drill")
VISION = {**SIZE, "image_size": 28, "patch_size": 7}


def write_tokenizer(folder: Path, *, starts: bool, pad: str) -> None:
    """Of a few words, which ends each text, and may begin it."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<end>", "<pad>", "<start>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>" if starts else "$A <end>", special_tokens=[("<start>", 2), ("<end>", 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": pad}}))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of CLIP, with what reads pictures and texts."""
    torch.manual_seed(0)
    text = {**SIZE, "vocab_size": len(WORDS), "max_position_embeddings": 12}
    config = transformers.CLIPConfig(
        text_config=text | {"eos_token_id": 0, "bos_token_id": 2, "pad_token_id": 1},
        vision_config=VISION,
        projection_dim=40,
    )
    model, folder = transformers.CLIPModel(config), tmp_path / "clip"
    randomise(model)
    nn.init.constant_(model.logit_scale, 2.66)
    model.save_pretrained(folder)
    size = {"height": 28, "width": 28}
    transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=size).save_pretrained(folder)
    write_tokenizer(folder, starts=True, pad="<end>")
    return folder


@pytest.fixture
def siglip(tmp_path: Path) -> Path:
    """A folder of SigLIP. Its configuration has another token to fill texts up with than its tokenizer, as SigLIP 2."""
    torch.manual_seed(0)
    text = {**SIZE, "vocab_size": len(WORDS), "max_position_embeddings": 12, "pad_token_id": 3}
    config = transformers.SiglipConfig(
        text_config=text | {"eos_token_id": 0, "bos_token_id": 2}, vision_config=VISION | {"image_size": 30}
    )
    model, folder = transformers.SiglipModel(config), tmp_path / "siglip"
    randomise(model)
    nn.init.constant_(model.logit_scale, 2.66)
    model.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 30, "width": 30}).save_pretrained(folder)
    write_tokenizer(folder, starts=False, pad="<pad>")
    return folder


@pytest.fixture
def drawings(tmp_path: Path) -> Sequence[Path]:
    """Four pictures of 30 × 30 pixels."""
    rng, paths = np.random.default_rng(0), [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(path)
    return paths


def embeddings(name: str, folder: Path, values: Sequence[Any]) -> Tensor:
    """Of pictures or texts, by a model without its classifier, all in one batch."""
    task = registry.open_registry().own(name).spec.task
    start = open_start(folder, task)
    spec = start.decide(registry.open_registry().own(name)).spec
    reader = plugins.task_class(task)(spec, {"classes": ["a", "b"], "multi_label": False, **start.info})
    ids = [str(i) for i in range(len(values))]
    samples = [reader.transform(Item(key, value), None) for key, value in zip(ids, values, strict=True)]
    model = zoo.load(name, weights=folder)
    vars(model.head)["_modules"]["classifier"] = nn.Identity()
    with torch.no_grad():
        return F.normalize(model(reader.collate(samples, ids).inputs).logits)


def read_by_peer(folder: Path, drawings: Sequence[Path], *, to_longest: bool) -> dict[str, Tensor]:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>")
    if to_longest:
        texts = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    else:
        texts = tokenizer(list(TEXTS), padding="max_length", max_length=12, return_tensors="pt")
        texts.pop("attention_mask")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pictures = processor(images=[Image.open(path) for path in drawings], return_tensors="pt")
    return {"pixel_values": pictures["pixel_values"], **{key: texts[key] for key in texts if key != "token_type_ids"}}


def compare(found: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 0.1  # pictures and texts are told apart
    assert float((found - wanted).abs().max() / wanted.abs().max()) <= BOUNDS[torch.float32]


def test_both_encoders_of_clip_give_its_similarities(clip: Path, drawings: Sequence[Path]) -> None:
    for path in drawings:  # of the size that is read: two libraries resize by other rounding
        Image.open(path).crop((0, 0, 28, 28)).save(path)
    reference = transformers.CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        wanted = reference(**read_by_peer(clip, drawings, to_longest=True)).logits_per_image
    images, texts = embeddings("vit-micro", clip, drawings), embeddings("text-micro", clip, TEXTS)
    assert images.shape == texts.shape == (4, 40)
    compare(reference.logit_scale.detach().exp() * images @ texts.T, wanted)
    alone = torch.cat([embeddings("text-micro", clip, [text]) for text in TEXTS])
    torch.testing.assert_close(texts, alone)


def test_both_encoders_of_siglip_give_its_similarities(siglip: Path, drawings: Sequence[Path]) -> None:
    reference = transformers.SiglipModel.from_pretrained(siglip).eval()
    with torch.no_grad():
        wanted = reference(**read_by_peer(siglip, drawings, to_longest=False)).logits_per_image
    images, texts = embeddings("vit-micro", siglip, drawings), embeddings("text-micro", siglip, TEXTS)
    scale, bias = reference.logit_scale.detach().exp(), reference.logit_bias.detach()
    compare(scale * images @ texts.T + bias, wanted)
    alone = torch.cat([embeddings("text-micro", siglip, [text]) for text in TEXTS])
    torch.testing.assert_close(texts, alone)


def begun(name: str, data: Path, weights: Path, out: Path, task: str | None = None, **settings: Any) -> zoo.Run:
    said = {"train.steps": 1, "train.lr": 1e-300, "train.precision": "fp32", **settings}
    return train(name, task=task, data=str(data), weights=weights, settings=said, out=out, show_progress=False)


def test_a_picture_model_is_trained_on_from_clip_by_its_own_preprocessing(
    clip: Path, pictures: Path, tmp_path: Path
) -> None:
    run = begun("vit-micro", pictures, clip, tmp_path / "run")
    info = run.checkpoint().metadata()["info"]
    assert info["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert (run.spec.embed["image_size"], run.spec.head["pooler_dim"], run.spec.core.activation) == (
        28,
        40,
        "quick_gelu",
    )
    report = run.report()
    assert report is not None
    assert f"weights: {clip} (clip-vision); new: head.classifier" in report.notes


def test_masked_patches_begin_with_the_encoder_of_pictures(clip: Path, pictures: Path, tmp_path: Path) -> None:
    run = begun("vit-micro", pictures, clip, tmp_path / "run", task="masked-image", **{"train.weight_decay": 0.0})
    wanted = transformers.CLIPModel.from_pretrained(clip).vision_model.embeddings.patch_embedding.weight
    assert torch.equal(run.load_model().embed.stem.weight, wanted)


def test_a_text_model_is_trained_on_from_siglip_and_reads_each_text_filled_up(siglip: Path, tmp_path: Path) -> None:
    rows = [f"a {one} of {n},{one}" for one in ("cat", "newt") for n in WORDS[3:] for _ in range(3)]
    (tmp_path / "things.csv").write_text("\n".join(["text,label", *(f"{row}" for row in dict.fromkeys(rows))]))
    run = begun("text-micro", tmp_path / "things.csv", siglip, tmp_path / "run", **{"train.lr": 1e-2})
    assert (run.spec.embed["pad_token"], run.spec.embed["max_tokens"], run.spec.head["pool"]) == (1, 12, "last")
    together = [answer.values for answer in zoo.predict(run, ["a cat", "two green newt of a red drill"])]
    (alone,) = [answer.values for answer in zoo.predict(run, ["a cat"])]
    scores = [key for key, value in alone.items() if isinstance(value, float)]
    assert scores
    assert [together[0][key] for key in scores] == pytest.approx([alone[key] for key in scores])
    assert [together[0][key] for key in scores] != pytest.approx([together[1][key] for key in scores])


# ---------------------------------------------------------------- what is refused


def test_a_tower_of_another_task_or_size_is_told(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not of the size of 'text-tiny': in them core.dim is 96, not 192, core.depth"):
        zoo.load("text-tiny", weights=clip)
    with pytest.raises(UserError, match=r"not of the size of 'vit-small': in them core.dim is 96, not 384, core.depth"):
        zoo.load("vit-small", weights=clip)
    both = r"\(.*clip-(text|vision).*\) are for (image|text)-classification or (image|text)-classification, not for sp"
    with pytest.raises(UserError, match=both):
        zoo.load("stt-micro", weights=clip)
    transformers.CLIPModel.from_pretrained(clip).text_model.save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match=r"\(clip-text\) are for text-classification, not for image-classification"):
        zoo.load("vit-micro", weights=tmp_path / "text")
    transformers.CLIPModel.from_pretrained(clip).vision_model.save_pretrained(tmp_path / "vision")
    with pytest.raises(UserError, match=r"\(clip-vision\) are for image-classification, not for text-classification"):
        zoo.load("text-micro", weights=tmp_path / "vision")


def test_a_tower_without_its_tokenizer_is_refused(siglip: Path) -> None:
    (siglip / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer.json: the tokens of another mean nothing"):
        _ = open_start(siglip, "text-classification").info
