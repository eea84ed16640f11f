"""What can be wrong with pictures: `zoo data check` for a dataset or a folder of one's own."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from zoo.contract import Dataset, Finding, Source
from zoo.data import check as generic
from zoo.data.folder import Files, walk
from zoo.errors import UserError
from zoo_vit import pictures
from zoo_vit.pictures import SUFFIXES, fit_channels, fit_size, read_picture

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP"}
THUMBNAIL = 16
NEIGHBOURS = 5
MAX_COMPARED = 20_000
"""Pictures: each is compared with each."""
TRUSTED = 0.9
"""Share of labels that the neighbours must foretell before their contradiction means anything."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture shows at a glance; `problem` is why it cannot be read."""

    item: str
    label: str
    thumbnail: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    problem: str = ""


def check(source: Source, root: Path | None) -> list[Finding]:
    """Everything found, what is worst first.

    Args:
        root: The folder, where the dataset is one: it may hold what is no picture.
    """
    looks = [look for dataset in source.splits.values() for look in _looks(dataset, source.info["classes"])]
    good = [look for look in looks if not look.problem]
    findings = [Finding("unreadable", look.problem, [look.item]) for look in looks if look.problem]
    findings += [Finding("left out", note, severity="warning") for note in source.notes]
    findings += generic.check(source, {look.item for look in looks if look.problem})
    findings += [*_mislabelled(good), *_odd_files(good), *_odd_sizes(good)]
    if root is not None:
        others = [
            path.relative_to(root).as_posix() for path in sorted(walk(root)) if path.suffix.lower() not in SUFFIXES
        ]
        if others:
            findings.append(Finding("no picture", f"{len(others)} files are passed over", others, "warning"))
    return generic.by_severity(findings)


def _looks(dataset: Dataset, classes: Sequence[str]) -> list[Look]:
    def look(index: int) -> Look:
        item = dataset[index]
        label = str(classes[item.target])
        if not isinstance(dataset, Files):
            return Look(item.id, label, _thumbnail(item.inputs), item.inputs.shape[:0:-1])
        try:
            pixels = fit_channels(read_picture(item.inputs, channels=3), 1)
        except UserError as error:
            return Look(item.id, label, problem=str(error))
        with Image.open(item.inputs, formats=pictures.FORMATS) as header:
            return Look(item.id, label, _thumbnail(pixels), header.size, header.mode, header.format or "")

    with ThreadPoolExecutor() as pool:  # decoders let go of the interpreter lock
        return list(pool.map(look, range(len(dataset))))


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    return fit_size(fit_channels(pixels, 1), THUMBNAIL).ravel()


def _mislabelled(looks: Sequence[Look]) -> Iterator[Finding]:
    """Pictures whose nearest neighbours, as thumbnails, all bear one other label."""
    labels = np.array([look.label for look in looks])
    if len(looks) > MAX_COMPARED:
        why = f"only sets of up to {MAX_COMPARED} pictures are compared"
    elif len(looks) <= NEIGHBOURS or len(set(labels)) < 2:
        return
    else:
        near = labels[_nearest(np.stack([look.thumbnail for look in looks]).astype(np.float32))]
        agree = (near == near[:, :1]).all(1)
        foretold = [Counter(row).most_common(1)[0][0] for row in near.tolist()]
        trust = float(np.mean(np.array(foretold) == labels))
        if trust >= TRUSTED:
            for i in np.flatnonzero(agree & (near[:, 0] != labels)).tolist():
                message = f"labelled '{labels[i]}', but its {NEIGHBOURS} nearest neighbours are all '{near[i, 0]}'"
                yield Finding("likely mislabelled", message, [looks[i].item], "warning")
            return
        why = f"neighbours foretell {trust:.0%} of the labels here, fewer than {TRUSTED:.0%}"
    yield Finding("likely mislabelled", f"not looked for: {why}", severity="note")


def _nearest(thumbnails: Float[np.ndarray, "n pixels"]) -> np.ndarray:
    """The positions of each one's nearest others, (n, NEIGHBOURS)."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(thumbnails).kneighbors(return_distance=False)


def _odd_files(looks: Sequence[Look]) -> Iterator[Finding]:
    for look in looks:
        expected = FORMATS.get(Path(look.item).suffix.lower())
        if look.format and expected and look.format != expected:
            yield Finding("suffix", f"it is {look.format}, whatever its name says", [look.item], "warning")
    modes = Counter(look.mode for look in looks)
    usual, count = modes.most_common(1)[0] if modes else ("", 0)
    if TRUSTED * len(looks) <= count < len(looks):
        for mode in sorted(modes.keys() - {usual}):
            message = f"mode {mode} where the others have {usual}; they are converted"
            yield Finding("odd mode", message, [look.item for look in looks if look.mode == mode], "warning")


def _odd_sizes(looks: Sequence[Look]) -> Iterator[Finding]:
    if not looks:
        return
    usual = float(np.median([min(look.size) for look in looks]))
    small = [look.item for look in looks if min(look.size) < usual / 4]
    if small:
        message = f"the shorter side is below a quarter of the usual {usual:.0f} pixels"
        yield Finding("odd size", message, small, "warning")
    long = [look.item for look in looks if max(look.size) > 4 * min(look.size)]
    if long:
        yield Finding("odd size", "more than four times as long as wide; the ends are cropped", long, "warning")
