"""Small folders as timm's on the Hugging Face Hub are, with random numbers, and trainings of its networks."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.run import Run

SMALL = {"embed.image_size": 32, "train.batch_size": 16, "train.device": "cpu"}


def trained(name: str, out: Path, **asked: Any) -> Run:
    settings = {**SMALL, **asked.pop("settings", {})}
    return zoo.train(name, data=asked.pop("data", "digits"), steps=2, settings=settings, out=out, **asked)


def publish(folder: Path, name: str, **options: Any) -> nn.Module:
    """A model of timm's with random weights, as its folder on the Hub would be."""
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    card = {**network.pretrained_cfg, "tag": "made_up"}
    config = {"architecture": name, "num_classes": network.num_classes, "pretrained_cfg": card}
    (folder / "config.json").write_text(json.dumps(config))
    return network
