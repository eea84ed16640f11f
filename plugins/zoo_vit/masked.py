"""Masked patches: most of a picture is hidden, and its pixels are told from the rest. What a ViT learns without labels.

He et al. 2021 (masked autoencoders), arXiv:2111.06377: the core reads only the patches that are seen; a small decoder,
which is thrown away afterwards, draws the others. Which are hidden is drawn anew in every epoch, and fixed for
evaluation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.contract import Batch, Dataset, Item, Measures, Record, Source, Splits
from zoo.core import Model, Output, Transformer
from zoo.data.folder import Files, files_by_split, find_files
from zoo.data.seeding import item_rng
from zoo.data.sources import open_source
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.files import user_path
from zoo.metrics import reconstruction
from zoo.specs import DataSpec, RunSpec
from zoo_vit.building import build_embed
from zoo_vit.data import normalisation
from zoo_vit.model import PatchDecoder, whole_patches
from zoo_vit.pictures import SUFFIXES
from zoo_vit.reading import Reader
from zoo_vit.spec import masked_rooms

FLAT = 1e-6
"""Added to a patch's variance: a patch of one shade has none."""


class MaskedPatches:
    """Args:
    info: `mean` and `std` of each channel, of values from 0 to 1.
    """

    def __init__(self, spec: RunSpec, info: Mapping[str, Any]) -> None:
        self.embed, _, self.masking = masked_rooms(spec)
        self.reader = Reader(self.embed, self.masking, info)

    # ------------------------------------------------------------ data

    @staticmethod
    def datasets(spec: RunSpec, info: Mapping[str, Any] | None = None) -> Splits:
        embed, _, _ = masked_rooms(spec)
        source = open_source(spec.data, load_pictures, "the path of a folder of pictures")
        train, validation, test, notes = split(source, spec.data)
        if len(train) and not isinstance(train[0].inputs, Path | np.ndarray):
            raise UserError(f"'{spec.data.name}' holds no pictures\nname a dataset or a folder that does")
        known = {key: value for key, value in (info or {}).items() if key in ("mean", "std")}
        if not {"mean", "std"} <= known.keys():
            known = dict(normalisation(train, embed.channels))
        own = 1 if embed.num_class_tokens is None else embed.num_class_tokens
        return Splits(train, validation, test, known, {"embed.num_class_tokens": own}, notes)

    def inputs(self, sources: Sequence[str]) -> Dataset:
        return find_files(sources, SUFFIXES)

    def transform(self, item: Item, rng: np.random.Generator | None) -> Mapping[str, Any]:
        sample = self.reader.sample(item, rng)
        order = (rng or item_rng(0, 0, item.id)).permutation(self.embed.grid_size**2)
        return {**sample, "masked": np.sort(order[: self.masking.num_masked(len(order))])}

    def collate(self, samples: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Batch:
        images = self.reader.batch(samples)
        masked = np.stack([sample["masked"] for sample in samples])
        cells = np.arange(self.embed.grid_size**2)
        visible = np.stack([np.setdiff1d(cells, each) for each in masked])
        inputs = {"image": images, "visible": torch.from_numpy(visible), "masked": torch.from_numpy(masked)}
        return Batch(inputs, self._targets(images, inputs["masked"]), tuple(ids))

    def _targets(self, images: Tensor, masked: Tensor) -> Float[Tensor, "b m values"]:
        """The pixels of the hidden patches, each patch with mean 0 and deviation 1."""
        side = self.embed.stride
        images = whole_patches(images, side, cut=self.embed.partial_patches == "cut")
        patches = F.unfold(images, side, stride=side).transpose(1, 2)
        hidden = patches.gather(1, masked[:, :, None].expand(-1, -1, patches.shape[2]))
        variance, mean = torch.var_mean(hidden, -1, correction=0, keepdim=True)
        return (hidden - mean) * (variance + FLAT).rsqrt()

    # ------------------------------------------------------------ model

    @staticmethod
    def build(spec: RunSpec) -> Model:
        (embed, head, _), core = masked_rooms(spec), spec.core
        first = build_embed(
            spec, embed, num_class_tokens=1 if embed.num_class_tokens is None else embed.num_class_tokens
        )
        last = PatchDecoder(
            core.dim,
            Transformer(head.dim, head.depth, head.num_heads),
            grid_size=embed.grid_size,
            num_prefix=first.num_prefix,
            num_values=embed.channels * embed.stride**2,
        )
        return Model(first, Transformer(**core.model_dump()), last)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, int]:
        """Squared error of the hidden pixels."""
        return F.mse_loss(output.logits, batch.targets, reduction="sum"), batch.targets.numel()

    # ------------------------------------------------------------ results

    def decode(self, output: Output, batch: Batch) -> Sequence[Record]:
        """What of each picture was drawn wrong; nothing is what is wanted."""
        errors = (output.logits.detach() - batch.targets).square().flatten(1).mean(1).tolist()
        return [Record(item, error, 0.0) for item, error in zip(batch.ids, errors, strict=True)]

    def measure(self, records: Sequence[Record]) -> Measures:
        """The share of a hidden patch's variance that is not told: 1 is drawing its mean."""
        return reconstruction(records)

    def describe(self, record: Record, top_k: int) -> Mapping[str, Any]:
        return {"reconstruction_error": record.prediction}


def load_pictures(data: DataSpec) -> Source:
    """Every picture below a folder, by its splits.

    Raises:
        UserError: There is none.
    """
    found = files_by_split(user_path(data.name), SUFFIXES)
    return Source(
        {split: Files(list(paths.values()), list(paths), [None] * len(paths)) for split, paths in found.items()}
    )
