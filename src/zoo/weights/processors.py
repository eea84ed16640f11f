"""How published weights want pictures, recordings and texts to be prepared: what transformers' processors and
tokenizers write beside them, and timm into their `config.json`.

Torch-free: a model is shown by it before anything is loaded.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from zoo.errors import UserError
from zoo.files import read_json

FILE = "preprocessor_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WHOLE = "processor_config.json"
"""Where newer publications have the same, as ``image_processor`` or ``feature_extractor``."""
RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
BICUBIC = ("Beit", "DeiT", "EfficientNet", "Siglip")
"""Kinds that resize so where nothing else is said, though they keep no shape."""
WARPED = 384
"""From this side on, ConvNeXT's processor squashes a picture rather than crop it."""
LONGEST = 1_000_000
"""Tokens that a spec can ask for; a tokenizer without a bound says that it has one of some 10³⁰."""
NAMED: Mapping[str, tuple[str, ...]] = {
    "bos": ("<s>", "<bos>"),
    "eos": ("</s>", "<eos>"),
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What special tokens are called where nothing says it."""
BEGUN = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert", "albert", "deberta-v2")
"""Kinds whose texts begin with a token of their own."""
_BOUNDS = ("bos", "eos", "pad", "cls", "sep")
STANDING_IN: Mapping[str, tuple[str, ...]] = {"bos": _BOUNDS, "eos": _BOUNDS, "pad": ("eos",)}
"""Of what a configuration and a tokenizer both say: which other special tokens true publications have in its place.
BigBird's begins and ends the other way round, Qwen's embeddings end with what fills up."""
VOCABULARIES = ("vocab.txt", "vocab.json", "spm.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
"""In which older publications have their tokens."""
OF_TIMM: Mapping[str, Any] = {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"}
"""What timm says of a picture's reading, and what it does where it says nothing."""


def read_processor(folder: Path, part: Literal["image_processor", "feature_extractor"]) -> Mapping[str, Any]:
    """The settings of a processor; empty where none was published. As in transformers, `WHOLE` comes first."""
    if (file := folder / WHOLE).is_file() and isinstance(found := read_json(file).get(part), dict):
        return found
    return read_json(file) if (file := folder / FILE).is_file() else {}


def heard_of(processor: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """How a recording is read, as settings by dotted key; where nothing is said, as transformers does: 16 kHz,
    normalised.

    Raises:
        UserError: It is not what our recordings can be.
    """
    rate, normalise = processor.get("sampling_rate", 16_000), processor.get("do_normalize", True)
    said = f"the feature extractor of '{folder}'"
    if type(rate) is not int or not 1000 <= rate <= 192_000:
        raise UserError(f"{said} has sampling_rate {rate!r}, which is no rate of samples\ncopy or download it anew")
    if processor.get("feature_size", 1) != 1:
        raise UserError(f"{said} asks for features, not for samples\nname weights that hear samples")
    return {"embed.sample_rate_hz": rate, "embed.normalise": bool(normalise)}


def seen_of(processor: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What of a picture the weights are given, as settings by dotted key; nothing of what nothing says.

    Raises:
        UserError: It is not what our pictures can be.
    """
    size = processor.get("size") if processor.get("do_resize", True) else None
    crop = processor.get("crop_size") if processor.get("do_center_crop", True) else None
    keeps_shape = "shortest_edge" in size if isinstance(size, dict) else _keeps_shape(processor)
    share = _share(processor) if size is not None else None
    if crop is None and keeps_shape and share is None:
        return {}  # of a picture that keeps its shape, which the weights are given whole
    whole, side = (_square(each, folder) for each in (size, crop))
    if whole is None:
        return {} if side is None else {"embed.image_size": side}
    side = side or whole
    if share is not None and _kind(processor).startswith("ConvN") and whole >= WARPED:
        keeps_shape = False
    elif share is not None:
        keeps_shape, whole = True, int(whole / share)
    resample = processor.get("resample", 3 if keeps_shape or _kind(processor).startswith(BICUBIC) else 2)
    if side > whole or resample not in RESAMPLE:
        raise UserError(
            f"the image processor of '{folder}' makes pictures of {side} pixels from {whole}, by Pillow's "
            f"resampling {resample}, which ours cannot be\ngive it a crop_size that is no larger than its size, and "
            f"resample {' or '.join(map(str, RESAMPLE))}"
        )
    share = side / whole
    return {
        "embed.image_size": side,
        "embed.crop_fraction": share if math.floor(side / share) == whole else math.nextafter(share, 0),
        "embed.crop_mode": "center" if keeps_shape else "squash",
        "embed.interpolation": RESAMPLE[resample],
    }


def _kind(processor: Mapping[str, Any]) -> str:
    return str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")


def _share(processor: Mapping[str, Any]) -> float | None:
    """The share of the shorter side that is cropped, where a processor has it rather than a larger size: a value of
    ConvNeXT's and PoolFormer's, written into LeViT's code."""
    kind = _kind(processor)
    share = processor.get("crop_pct", 224 / 256 if kind.startswith(("ConvN", "Levit")) else None)
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else None


def _keeps_shape(processor: Mapping[str, Any]) -> bool:
    """What a single number for a size means, which older publications have, says the processor's kind."""
    return _kind(processor).startswith(("CLIP", "Bit", "ConvN", "Levit", "PoolFormer"))


def _square(size: Any, folder: Path) -> int | None:
    """The side of a square.

    Raises:
        UserError: It is none.
    """
    found = size
    if isinstance(size, dict):
        sides = [size[key] for key in ("shortest_edge", "height", "width") if size.get(key) is not None]
        found = sides[0] if sides and all(each == sides[0] for each in sides) else size
    if found is None or (type(found) is int and found > 0):
        return found
    raise UserError(
        f"the image processor of '{folder}' makes pictures of {found!r} pixels, which is no square of whole pixels\n"
        "name weights for square pictures"
    )


def normalisation_of(processor: Mapping[str, Any], folder: Path, channels: int) -> dict[str, list[float]]:
    """Mean and deviation of each channel, of values from 0 to 1; empty where nothing says them.

    Raises:
        UserError: They are no numbers, or too few, or of channels in another order than ours.
    """
    flips = processor.get("do_flip_channel_order", _kind(processor).startswith("MobileViT"))
    if flips or processor.get("do_flip_channels"):
        raise UserError(
            f"the image processor of '{folder}' gives blue before red, which is not done here\n"
            "begin with random numbers, or name another publication"
        )
    if not processor.keys() & {"image_mean", "image_std", "do_normalize"}:
        return {}
    if processor.get("do_normalize", True):
        values: dict[str, Any] = {"mean": processor.get("image_mean"), "std": processor.get("image_std")}
    else:
        values = {"mean": [0.0] * channels, "std": [1.0] * channels}
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    known = _are_numbers([factor], 1) and all(_are_numbers(each, channels) for each in values.values())
    if not known or not all([factor, *values["std"]]):
        raise UserError(
            f"the image_mean and image_std of the image processor of '{folder}' are not {channels} numbers "
            "each, or a deviation is 0\ncopy or download it anew"
        )
    whole = 255 * factor  # what a picture's white is to the processor
    shares = {key: [each / whole for each in value] for key, value in values.items()}
    if not math.isclose(whole, 1.0):
        return shares
    return {key: list(map(float, value)) for key, value in values.items()}  # as they are written, to the last digit


# ---------------------------------------------------------------- texts


def longest_of(folder: Path, positions: int | None) -> int | None:
    """Tokens of a text, at most, by its model and its tokenizer; None where neither has a bound.

    Args:
        positions: That the model has.
    """
    said = _tokenizer_config(folder)
    most = said.get("model_max_length", said.get("max_len"))  # the latter of old
    bounds = [] if positions is None else [min(positions, LONGEST)]
    if isinstance(most, int | float) and 3 <= most <= LONGEST:
        bounds.append(int(most))
    return min(bounds, default=None)


def without_tokenizer(folder: Path) -> UserError:
    older = [name for name in VOCABULARIES if (folder / name).is_file()]
    remedy = f"; of {older[0]}, save_pretrained of transformers' own tokenizer makes one" if older else ""
    return UserError(
        f"'{folder}' has no tokenizer.json: the tokens of another mean nothing to the weights\n"
        f"put the tokenizer.json that was published with the weights beside them{remedy}"
    )


def require_own_tokenizer(tokenizer: str, config: Mapping[str, Any], folder: Path) -> None:
    """Hold what a configuration says of special tokens against what a tokenizer does, where both say something.

    Args:
        tokenizer: As a `tokenizer.json` has it.

    Raises:
        UserError: They contradict each other, so that the tokenizer is another model's.
    """
    from tokenizers import Tokenizer

    own = Tokenizer.from_str(tokenizer)
    said = _tokenizer_config(folder)
    begun = config.get("model_type") in BEGUN
    read = ("cls", "sep", "mask", "bos", "eos") if begun else ("bos", "eos")  # which the weights have vectors for
    names = [name for role in read if isinstance(name := _name(said.get(f"{role}_token")), str)]
    if lost := [name for name in names if own.token_to_id(name) is None]:
        raise UserError(
            f"the tokenizer.json in '{folder}' is another model's: it has no '{lost[0]}', which the tokenizer's "
            "configuration beside it names\nput both that were published with the weights beside them"
        )
    named = _special_tokens(own, said)
    special = own.get_added_tokens_decoder()
    classes = {str(each.get("tokenizer_class") or "").removesuffix("Fast") for each in (config, said)}
    agreed = len(classes) == 1 and "" not in classes  # of another family, and known to be, such as multilingual BERTs
    for role, others in STANDING_IN.items():
        name, number = named.get(role), config.get(f"{role}_token_id")
        ids = [each for each in (number if isinstance(number, list) else [number]) if type(each) is int and each >= 0]
        known = [each for each in ids if own.id_to_token(each) is not None]  # others are inherited, of no tokenizer
        if name is None or not known or own.token_to_id(name) in known or (role == "pad" and agreed):
            continue
        token = own.id_to_token(known[0])
        roles = [each for each, called in named.items() if called == token]
        is_special = known[0] in special and special[known[0]].special
        if not is_special or (roles and not set(roles) & set(others)):
            key, its = f"{role}_token_id", f"its {role} token '{name}' is {own.token_to_id(name)}"
            raise UserError(
                f"the tokenizer in '{folder}' is another model's: {its}, and config.json has {key} {known[0]}, which "
                f"is '{token}' there\nput the tokenizer that was published with the weights beside them; if it was, "
                f"mend {key} in config.json"
            )
    if begun and own.encode("a").special_tokens_mask[:1] != [1]:
        raise UserError(
            f"the tokenizer in '{folder}' puts no token before a text, where a '{config['model_type']}' has one to "
            "read\nput the tokenizer that was published with the weights beside them; if it was, save_pretrained of "
            "transformers' own tokenizer writes what it puts there"
        )


def _name(token: Any) -> Any:
    """A special token's, which may be said with how it is cut off."""
    return token.get("content") if isinstance(token, dict) else token


def _special_tokens(tokenizer: Any, said: Mapping[str, Any]) -> dict[str, str]:
    """A tokenizer's special tokens by what they are for; what is said to be none is left out."""
    found: dict[str, str] = {}
    for role, usual in NAMED.items():
        name = _name(said.get(f"{role}_token", usual[0]))
        here = [each for each in (name, *usual) if isinstance(each, str) and tokenizer.token_to_id(each) is not None]
        if name is not None and here:
            found[role] = here[0]
    return found


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    """What stands beside a tokenizer, in the older place and in the newer, which comes first."""
    files = [folder / name for name in ("special_tokens_map.json", TOKENIZER_CONFIG)]
    return {key: value for file in files if file.is_file() for key, value in read_json(file).items()}


# ---------------------------------------------------------------- timm


def timm_card(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What timm says of weights in their `config.json`: of old beside the architecture, now apart."""
    inner = config.get("pretrained_cfg") or {}
    return {**config, **(inner if isinstance(inner, dict) else {"mean": inner})}  # told of as a mean that is none


def seen_by_timm(card: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """What of a picture the weights are given, as settings by dotted key, as `timm.data.resolve_data_config` has it;
    nothing where nothing is said.

    Raises:
        UserError: It is not what our pictures can be.
    """
    if not card.keys() & {*OF_TIMM, "mean", "std"}:
        return {}
    said = {key: card.get(key) or usual for key, usual in OF_TIMM.items()}
    share, mode, way = said.values()
    is_share = _are_numbers([share], 1) and 0 < share <= 1
    if not is_share or mode not in ("center", "squash") or way not in RESAMPLE.values():
        told = "; ".join(f"{key} {value}" for key, value in said.items())
        raise UserError(
            f"the pictures of '{place}' are read otherwise than ours can be: {told}\n"
            "give its config.json a crop_mode of center or squash, a crop_pct of at most 1, and bicubic, bilinear or "
            "nearest"
        )
    seen = {"crop_fraction": share, "crop_mode": mode, "interpolation": way, "resizer": "pillow"}
    return {f"embed.{key}": value for key, value in seen.items()}


def normalised_by_timm(card: Mapping[str, Any], channels: int, place: Path) -> dict[str, list[float]]:
    """Mean and deviation of each channel, of values from 0 to 1; empty where nothing says them.

    Raises:
        UserError: They are no numbers, or not one a channel.
    """
    said = {key: card[key] for key in ("mean", "std") if key in card}
    found = {key: list(values) if isinstance(values, tuple) else values for key, values in said.items()}  # timm's own
    if found and not all(_are_numbers(found.get(key), channels) for key in ("mean", "std")):
        raise UserError(
            f"the mean and std in the config.json of '{place}' are not {channels} numbers each\n"
            "copy or download it anew"
        )
    return found


def _are_numbers(values: Any, count: int) -> bool:
    known = isinstance(values, list) and len(values) == count
    return known and all(isinstance(each, int | float) and math.isfinite(each) for each in values)
