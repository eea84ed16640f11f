"""Masked patches: what is hidden and stays hidden, what is to be told, and that a classifier goes on from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.contract import Item
from zoo.core import Model
from zoo.data.seeding import item_rng
from zoo.errors import UserError
from zoo.registry import open_registry, settle
from zoo.specs import RunSpec
from zoo.training import train
from zoo_vit.masked import MaskedPatches

INFO = {"mean": [0.5], "std": [0.25]}


def spec_of(**settings: Any) -> RunSpec:
    asked = {key.replace("__", "."): value for key, value in settings.items()}
    return open_registry().resolve("vit-micro", task="masked-image", data="digits", settings=asked).spec


def picture(seed: int = 0) -> Item:
    pixels = np.random.default_rng(seed).integers(0, 256, (1, 8, 8), dtype=np.uint8)
    return Item(f"picture-{seed}", pixels)


def awake(spec: RunSpec) -> Model:
    torch.manual_seed(0)
    model = MaskedPatches.build(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def test_a_share_of_the_patches_is_hidden() -> None:
    task = MaskedPatches(spec_of(), INFO)
    drawn = [task.transform(picture(), item_rng(0, epoch, "one"))["masked"] for epoch in range(5)]
    assert [len(set(each.tolist())) for each in drawn] == [12] * 5  # of 16
    assert len({tuple(each) for each in drawn}) == 5
    assert np.array_equal(task.transform(picture(), None)["masked"], task.transform(picture(), None)["masked"])
    few = MaskedPatches(spec_of(embed__patch_size=4, augment__share=0.95), INFO)
    assert len(few.transform(picture(), None)["masked"]) == 3  # one of 4 is seen


def test_targets_are_the_hidden_patches_in_their_places_each_normalised() -> None:
    task = MaskedPatches(spec_of(), INFO)
    batch = task.collate([task.transform(picture(i), None) for i in range(2)], ["a", "b"])
    for row in range(2):
        image = batch.inputs["image"][row, 0]
        for place, target in zip(batch.inputs["masked"][row].tolist(), batch.targets[row], strict=True):
            top, left = place // 4 * 2, place % 4 * 2
            patch = image[top : top + 2, left : left + 2].flatten()
            torch.testing.assert_close(target, (patch - patch.mean()) / patch.std(correction=0), rtol=0, atol=1e-4)
    blank = Item("blank", np.zeros((1, 8, 8), np.uint8))
    assert not task.collate([task.transform(blank, None)], ["blank"]).targets.any()


def test_what_is_hidden_never_reaches_the_model() -> None:
    spec = spec_of()
    task, model = MaskedPatches(spec, INFO), awake(spec)
    batch = task.collate([task.transform(picture(), None)], ["a"])
    before = model(batch.inputs).logits
    image = batch.inputs["image"].clone()
    place = int(batch.inputs["masked"][0, 3])
    image[..., place // 4 * 2 : place // 4 * 2 + 2, place % 4 * 2 : place % 4 * 2 + 2] += 5
    assert torch.equal(model({**batch.inputs, "image": image}).logits, before)
    place = int(batch.inputs["visible"][0, 0])
    image[..., place // 4 * 2 : place // 4 * 2 + 2, place % 4 * 2 : place % 4 * 2 + 2] += 5
    assert not torch.equal(model({**batch.inputs, "image": image}).logits, before)


def test_the_core_reads_seen_patches_only_and_knows_their_places() -> None:
    spec = spec_of()
    task, model = MaskedPatches(spec, INFO), awake(spec)
    batch = task.collate([task.transform(picture(), None)], ["a"])
    seen = model.embed(**batch.inputs).x
    whole = model.embed(batch.inputs["image"]).x
    assert seen.shape[1] == 1 + 4
    assert torch.equal(seen[0, 1:], whole[0, 1:][batch.inputs["visible"][0]])
    # Hidden patches differ by their places alone.
    drawn = model(batch.inputs).logits[0]
    assert len({tuple(each.tolist()) for each in drawn}) == 12


def test_pretrain_then_fine_tune_is_two_commands(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(12):
            pixels = draws.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    small = {"embed.image_size": 16, "embed.patch_size": 4, "train.steps": 3, "train.batch_size": 8}
    place = str(tmp_path / "pictures")
    first = train(
        "vit-micro", task="masked-image", data=place, settings=small, out=tmp_path / "first", show_progress=False
    )
    report = first.report()
    assert report is not None
    assert report.metrics["reconstruction_error"].value > 0
    still = {"train.lr": 1e-300, "train.weight_decay": 0.0, "train.steps": 1, "train.batch_size": 8}
    for pool in ("cls", "mean"):
        tuned = train(
            "vit-micro",
            data=place,
            weights=first.folder,
            settings={**still, "head.pool": pool},
            out=tmp_path / pool,
            show_progress=False,
        )
        before, after = first.load_model().state_dict(), tuned.load_model().state_dict()
        assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("head."))
        assert tuned.spec.embed["num_class_tokens"] == 1


def test_folders_without_classes_will_do(tmp_path: Path) -> None:
    for i in range(8):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    spec = open_registry().resolve("vit-micro", task="masked-image", data=str(tmp_path)).spec
    splits = MaskedPatches.datasets(spec)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 8
    assert settle(open_registry().resolve("vit-micro", task="masked-image", data=str(tmp_path)), splits.settings)
    (tmp_path / "none").mkdir()
    for place, message in ((tmp_path / "none", "holds no file of a known kind"), (tmp_path / "0.png", "is no folder")):
        with pytest.raises(UserError, match=message):
            train("vit-micro", task="masked-image", data=str(place), out=tmp_path / "run")


def test_a_folder_s_own_splits_are_kept(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        Image.new("L", (8, 8), len(split)).save(tmp_path / split / f"{split}.png")
    spec = open_registry().resolve("vit-micro", task="masked-image", data=str(tmp_path)).spec
    splits = MaskedPatches.datasets(spec)
    assert [part.ids for part in (splits.train, splits.validation, splits.test)] == [
        [f"{split}/{split}.png"] for split in ("train", "val", "test")
    ]


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="'wordnet-definitions' holds no pictures\nname a dataset or a folder that does"
    ):
        train("vit-micro", task="masked-image", data="wordnet-definitions", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed.stem": "conv"}, "sees beyond a patch"),
        ({"embed.patch_size": 8}, "a picture of a single patch"),
        ({"augment.mixup": 0.2}, "mix classes, of which there are none"),
        ({"core.causal": True}, "are not for masked patches"),
        ({"head.num_heads": 5}, "dim 96 does not divide by num_heads 5"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MaskedPatches.datasets(
            open_registry().resolve("vit-micro", task="masked-image", data="digits", settings=settings).spec
        )
