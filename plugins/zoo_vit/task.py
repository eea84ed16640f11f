"""Image classification: which of the known classes a picture shows. The walk from a dataset's items to records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.contract import Batch, Dataset, Finding, Item, Measures, Record, Source, Splits
from zoo.core import Model, Output, Transformer
from zoo.data.folder import count_files, find_files
from zoo.data.labels import in_order, require_trainable
from zoo.data.sources import folder_of, open_source
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.metrics import class_records, classification, likeliest
from zoo.specs import DataSpec, RunSpec
from zoo_vit.building import build_embed, build_norm
from zoo_vit.check import check
from zoo_vit.data import load_folder, normalisation
from zoo_vit.model import AttentionPool, PictureHead
from zoo_vit.pictures import SUFFIXES
from zoo_vit.reading import Reader
from zoo_vit.spec import num_class_tokens, num_classifiers, rooms

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ImageClassification:
    """Args:
    info: `classes`, names in the order of the scores; `mean` and `std` of each channel, of values from 0 to 1.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, _, augment = rooms(spec)
        self.classes: Sequence[str] = info["classes"]
        self.label_smoothing = spec.train.label_smoothing
        self.reader = Reader(self.embed, augment, info, len(self.classes))

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, _, _ = rooms(spec)
        source, known = read_source(spec.data), dict(info or {})
        if "classes" in known:
            source = in_order(source, known["classes"], spec.data.name)
        else:
            require_trainable(source, spec.data.name)
        train, validation, test, notes = split(source, spec.data)
        if not {"mean", "std"} <= known.keys():
            known |= normalisation(train, embed.channels)
        info = {"classes": list(source.info["classes"])} | known
        settings = {"head.num_classes": len(info["classes"])}
        return Splits(train, validation, test, info, settings, notes)

    @staticmethod
    def check(spec: RunSpec) -> Sequence[Finding]:
        try:
            source = read_source(spec.data)
        except UserError as error:
            return [Finding("folder", str(error))]
        return check(source, folder_of(spec.data))

    @staticmethod
    def num_readable(place: Path) -> int:
        return count_files(place, SUFFIXES)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return find_files(sources, SUFFIXES)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        return {**self.reader.sample(item, rng), "target": item.target}

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        images = self.reader.batch(samples)
        labels = [sample["target"] for sample in samples]
        targets = None if None in labels else torch.tensor(labels)
        if "mix" in samples[0] and targets is not None:
            images, targets = self.reader.augment.mix(images, targets, samples[0]["mix"])
        return Batch({"image": images}, targets, tuple(ids))

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _), core = rooms(spec), spec.core
        own = num_class_tokens(embed, head)
        first = build_embed(spec, embed, num_class_tokens=own)
        pool = head.pool
        if head.pool == "map":
            pool = AttentionPool(
                core.dim, core.num_heads, mlp_dim=core.mlp_dim, norm=build_norm(core), activation=core.activation
            )
        last = PictureHead(
            core.dim,
            head.num_classes,
            pool=pool,
            num_prefix=first.num_prefix,
            distilled=num_classifiers(embed, head) == 2,
            norm=build_norm(core) if head.norm else None,
            pooler=head.pooler,
            pooler_dim=head.pooler_dim,
            pooler_bias=head.pooler_bias,
        )
        return Model(first, Transformer(**core.model_dump()), last)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy with class indices or, mixed, with a distribution over classes."""
        smoothing = self.label_smoothing
        total = F.cross_entropy(output.logits, batch.targets, reduction="sum", label_smoothing=smoothing)
        return total, len(batch.ids)

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        targets = batch.targets
        if targets is not None:
            targets = (targets.argmax(-1) if targets.ndim == 2 else targets).tolist()
        return class_records(batch.ids, output.logits.detach().softmax(-1).cpu().numpy(), targets)

    def measure(self, records: Sequence[Record]) -> Measures:
        return classification(records, self.classes)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        assert record.scores is not None
        return likeliest(record.scores, self.classes, top_k)

    def draw(self, axes: "Axes", item: Item, relevance: np.ndarray) -> None:
        """The picture as the model sees it, with the patches' relevance over it; other tokens have no place in it."""
        side = self.embed.grid_size
        heat = relevance[len(relevance) - side * side :].reshape(side, side)
        size, reach = self.embed.image_size, side * self.embed.stride  # a last, partial patch reaches beyond the edge
        picture = self.reader.fit(self.reader.pixels(item)).transpose(1, 2, 0)
        shown = picture[..., :3] if picture.shape[-1] > 2 else picture[..., 0]
        axes.imshow(shown, cmap="gray", extent=(0, size, size, 0))
        glow = np.empty((side, side, 4))
        glow[...] = (1.0, 0.5, 0.0, 0.0)
        glow[..., 3] = 0.65 * heat / max(heat.max(), 1e-12)
        axes.imshow(glow, extent=(0, reach, reach, 0))
        axes.set(xlim=(0, size), ylim=(size, 0))
        axes.set_axis_off()


def read_source(data: DataSpec) -> Source:
    """A dataset by name, or a folder of class folders by path.

    Raises:
        UserError: It is neither, or cannot be read.
    """
    return open_source(data, load_folder, "the path of a folder, root/class/*")
