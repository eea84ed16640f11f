"""Low-rank adapters that others trained, as PEFT keeps them in a folder, made a part of the weights that they adapt.

    adapter_config.json           r, lora_alpha, base_model_name_or_path, ...
    adapter_model.safetensors     base_model.model.MODULE.lora_A.weight, .lora_B.weight; modules that were trained whole

MODULE is as the published weights call it, or as `in_memory` knows, so that no family's table is needed: W becomes
W + scale · B A (Hu et al. 2021, arXiv:2106.09685) before any of them reads it. The way back is `zoo.weights.export`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import UserError, listing
from zoo.files import user_path
from zoo.weights.files import INDICES, NAMES, Published, read_json, read_published, read_tensors
from zoo.weights.hub import local_folder
from zoo.weights.in_memory import name_in_file

CONFIG, TENSORS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
PLAIN: Mapping[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    **dict.fromkeys(("lora_bias", "use_dora", "use_qalora", "use_bdlora"), False),
    **dict.fromkeys(("target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens")),
    **dict.fromkeys(("arrow_config", "corda_config", "kasa_config", "lora_ga_config", "monteclora_config")),
}
"""What makes adapters more than B A; a configuration that says otherwise is refused."""
CONV1D = ("gpt2", "gpt-sw3", "openai-gpt", "imagegpt", "decision_transformer")
"""Kinds whose projections lie in files as (in, out), which PEFT knows by itself, whatever `fan_in_fan_out` says."""
STARTS = (True, False, "gaussian", "eva")
"""Of A and B, as `init_lora_weights` has it. Others, such as PiSSA and OLoRA, take from the base what B A begins with,
and PEFT does so again when it loads them: their B A is no change of the base as it lies here."""
PATTERN = re.compile(r"(?:[\w.|^-]|\\[.d]|\[[\w-]+\]|[*+])*")
"""Of the regular expressions by which modules have an alpha of their own: without groups, whose repetition may take
for ever."""
MOST_REPEATS = 2


def has_adapters(place: Path) -> bool:
    return (place / CONFIG).is_file()


def read_adapted(place: Path) -> Published:
    """The weights that a folder's adapters are of, with what these learnt in them. They lie beside the adapters, or
    where `base_model_name_or_path` says: in a folder, in the mirror, or in the Hub's cache.

    Raises:
        UserError: Something is missing or broken, does not belong together, or is more than low-rank adapters.
    """
    config = read_json(place / CONFIG)
    odd = [key for key, plain in PLAIN.items() if (config.get(key, plain) or plain) != plain]
    if config.get("init_lora_weights", True) not in STARTS:
        odd.append("init_lora_weights")
    if odd:
        told = listing([f"{key} {config[key]}" for key in odd], 4)
        raise UserError(f"the adapters in '{place}' have {told}, which is not read\nmerge them with PEFT")
    _require_scales(place, config)
    file = next((place / name for name in TENSORS if (place / name).is_file()), None)
    if file is None:
        raise UserError(f"'{place}' has {CONFIG}, but no {TENSORS[0]}\ncopy or download it anew")
    base = _base(place, config)
    return replace(base, tensors=_merged(base, read_tensors(file), config, place))


def _base(place: Path, config: Mapping[str, Any]) -> Published:
    if any((place / name).exists() for name in (*NAMES, *INDICES)):
        return read_published(place)
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"'{place / CONFIG}' does not name the weights it adapts\nput these beside it")
    folder = user_path(name)
    if not folder.is_absolute():
        beside = place / folder
        folder = beside if beside.exists() else folder
    found = folder if folder.exists() else local_folder(name, config.get("revision"))
    if found is None:
        raise UserError(
            f"the adapters in '{place}' are of '{name}', which is not on this machine\nput its files beside them, set "
            f"base_model_name_or_path in {CONFIG} to its folder, or fetch it with: hf download {name}"
        )
    return read_published(found)


def _merged(
    base: Published, adapters: Mapping[str, Tensor], config: Mapping[str, Any], place: Path
) -> dict[str, Tensor]:
    bare = {re.sub(r"\.modules_to_save(\.default)?", "", name.removeprefix(PREFIX)): t for name, t in adapters.items()}
    modules = [name.removesuffix(".lora_A.weight") for name in bare if name.endswith(".lora_A.weight")]
    of_base, of_adapters = _prefixes([name_in_file(module, base)[0] for module in modules], base, config, place)
    found = {of_base + name: tensor for name, tensor in base.tensors.items()}
    turned = base.config.get("model_type") in CONV1D
    if config.get("fan_in_fan_out") and not turned:  # a square matrix does not tell which way it lies
        raise UserError(
            f"the adapters in '{place}' have fan_in_fan_out true, which is read for {', '.join(CONV1D)} alone\n"
            "merge them with PEFT, and name the folder that it writes"
        )

    def theirs(name: str) -> tuple[str, int, int]:
        name, part, count = name_in_file(name, base)
        return name if name in found else of_adapters + name, part, count

    strange: list[str] = []
    for module in modules:
        (name, part, count), down = theirs(f"{module}.weight"), bare.pop(f"{module}.lora_A.weight")
        up = bare.pop(f"{module}.lora_B.weight", None)
        weight = found.get(name)
        shape = None if up is None else (count * len(up), *down.shape[1:])[:: -1 if turned else 1]
        if weight is None or up is None or shape != tuple(weight.shape):
            strange.append(module)
        else:  # in float64: a run that began so is known by the hash of what comes out
            product = up.double() @ down.double()
            whole = weight.to(torch.float64, copy=True)
            whole.chunk(count)[part].add_(_scale(module, len(down), config) * (product.t() if turned else product))
            found[name] = whole.to(weight.dtype)
    strange += [name for name in bare if "lora_" in name or ".base_layer." in name]
    if strange or not modules:
        raise UserError(
            f"the adapters in '{place}' are not of the weights '{base.place}': no place for "
            f"{listing(strange or list(adapters), 4)}\nname the weights that they were trained upon, beside them or as "
            f"base_model_name_or_path in {CONFIG}; where transformers calls these otherwise in memory than in files, "
            "merge the adapters with PEFT, and name the folder that it writes"
        )
    return found | {theirs(name)[0]: tensor for name, tensor in bare.items()}


def _prefixes(modules: Sequence[str], base: Published, config: Mapping[str, Any], place: Path) -> tuple[str, str]:
    """What to put before the names of the weights, and before those of the adapters, so that they meet: an encoder may
    have been published, or adapted, alone or within a model that has a head, or another encoder beside it.

    Raises:
        UserError: They meet in several encoders, and nothing says which of them is meant.
    """
    tensors, within = base.tensors, list[set[str]]()
    for wanted in (f"{module}.weight" for module in modules):
        outer, _, inner = wanted.partition(".")
        if wanted in tensors:
            return "", ""
        if inner in tensors:
            return f"{outer}.", ""
        within.append({name.removesuffix(wanted) for name in tensors if name.endswith(f".{wanted}")})
    fitting = sorted(set[str].intersection(*filter(None, within))) if any(within) else []
    mapping = config.get("auto_mapping")
    adapted = str(mapping.get("base_model_class")).lower() if isinstance(mapping, dict) else ""
    told = [prefix for prefix in fitting if prefix.partition("_")[0] in adapted] or fitting  # as in siglipvisionmodel
    if len(told) > 1:
        raise UserError(
            f"the adapters in '{place}' fit {listing(told, 4)} of '{base.place}' alike\n"
            "put the weights of the encoder that they were trained upon beside them, saved alone"
        )
    return "", "".join(told)


def _require_scales(place: Path, config: Mapping[str, Any]) -> None:
    """
    Raises:
        UserError: What `_scale` reads is not as it should be.
    """
    file, alphas = place / CONFIG, config.get("alpha_pattern") or {}
    if type(config.get("use_rslora")) not in (bool, type(None)):
        raise UserError(f"'{file}' has use_rslora {config['use_rslora']!r}\nset it to true or false, as it was trained")
    if not isinstance(alphas, dict):
        raise UserError(f"the alpha_pattern of '{file}' is no table of modules\nset it to {{}}, or copy the file anew")
    for what, alpha in {"lora_alpha": config.get("lora_alpha", 8), **alphas}.items():
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise UserError(f"'{file}' has for {what} {alpha!r}, which is no number\nset it as it was trained")
    for pattern in alphas:
        if not _is_pattern(pattern):
            raise UserError(
                f"the alpha_pattern of '{file}' has '{pattern}', which is not read\n"
                "name each module as it is, or merge the adapters with PEFT"
            )


def _is_pattern(text: str) -> bool:
    """Whether it is a regular expression that ends soon."""
    if not PATTERN.fullmatch(text) or text.count("*") + text.count("+") > MOST_REPEATS:
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """alpha / rank, or alpha / √rank (Kalajdzievski 2023, arXiv:2312.03732). An alpha may be a module's own."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    own = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module))
    alpha = next(own, config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
