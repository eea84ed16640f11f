"""The image classification task: augmentation by (seed, epoch, item), losses, records, pictures of attention."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as V

from zoo.contract import Checkable, Drawable, Item
from zoo.core import Output
from zoo.core.pack import DENSE
from zoo.data.seeding import item_rng
from zoo.errors import UserError
from zoo.specs import CoreSpec, DataSpec, RunSpec, TrainSpec
from zoo_vit.augment import warp
from zoo_vit.spec import AugmentSpec, cost
from zoo_vit.task import ImageClassification

CLASSES = ["ant", "bee", "cat", "dog"]
EVERYTHING: dict[str, Any] = {
    "crop_scale": [0.5, 1.0],
    "crop_padding": 2,
    "flip": 0.5,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "color_jitter": 0.3,
    "erase": 0.5,
    "rotate": 10.0,
    "translate": 0.1,
    "scale": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
}


def run_spec(augment: dict[str, Any] | None = None, channels: int = 3, **train: Any) -> RunSpec:
    return RunSpec(
        model="m",
        task="image-classification",
        core=CoreSpec(dim=24, depth=1, num_heads=2),
        embed={"image_size": 16, "patch_size": 8, "channels": channels},
        head={"num_classes": 4},
        augment=augment or {},
        data=DataSpec(name="digits"),
        train=TrainSpec(**train),
    )


def task(augment: dict[str, Any] | None = None, channels: int = 3, **train: Any) -> ImageClassification:
    info = {"classes": CLASSES, "mean": [0.4] * channels, "std": [0.2] * channels}
    return ImageClassification(run_spec(augment, channels, **train), info)


def items(count: int, channels: int = 3, side: int = 16) -> list[Item]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    return [Item(f"item-{i}", pixels[i], i % 4) for i in range(count)]


def batch(made: ImageClassification, some: list[Item], epoch: int | None = None) -> Any:
    samples = [made.transform(item, None if epoch is None else item_rng(7, epoch, item.id)) for item in some]
    return made.collate(samples, [item.id for item in some])


# ---------------------------------------------------------------- augmentation


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 40])
def test_augmentation_is_a_function_of_seed_epoch_and_item(channels: int, side: int) -> None:
    made, some = task(EVERYTHING, channels), items(6, channels, side)
    first = batch(made, some, epoch=3)
    torch.manual_seed(99)
    np.random.seed(99)
    again, other = batch(made, some, epoch=3), batch(made, some, epoch=4)
    assert torch.equal(first.inputs["image"], again.inputs["image"])
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs["image"], other.inputs["image"])


def test_an_items_pixels_do_not_depend_on_its_neighbours() -> None:
    made, some = task({**EVERYTHING, "mixup": 0.0, "cutmix": 0.0}), items(6)
    together = batch(made, some, epoch=1).inputs["image"]
    apart = torch.cat([batch(made, [item], epoch=1).inputs["image"] for item in some])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_each_change_changes_something_and_leaves_evaluation_alone(name: str) -> None:
    made, some = task({name: EVERYTHING[name]}), items(8)
    plain = batch(task(), some).inputs["image"]
    assert torch.equal(batch(made, some).inputs["image"], plain)
    assert not torch.equal(batch(made, some, epoch=1).inputs["image"], plain)


def test_a_shift_is_a_crop_of_the_padded_picture() -> None:
    made, some = task({"crop_padding": 3}), items(12)
    for item in some:
        rng = item_rng(7, 1, item.id)
        moved = torch.from_numpy(made.transform(item, rng)["image"])
        down, right = item_rng(7, 1, item.id).integers(-3, 4, 2).tolist()
        padded = F.pad(torch.from_numpy(item.inputs), (3, 3, 3, 3))
        assert torch.equal(moved, V.crop(padded, 3 - down, 3 - right, 16, 16))


def test_warp_turns_clockwise_by_the_angle_that_is_drawn() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 0, 2] = 1.0
    quarter = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])
    expected = torch.zeros(1, 1, 5, 5)
    expected[0, 0, 2, 4] = 1.0
    torch.testing.assert_close(warp(image, quarter), expected)


def test_mixed_targets_are_the_shares_of_the_pixels() -> None:
    made = task({"cutmix": 1.0})
    solid = [Item(f"item-{i}", np.full((3, 16, 16), 60 * i, np.uint8), i) for i in range(4)]
    mixed = batch(made, solid, epoch=1)
    values = ((torch.arange(4) * 60 / 255 - 0.4) / 0.2).view(4, 1, 1, 1)
    shares = (mixed.inputs["image"][:, :1, None] - values[None, :, 0]).abs().lt(1e-4).float().mean((1, 3, 4))
    torch.testing.assert_close(shares, mixed.targets)
    assert mixed.targets.max() < 1


def test_mixing_happens_in_the_asked_share_of_batches() -> None:
    made = task({"mixup": 1.0, "mix_probability": 0.25})
    mixed = sum(batch(made, items(2), epoch=epoch).targets.ndim == 2 for epoch in range(200))
    assert 30 < mixed < 70


@pytest.mark.parametrize(
    "wrong", [{"crop_scale": [0.9, 0.2]}, {"flip": 1.5}, {"randaugment": "rand-x9"}, {"flop": 0.5}]
)
def test_augmentation_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentSpec(**wrong)


def test_the_strongest_randaugment_is_still_a_picture() -> None:
    made, some = task({"randaugment": "rand-m10-n6-p1-inc1"}), items(20)
    assert batch(made, some, epoch=0).inputs["image"].isfinite().all()


# ---------------------------------------------------------------- batches, losses, records


def test_a_batch_is_normalised_and_unknown_targets_stay_unknown() -> None:
    made, some = task(), items(3)
    got = batch(made, some)
    expected = (torch.from_numpy(np.stack([item.inputs for item in some])) / 255 - 0.4) / 0.2
    torch.testing.assert_close(got.inputs["image"], expected)
    assert got.targets.tolist() == [0, 1, 2]
    nameless = batch(made, [Item("x", some[0].inputs)])
    assert nameless.targets is None
    assert made.decode(Output(torch.zeros(1, 4), DENSE), nameless)[0].target is None


def test_the_loss_is_a_sum_and_a_count() -> None:
    made, some = task(label_smoothing=0.1), items(5)
    logits = torch.randn(5, 4)
    total, count = made.loss(Output(logits, DENSE), batch(made, some))
    targets = torch.tensor([item.target for item in some])
    torch.testing.assert_close(total / count, F.cross_entropy(logits, targets, label_smoothing=0.1))
    assert count == 5


def test_soft_targets_equal_hard_ones_where_they_are_certain() -> None:
    made, some = task(label_smoothing=0.1), items(5)
    hard, logits = batch(made, some), torch.randn(5, 4)
    soft = type(hard)(hard.inputs, F.one_hot(hard.targets, 4).float(), hard.ids)
    torch.testing.assert_close(made.loss(Output(logits, DENSE), soft)[0], made.loss(Output(logits, DENSE), hard)[0])
    assert [record.target for record in made.decode(Output(logits, DENSE), soft)] == hard.targets.tolist()


def test_predictions_are_described_best_first() -> None:
    made = task()
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    (record,) = made.decode(Output(logits, DENSE), batch(made, items(1)))
    said = made.describe(record, 2)
    assert list(said) == ["label", "probability", "label_2", "probability_2"]
    assert (said["label"], said["label_2"]) == ("bee", "dog")
    assert said["probability"] == pytest.approx(logits.softmax(-1)[0, 1].item())
    assert len(made.describe(record, 99)) == 2 * len(CLASSES)


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    made = task()
    data, model = batch(made, items(8)), made.build(run_spec())
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        total, count = made.loss(model(data.inputs), data)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    assert total / count < 0.05


def test_draws_heat_where_the_relevance_is() -> None:
    made = task()
    assert isinstance(made, Drawable)
    assert isinstance(ImageClassification, Checkable)
    figure, axes = plt.subplots()
    made.draw(axes, items(1)[0], np.array([0.0, 0.0, 1.0, 0.0]))
    heat = axes.images[-1]
    assert (np.asarray(heat.get_array())[..., 3] > 0).tolist() == [[False, False], [True, False]]
    assert tuple(heat.get_extent()) == (0, 16, 16, 0)
    plt.close(figure)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_draws_pictures_of_any_channels(channels: int) -> None:
    made = task(channels=channels)
    figure, axes = plt.subplots()
    made.draw(axes, items(1, channels)[0], np.ones(4))
    assert np.asarray(axes.images[0].get_array()).shape == ((16, 16, 3) if channels == 4 else (16, 16))
    plt.close(figure)


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("core", "embed", "augment", "match"),
    [
        ({"cross_attention": True}, {}, {}, "core.cross_attention: .*leave it off"),
        ({"causal": True}, {}, {}, "core.causal: the class token .* head.pool=mean"),
        ({"dim": 30}, {"position": "sinusoidal"}, {}, "core.dim 30 does not divide by 4"),
        ({}, {"channels": 4}, {"color_jitter": 0.1}, "embed.channels 4"),
    ],
)
def test_a_core_that_makes_no_sense_for_pictures_is_refused_before_anything_is_made(
    core: dict[str, Any], embed: dict[str, Any], augment: dict[str, Any], match: str
) -> None:
    plain = run_spec(augment)
    changed = {"core": CoreSpec(**{"dim": 24, "depth": 1, "num_heads": 2, **core}), "embed": {**plain.embed, **embed}}
    spec = plain.model_copy(update=changed)
    for refuse in (ImageClassification.datasets, ImageClassification.build, cost):
        with pytest.raises(UserError, match=match):
            refuse(spec)


def test_a_causal_core_can_pool_its_patches() -> None:
    core = CoreSpec(dim=24, depth=1, num_heads=2, causal=True)
    ImageClassification.build(run_spec().model_copy(update={"core": core, "head": {"num_classes": 4, "pool": "mean"}}))


def test_inputs_are_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.PNG", "a.jpg", "no.txt"):
        (tmp_path / "in" / name).touch()
    found = task().inputs([str(tmp_path / "in"), str(tmp_path / "in" / "no.txt")])
    assert [Path(item_id).name for item_id in found.ids] == ["a.jpg", "b.PNG", "no.txt"]
    missing = task().inputs([str(tmp_path / "gone.png")])
    with pytest.raises(ValueError, match="no file or folder"):
        task().transform(missing[0], None)
