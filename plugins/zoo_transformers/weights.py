"""Published weights of transformers' models, for transformers' models.

Tensors are read here, and its own loader says what is what: older names, and what a head of another task leaves over.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, listing
from zoo.specs import RunSpec, network_of
from zoo.weights import Published, Row, Table
from zoo.weights.processors import normalisation_of, read_processor, require_own_tokenizer
from zoo_transformers.image import create_image
from zoo_transformers.index import LEFT_OUT, image_settings, kinds, speech_settings, text_settings
from zoo_transformers.network import has_own_pooler, quiet, trunk_of
from zoo_transformers.spec import IMAGE, SPEECH, TEXT
from zoo_transformers.speech import create_speech
from zoo_transformers.text import create_text, tokenizer_of

FORGOTTEN = (r"(.*\.)?(pooler|position_ids|inv_freq)(\..*)?",)
"""Regular expressions of tensors of a trunk that a model may have no use for."""


@dataclass(frozen=True)
class Publication:
    """Weights of a model for a task.

    Args:
        settings_of: What else they decide of a spec.
        info_of: What comes with them besides numbers.
        create: transformers' own model, whole, of a spec.
        core: Where the trunk lies in our model.
        first: The part of the trunk that is our first room, if any.
    """

    task: str
    settings_of: Callable[[Published], Mapping[str, Any]]
    info_of: Callable[[Published], Mapping[str, Any]]
    create: Callable[[RunSpec], Any]
    core: str = "core.network"
    first: str | None = None
    name: str = "transformers"

    def recognises(self, published: Published) -> bool:
        kind = published.config.get("model_type")
        return isinstance(kind, str) and self.task in kinds().get(kind, {}).get("tasks", ())

    def settings(self, published: Published) -> Mapping[str, Any]:
        config = published.config
        options = {key: each for key, each in config.items() if key not in LEFT_OUT and not key.startswith("_")}
        return {
            "core.architecture": config["model_type"],
            **{f"core.options.{key}": each for key, each in options.items()},
            **self.settings_of(published),
        }

    def info(self, published: Published) -> Mapping[str, Any]:
        return self.info_of(published)

    def table(self, spec: RunSpec) -> Table:
        """A row a child of the model, and first those that predict: whose shape changes with the number of targets."""
        with torch.device("meta"):
            whole, more = self.create(spec), self.create(_with_another_target(spec))
        shapes = {name: each.shape for name, each in more.state_dict().items()}
        predicting = [name for name, each in whole.state_dict().items() if shapes[name] != each.shape]
        trunk, names = trunk_of(whole), dict(whole.named_children())
        rows = [Row(f"head.network.{name}", name, predicts=True) for name in predicting]
        if trunk is None:
            return Table([Row(f"{self.core}.{name}", name) for name in names], adapt=self._adapt(spec, trunk))
        if has_own_pooler(getattr(whole, trunk)):
            rows.append(Row(f"head.network.{trunk}.pooler", f"{trunk}.pooler"))
        if self.first is not None:
            rows.append(Row("embed.network", f"{trunk}.{self.first}"))
        rows.append(Row(self.core, trunk))
        rows += [Row(f"head.network.{name}", name) for name in names if name != trunk]
        return Table(rows, adapt=self._adapt(spec, trunk))

    def _adapt(
        self, spec: RunSpec, trunk: str | None
    ) -> Callable[[nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]]:
        def adapted(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
            whole = self.create(spec)
            found = _by_its_loader(whole, tensors, trunk)
            return _blank_first(found, network_of(spec).options) if self.task == SPEECH else found

        return adapted


def _by_its_loader(whole: Any, tensors: Mapping[str, Tensor], trunk: str | None) -> Mapping[str, Tensor]:
    """Published tensors by the names that the model has now, with those of heads of other tasks left out.

    Raises:
        UserError: transformers cannot read them as the model's, or the trunk has no place for some.
    """
    wide = any(tensor.dtype == torch.float64 for tensor in tensors.values())
    try:
        with quiet():
            found, told = type(whole).from_pretrained(
                None,
                config=whole.config,
                state_dict=dict(tensors),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float64 if wide else torch.float32,
            )
    except Exception as error:  # of tensors that are another model's
        raise UserError(
            f"transformers cannot read the weights as a '{whole.config.model_type}': "
            f"{str(error).partition(chr(10))[0]}\nname weights of this model"
        ) from error
    strange = [
        name
        for name in told["unexpected_keys"]
        if (trunk is None or name.startswith(f"{trunk}.")) and not any(re.fullmatch(each, name) for each in FORGOTTEN)
    ]
    misfits: dict[str, str] = {
        name: f"{name} {list(theirs)}, not {list(ours)}" for name, theirs, ours in told["mismatched_keys"]
    }
    wrong = [said for name, said in misfits.items() if trunk is None or name.startswith(f"{trunk}.")]
    if strange or wrong:
        lines = {"weights without a place": strange, "not as needed": wrong}
        said = "".join(f"\n{what}: {listing(sorted(names), 12)}" for what, names in lines.items() if names)
        raise UserError(f"the weights do not fit the model{said}\nname weights of this model, or another model")
    lost = {*told["missing_keys"], *misfits}
    return {name: tensor for name, tensor in found.state_dict().items() if name not in lost}


def _with_another_target(spec: RunSpec) -> RunSpec:
    key = "num_symbols" if "num_symbols" in spec.head else "num_classes"
    number: Any = spec.head[key]
    return spec.model_copy(update={"head": {**spec.head, key: number + 1}})


def _classes(published: Published) -> list[str]:
    """Names of what the weights tell apart; none where they have none of their own."""
    found = published.config.get("id2label")
    names = {str(key): str(name) for key, name in found.items()} if isinstance(found, dict) else {}
    if not names or not all(map(str.isdecimal, names)):
        return []
    return [names[key] for key in sorted(names, key=int)]


def _num_classes(published: Published) -> dict[str, Any]:
    classes = _classes(published)
    return {"head.num_classes": len(classes)} if len(classes) > 1 else {}


def _text_settings(published: Published) -> Mapping[str, Any]:
    rows = published.config.get("vocab_size")
    several = published.config.get("problem_type") == "multi_label_classification"
    read = text_settings(published.config, published.folder)
    return {
        **_num_classes(published),
        **{f"embed.{key}": each for key, each in read.items()},
        **({"embed.vocab_size": rows} if isinstance(rows, int) else {}),
        "head.multi_label": several,
    }


def _text_info(published: Published) -> Mapping[str, Any]:
    classes = _classes(published)
    several = published.config.get("problem_type") == "multi_label_classification"
    targets = {"classes": classes, "multi_label": several} if classes else {}
    tokenizer = tokenizer_of(published.folder)
    require_own_tokenizer(tokenizer, published.config, published.folder)
    return {"tokenizer": tokenizer, **targets}


TEXTS = Publication(TEXT, _text_settings, _text_info, create_text)


def _image_settings(published: Published) -> Mapping[str, Any]:
    read = image_settings(published.config, published.folder)
    return {**_num_classes(published), **{f"embed.{key}": each for key, each in read.items()}}


def _image_info(published: Published) -> Mapping[str, Any]:
    channels = published.config.get("num_channels") or 3
    classes = _classes(published)
    return {
        **normalisation_of(read_processor(published.folder, "image_processor"), published.folder, channels),
        **({"classes": classes} if classes else {}),
    }


def _speech_settings(published: Published) -> Mapping[str, Any]:
    read, number = speech_settings(published.folder), published.config.get("vocab_size")
    symbols = {"head.num_symbols": number} if isinstance(number, int) else {}
    return {**symbols, **{f"embed.{key}": each for key, each in read.items()}}


def _speech_info(published: Published) -> Mapping[str, Any]:
    """Nothing: a training learns the characters of its data, and a head for them."""
    return {}


def _blank_first(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The scores' rows with the blank's first, where it stood elsewhere."""
    blank = options.get("pad_token_id") or 0
    found = dict(tensors)
    for name in ("lm_head.weight", "lm_head.bias"):
        if blank and name in found and blank < len(found[name]):
            rest = [index for index in range(len(found[name])) if index != blank]
            found[name] = found[name][[blank, *rest]]
    return found


PICTURES = Publication(IMAGE, _image_settings, _image_info, create_image)
RECORDINGS = Publication(
    SPEECH, _speech_settings, _speech_info, create_speech, core="core.trunk.network", first="feature_extractor"
)
