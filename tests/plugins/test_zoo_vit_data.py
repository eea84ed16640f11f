"""Pictures of every kind of file, datasets of every kind of place, and what is wrong with them."""

import io
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.errors import UserError
from zoo.specs import CoreSpec, DataSpec, RunSpec, TrainSpec
from zoo_vit.data import decoded, load_digits, load_mnist
from zoo_vit.pictures import fit_channels, fit_size, read_picture
from zoo_vit.task import ImageClassification, read_source


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))


def spec(data: str, **options: str) -> RunSpec:
    return RunSpec(
        model="m",
        task="image-classification",
        core=CoreSpec(dim=16, depth=1, num_heads=2),
        embed={"image_size": 16, "patch_size": 8},
        head={"num_classes": 2},
        augment={},
        data=DataSpec(name=data, **options),
        train=TrainSpec(),
    )


def picture(seed: int, side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def folder(root: Path, count: int = 6, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * number + i).save(root / name / f"{i}.png")
    return root


# ---------------------------------------------------------------- files


def test_sixteen_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert np.array_equal(read_picture(tmp_path / "deep.png", 1)[0].ravel(), np.arange(256))
    assert read_picture(tmp_path / "deep.png", 3).shape == (3, 16, 16)


def test_cmyk_and_palette_and_alpha_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 30, 60)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(read_picture(tmp_path / "cmyk.jpg", 3).mean((1, 2)) - [200, 30, 60]).max() < 4
    Image.new("RGB", (8, 8), (10, 20, 30)).quantize(4).save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png", 3)[:, 0, 0].tolist() == [10, 20, 30]
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png", 3).min() == 255, "what is transparent is white"


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_opacity_can_be_a_channel(tmp_path: Path, mode: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, channels), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(tmp_path / "clear.png")
    assert np.array_equal(read_picture(tmp_path / "clear.png", channels), pixels.transpose(2, 0, 1))
    Image.new("RGB", (8, 8)).save(tmp_path / "solid.png")
    assert read_picture(tmp_path / "solid.png", channels)[-1].min() == 255


def test_files_have_no_more_than_four_channels(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png.*1 to 4 channels, not 5; set embed\.channels"):
        read_picture(tmp_path / "a.png", 5)


def test_exif_turns_the_picture(tmp_path: Path) -> None:
    upright = picture(0, 16)
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    upright.rotate(90).save(tmp_path / "turned.png", exif=turned)
    assert np.array_equal(read_picture(tmp_path / "turned.png", 3), np.asarray(upright).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"not a picture", "it is no picture"), (None, "cannot")]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "bad.png"
    if content is None:
        whole = io.BytesIO()
        picture(0, 64).save(whole, "PNG")
        content = whole.getvalue()[:3000]
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as raised:
        read_picture(path, 3)
    assert str(path) in str(raised.value)


def test_fit_size_crops_the_centre_of_the_shorter_side() -> None:
    wide = np.zeros((1, 8, 24), np.uint8)
    wide[:, :, 8:16] = 255
    assert fit_size(wide, 8).tolist() == np.full((1, 8, 8), 255).tolist()
    assert fit_size(wide, 4).shape == (1, 4, 4)


def test_a_picture_a_pixel_high_takes_no_memory(tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 1), "red").save(tmp_path / "thin.png")
    picture = read_picture(tmp_path / "thin.png", 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fit_size(picture, 64).shape == (3, 64, 64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "KiB"


def test_no_format_is_opened_that_needs_another_program(tmp_path: Path) -> None:
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="it is no picture"):
        read_picture(tmp_path / "eps.png", 3)


def test_channels_that_do_not_fit_are_refused() -> None:
    assert fit_channels(np.zeros((1, 4, 4), np.uint8), 3).shape == (3, 4, 4)
    with pytest.raises(UserError, match=r"5 channels.*embed.channels=5"):
        fit_channels(np.zeros((5, 4, 4), np.uint8), 3)


# ---------------------------------------------------------------- datasets


def test_digits_are_split_by_content_and_normalised_by_what_trains() -> None:
    given = spec("digits").model_copy(update={"embed": {"image_size": 8, "patch_size": 4, "channels": 1}})
    splits = ImageClassification.datasets(given)
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(sizes) == 1797
    assert 0.17 < sizes[2] / 1797 < 0.23
    assert splits.settings == {"head.num_classes": 10}
    pixels = np.stack([splits.train[i].inputs for i in range(sizes[0])]) / 255
    assert splits.info["mean"] == pytest.approx([pixels.mean()], abs=1e-5)
    assert splits.info["std"] == pytest.approx([pixels.std()], abs=1e-5)


def test_digits_keep_their_seventeen_levels() -> None:
    images = load_digits(DataSpec(name="digits")).splits["train"]
    assert len(np.unique(np.stack([images[i].inputs for i in range(100)]))) == 17


def test_mnist_is_read_from_the_mirror(tmp_path: Path) -> None:
    raw = tmp_path / "mirror" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 3), ("t10k", 2)):
        images = np.arange(count * 4, dtype=np.uint8)
        header = np.array([0x803, count, 2, 2], ">i4").tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(
            np.array([0x801, count], ">i4").tobytes() + bytes(range(count))
        )
    source = load_mnist(DataSpec(name="mnist"))
    assert source.splits["train"][2].inputs.tolist() == [[[8, 9], [10, 11]]]
    assert source.splits["train"][2].inputs.flags.writeable, "the file's bytes are not, of which tensors warn"
    assert source.splits["test"][1].target == 1
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02\0")
    with pytest.raises(UserError, match="cut short"):
        load_mnist(DataSpec(name="mnist"))


def test_a_known_dataset_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="zoo data fetch cifar100"):
        read_source(DataSpec(name="cifar100"))


def test_an_archive_is_decoded_once_and_a_damaged_copy_again(tmp_path: Path) -> None:
    home = tmp_path / "pictures"
    home.mkdir()
    with zipfile.ZipFile(home / "all.zip", "w") as archive:
        for split in ("test", "train"):
            for name in ("b", "a"):
                encoded = io.BytesIO()
                picture(len(split) + len(name)).save(encoded, "PNG")
                archive.writestr(f"{split}/{name}/0.png", encoded.getvalue())
    splits, classes = decoded(home, channels=3)
    assert classes == ["a", "b"]
    assert [splits["train"][i].target for i in range(2)] == [0, 1]
    assert np.array_equal(splits["train"][0].inputs, np.asarray(picture(6)).transpose(2, 0, 1))
    (kept,) = (tmp_path / "cache").rglob("images.npy")
    before = kept.stat().st_mtime_ns
    decoded(home, channels=3)
    assert kept.stat().st_mtime_ns == before
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-5])
    decoded(home, channels=3)
    assert kept.read_bytes() == whole


def test_a_folder_is_read_by_class_and_by_split(tmp_path: Path) -> None:
    source = read_source(DataSpec(name=str(folder(tmp_path / "flat"))))
    assert source.info["classes"] == ["cat", "dog"]
    assert source.splits["train"].ids[0] == "cat/0.png"
    folder(tmp_path / "split" / "train")
    folder(tmp_path / "split" / "valid", 2)
    folder(tmp_path / "split" / "test", 3)
    parts = read_source(DataSpec(name=str(tmp_path / "split"))).splits
    assert {name: len(part) for name, part in parts.items()} == {"test": 6, "train": 12, "validation": 4}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = read_source(DataSpec(name=str(folder(tmp_path / "traffic", classes=("car", "plane", "train")))))
    assert source.info["classes"] == ["car", "plane", "train"]
    assert len(source.splits["train"]) == 18
    folder(tmp_path / "unpacked" / "train")
    (tmp_path / "unpacked" / "devkit").mkdir()
    assert read_source(DataSpec(name=str(tmp_path / "unpacked"))).info["classes"] == ["cat", "dog"]


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    def refuse(data: Path, match: str) -> None:
        with pytest.raises(UserError, match=match):
            ImageClassification.datasets(spec(str(data)))

    refuse(tmp_path / "missing", "there is no folder")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", r"nothing in .* a folder for each class")
    (tmp_path / "loose").mkdir()
    picture(0).save(tmp_path / "loose" / "a.png")
    refuse(tmp_path / "loose", "1 files, but no class folder")
    refuse(folder(tmp_path / "one", classes=("cat",)), "single class, 'cat'")
    (folder(tmp_path / "hollow") / "eel").mkdir()
    refuse(tmp_path / "hollow", r"eel/: no files of")
    folder(tmp_path / "strange" / "train")
    folder(tmp_path / "strange" / "test", classes=("cat", "cow"))
    refuse(tmp_path / "strange", "classes that train has not: cow")
    for name in ("train", "val", "valid"):
        folder(tmp_path / "twice" / name)
    refuse(tmp_path / "twice", "both 'val' and 'valid'")


def test_evaluation_follows_the_models_class_order_and_refuses_strangers(tmp_path: Path) -> None:
    info = {"classes": ["dog", "bird", "cat"], "mean": [0.5] * 3, "std": [0.5] * 3}
    splits = ImageClassification.datasets(spec(str(folder(tmp_path / "data"))), info)
    items = [splits.train[i] for i in range(len(splits.train))]
    assert {(item.id.split("/")[0], item.target) for item in items} == {("cat", 2), ("dog", 0)}
    assert splits.info == info
    with pytest.raises(UserError, match=r"does not know: dog\n.*cat, dog\n.*cat, eel"):
        ImageClassification.datasets(spec(str(tmp_path / "data")), info | {"classes": ["cat", "eel"]})


# ---------------------------------------------------------------- zoo data check


def test_check_names_each_bad_file(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 12)
    (root / "cat" / "empty.png").touch()
    (root / "cat" / "text.png").write_text("hello")
    (root / "dog" / "half.png").write_bytes((root / "dog" / "0.png").read_bytes()[:400])
    (root / "dog" / "notes.txt").write_text("hello")
    (root / "dog" / "same.png").write_bytes((root / "cat" / "1.png").read_bytes())
    (root / "cat" / "again.png").write_bytes((root / "cat" / "2.png").read_bytes())
    picture(77).save(root / "dog" / "really.png", "JPEG")
    picture(78).convert("L").save(root / "cat" / "grey.png")
    picture(79, 2).save(root / "cat" / "tiny.png")
    found = [(f.severity, f.kind, tuple(f.items)) for f in ImageClassification.check(spec(str(root)))]
    assert found[:4] == [
        ("error", "unreadable", ("cat/empty.png",)),
        ("error", "unreadable", ("cat/text.png",)),
        ("error", "unreadable", ("dog/half.png",)),
        ("error", "mislabelled", ("cat/1.png", "dog/same.png")),
    ]
    assert ("warning", "duplicate", ("cat/again.png",)) in found or ("warning", "duplicate", ("cat/2.png",)) in found
    assert ("warning", "suffix", ("dog/really.png",)) in found
    assert ("warning", "odd mode", ("cat/grey.png",)) in found
    assert ("warning", "odd size", ("cat/tiny.png",)) in found
    assert ("warning", "no picture", ("dog/notes.txt",)) in found


def test_check_finds_a_wrong_label_where_neighbours_can_be_trusted(tmp_path: Path) -> None:
    for name, grey in (("dark", 40), ("light", 200)):
        (tmp_path / name).mkdir()
        for i in range(20):
            noise = np.random.default_rng(grey + i).integers(0, 30, (16, 16))
            Image.fromarray((grey + noise).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    noise = np.random.default_rng(0).integers(0, 30, (16, 16))
    Image.fromarray((40 + noise).astype(np.uint8)).save(tmp_path / "light" / "wrong.png")
    findings = [f for f in ImageClassification.check(spec(str(tmp_path))) if f.kind == "likely mislabelled"]
    assert [(f.severity, list(f.items)) for f in findings] == [("warning", ["light/wrong.png"])]


def test_check_of_random_pictures_says_that_labels_were_not_looked_at(tmp_path: Path) -> None:
    (finding,) = ImageClassification.check(spec(str(folder(tmp_path / "data", 12))))
    assert finding.severity == "note"
    assert "not looked for" in finding.message
