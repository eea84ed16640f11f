"""Which models of transformers the bridge leads to, without transformers: a list of kinds, each tried, and of a
publication of each. It comes with the plugin; ``zoo plugins refresh transformers`` makes a newer one. Torch-free."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.contract import Offered
from zoo.errors import UserError, did_you_mean, listing
from zoo.files import user_path
from zoo.plugins.indices import Index
from zoo.specs import ModelSpec
from zoo.weights.processors import heard_of, longest_of, read_processor, seen_of
from zoo_transformers.places import EXAMPLES, config_of, has_tokenizer, is_address, place_of
from zoo_transformers.spec import IMAGE, SPEECH, TEXT, stride

INDEX = Index("transformers", Path(__file__).with_name("index.json"), "kinds")
ENDINGS = {"ForCTC": SPEECH, "ForImageClassification": IMAGE, "ForSequenceClassification": TEXT}
"""Of the class that a configuration says it was published with, where its kind is for several tasks."""
POSITIONS = ("max_position_embeddings", "n_positions")
"""What configurations call the number of positions."""
BEHIND_PADDING = (
    *("camembert", "data2vec-text", "esm", "ibert", "markuplm", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl"),
)
"""Kinds whose first position is that behind the padding token's number; MPNet's is 2 always."""
LEFT_OUT = (
    "architectures",
    "auto_map",
    "custom_pipelines",
    "dtype",
    "id2label",
    "label2id",
    "model_type",
    "num_labels",
    "problem_type",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
)
"""Of a configuration: what says nothing of the network."""


def kinds() -> Mapping[str, Any]:
    """``{model_type: {"tasks": [...], "published": name or None}}``."""
    return INDEX.entries()


def offered() -> Mapping[str, Offered]:
    """The examples, and a publication of each kind; the Hub has thousands more."""
    found: dict[str, Offered] = {}
    for folder in sorted(EXAMPLES.iterdir()):
        task = task_of(config_of(folder))
        found[folder.name] = Offered(task, description="a small one without weights")
    for kind, facts in kinds().items():
        if facts["published"]:
            found[facts["published"]] = Offered(facts["tasks"][0], description=f"a {kind} of the Hugging Face Hub")
    return found


def task_of(config: Mapping[str, Any]) -> str:
    """The task that a configuration is for.

    Raises:
        UserError: The bridge does not lead to its kind.
    """
    kind = config["model_type"]
    tasks: Sequence[str] = kinds().get(kind, {}).get("tasks", ())
    if not tasks:
        known = {task: [each for each, facts in kinds().items() if task in facts["tasks"]] for task in ENDINGS.values()}
        said = "".join(f"\n{task}: {listing(each, 40)}" for task, each in known.items())
        more = "; it needs code of its publisher, which is never run" if config.get("auto_map") else ""
        raise UserError(f"'{kind}' is none of the architectures that the bridge to transformers leads to{more}{said}")
    published: list[str] = [each for each in config.get("architectures") or () if isinstance(each, str)]
    wanted = next((task for end, task in ENDINGS.items() if any(each.endswith(end) for each in published)), None)
    return wanted if wanted is not None and wanted in tasks else tasks[0]


def model(name: str) -> ModelSpec:
    """A folder of transformers, or a model of the Hugging Face Hub, as far as it is on this machine.

    Raises:
        UserError: It is not here, or is of a kind that the bridge does not lead to.
    """
    folder = place_of(name)
    if folder is None:
        raise _missing(name)
    config = config_of(folder)
    task = task_of(config)
    options = {key: value for key, value in config.items() if key not in LEFT_OUT and not key.startswith("_")}
    source = f"hf:{name}" if is_address(name) else str(folder)
    weights = {} if folder.parent == EXAMPLES else {"pretrained": {"source": source, "license": "unknown"}}
    return ModelSpec.model_validate(
        {
            "task": task,
            "description": f"a {config['model_type']} of transformers",
            "core": {"architecture": config["model_type"], "options": options},
            "embed": _embed(task, folder, config),
            "weights": weights,
        }
    )


def _embed(task: str, folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    if task == IMAGE:
        return image_settings(config, folder)
    if task == SPEECH:
        stride(config)
        return speech_settings(folder)
    return {**text_settings(config, folder), **({"tokenizer": str(folder)} if has_tokenizer(folder) else {})}


def text_settings(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of `embed`, by a model's configuration and its tokenizer's."""
    most = longest_of(folder, most_tokens(config))
    return {} if most is None else {"max_tokens": most}


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """How many tokens of a text a configuration has positions for; None where it bounds them not."""
    most = next((config[key] for key in POSITIONS if isinstance(config.get(key), int)), None)
    if most is None or config["model_type"] not in BEHIND_PADDING:
        return most
    taken = config.get("pad_token_id")
    return most - 1 - (taken if type(taken) is int and config["model_type"] != "mpnet" else 1)


def image_settings(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of `embed`, by a model's configuration and its image processor's.

    Raises:
        UserError: Its pictures are no squares, or are read as ours cannot be.
    """
    own = config.get("image_size") or 224
    sides = list(own) if isinstance(own, list | tuple) else [own]
    if any(type(each) is not int or each != sides[0] for each in sides):
        raise UserError(f"the model reads pictures of {own} pixels, and ours are squares\nname another model")
    said = seen_of(read_processor(folder, "image_processor"), folder)
    return {"image_size": sides[0], "channels": config.get("num_channels") or 3, **_of_embed(said)}


def speech_settings(folder: Path) -> dict[str, Any]:
    """Of `embed`, by a feature extractor's configuration.

    Raises:
        UserError: Recordings are read as ours cannot be.
    """
    return _of_embed(heard_of(read_processor(folder, "feature_extractor"), folder))


def _of_embed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("embed."): value for key, value in settings.items()}


def _missing(name: str) -> UserError:
    if user_path(name).is_dir():
        return UserError(f"the folder '{name}' has no config.json: it is none of transformers'\nname another folder")
    near = "" if name in offered() else did_you_mean(name, offered())
    if is_address(name):
        return UserError(
            f"the model 'hf/{name}' is not on this machine{near}\n"
            "'zoo train' fetches its configuration from the Hugging Face Hub, and --weights pretrained its weights; "
            f"or set ZOO_MIRROR to a folder that holds it as '{name}/'"
        )
    return UserError(
        f"there is no folder '{name}', and no such model of the Hugging Face Hub{near}\n"
        "write hf/FOLDER or hf/OWNER/NAME; 'zoo list hf/*' shows some"
    )
