"""What an adapter_config.json says: what is read of it as PEFT reads it, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import UserError
from zoo.weights.adapters import read_adapted

MODULE = "encoder.layer.0.attention.self.query"


def written(folder: Path, **config: Any) -> Path:
    """Adapters of which A B is 2 throughout and rank 2, so that alpha is what they add, beside weights of zeros."""
    (folder / "config.json").write_text("{}")
    save_file({f"{MODULE}.weight": torch.zeros(8, 8)}, folder / "model.safetensors")
    name = f"base_model.model.{MODULE}"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 8), f"{name}.lora_B.weight": torch.ones(8, 2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


PLAIN = {
    "bias": "none",
    "init_lora_weights": "eva",
    "eva_config": {"rho": 2.0},
    "loftq_config": {},
    "use_dora": None,
    "use_bdlora": None,
    "target_parameters": [],
    "corda_config": None,
    "alora_invocation_tokens": None,
}
"""Of which nothing makes adapters more than B A."""


@pytest.mark.parametrize(
    ("pattern", "alpha"),
    [
        ("query", 6),
        ("self.query", 6),
        (r"^encoder.layer.\d+.attention.*.query", 6),
        (r"key|layer\.[0-3]\.attention\.self\.query", 6),
        ("uery", 4),  # no whole part of a name
        ("^query", 4),
        ("key", 4),
    ],
)
def test_modules_have_the_alpha_of_the_pattern_that_peft_finds(pattern: str, alpha: int, tmp_path: Path) -> None:
    found = read_adapted(written(tmp_path, alpha_pattern={pattern: 6}, **PLAIN))
    torch.testing.assert_close(found.tensors[f"{MODULE}.weight"], torch.full((8, 8), float(alpha)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, r"have peft_type LOHA, which is not read\nmerge them with PEFT"),
        ({"use_dora": True}, r"have use_dora True, which is not read"),
        ({"bias": "all"}, r"have bias all, which is not read"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            r"have init_lora_weights pissa_niter_4, which is not read\nmerge them",
        ),
        ({"init_lora_weights": "olora"}, r"have init_lora_weights olora, which is not read"),
        ({"init_lora_weights": ["eva"]}, r"have init_lora_weights \['eva'\], which is not read"),
        ({"corda_config": {"corda_method": "ipm"}}, r"have corda_config .*, which is not read"),
        ({"alora_invocation_tokens": [1, 2]}, r"have alora_invocation_tokens \[1, 2\], which is not read"),
        ({"use_bdlora": {"nblocks": 2}}, r"have use_bdlora .*, which is not read"),
        ({"kasa_config": {"beta": 1}, "use_dora": True}, r"have use_dora True, kasa_config .*, which is not read"),
        ({"lora_alpha": None}, r"has for lora_alpha None, which is no number\nset it as it was trained"),
        ({"lora_alpha": "16"}, r"has for lora_alpha '16', which is no number"),
        ({"lora_alpha": float("nan")}, r"has for lora_alpha nan, which is no number"),
        ({"use_rslora": "false"}, r"has use_rslora 'false'\nset it to true or false"),
        ({"alpha_pattern": ["query"]}, r"alpha_pattern of .* is no table of modules\nset it to \{\}"),
        ({"alpha_pattern": {"query": True}}, r"has for query True, which is no number"),
        ({"alpha_pattern": {"*query": 4}}, r"has '\*query', which is not read\nname each module as it is, or merge"),
        ({"alpha_pattern": {"(a+)+b": 4}}, r"has '\(a\+\)\+b', which is not read"),
        ({"alpha_pattern": {".*.*.*query": 4}}, r"has '\.\*\.\*\.\*query', which is not read"),
        ({"alpha_pattern": {"[9-0]": 4}}, r"has '\[9-0\]', which is not read"),
    ],
)
def test_what_is_not_read_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_adapted(written(tmp_path, **config))
