"""Publications of the size of a micro, and texts to begin with."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from starting import publish_bert, table_of
from torch import nn


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return table_of(tmp_path / "things.csv", "fruit", "tool")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return publish_bert(tmp_path / "bert", "apple hammer and cat", spare=5)


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A folder of timm's ViT with the size of vit-micro, as the Hub has them."""
    torch.manual_seed(0)
    arguments = {"embed_dim": 96, "depth": 4, "num_heads": 3, "img_size": 28, "patch_size": 7, "num_classes": 6}
    model = timm.create_model("vit_tiny_patch16_224", **arguments)
    nn.init.normal_(model.head.weight)
    cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    config = {"architecture": "vit_tiny_patch16_224", "model_args": arguments, "pretrained_cfg": cfg}
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "vit" / "model.safetensors")
    return tmp_path / "vit"
