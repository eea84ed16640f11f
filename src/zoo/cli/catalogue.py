"""Commands on what there is: ``zoo list``, ``zoo show`` and ``zoo registry``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.catalogue.wording import as_yaml
from zoo.cli.output import note, print_json, print_table
from zoo.errors import UserError, counted

if TYPE_CHECKING:
    from zoo.contract import Offered
    from zoo.registry import Registry
    from zoo.specs import Measured, RunSpec

registry_app = typer.Typer(help="Catalogues: hold one of yours against the schema.", no_args_is_help=True)
WEIGHTS = ("weights", "trained on", "source", "revision", "licence", "size", "reported", "by")
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def list_models(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as 'vit-*'.")] = "*",
    task: Annotated[str | None, typer.Option(help="Only models for this task.")] = None,
    plugin: Annotated[str | None, typer.Option(help="Only models of this plugin.")] = None,
    json: Json = False,
) -> None:
    """List the models.

    Example: zoo list 'vit-*' --task image-classification
    """
    from zoo import registry

    known = registry.open_registry()
    bridged = registry.offered(pattern, task=task, plugin=plugin)
    names = registry.list_models(pattern, task=task, plugin=plugin)
    rows = [_offered(name, bridged[name]) if name in bridged else _listed(known, name) for name in names]
    if json:
        return print_json(rows)
    if not rows:
        note("no model matches; run 'zoo list' for all")
        _note_bridges(pattern)
        return None
    print_table(
        ("model", "task", "parameters", "data", "result"),
        [(row["name"], row["task"], _count(row["parameters"]), row["data"], _result(row["measured"])) for row in rows],
    )
    note("parameters are the model's own; a recipe may change its rooms, as 'zoo show NAME' tells")
    if not bridged:
        _note_bridges(pattern)
    if known.problems:
        note(f"{counted(len(known.problems), 'problem')} in catalogues; run 'zoo plugins list'")
    return None


def show(
    name: Annotated[str, typer.Argument(help="A model of 'zoo list'.")],
    recipe: Annotated[str | None, typer.Option(help="A recipe of the model, such as digits.")] = None,
    data: Annotated[str | None, typer.Option(help="A dataset's name, a folder or a file.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any value of the spec, such as core.depth=6."),
    ] = None,
    json: Json = False,
) -> None:
    """Show a model as a command would train it: each value and where it came from, its cost, weights and licences.

    Example: zoo show vit-small --data mnist --set core.depth=6
    """
    from zoo.registry import open_registry

    known = open_registry()
    model = known.find("models", name)
    if recipe or data or settings or model.recipe:
        resolved = known.resolve(name, recipe=recipe, data=data, settings=settings or ())
    else:
        resolved = known.own(name)
    spec, values = resolved.spec, resolved.spec.model_dump(mode="json")
    dataset = known.datasets.get(spec.data.name)
    document = {
        "name": name,
        "description": model.description,
        "plugin": known.owner(name),
        "recipe": resolved.recipe,
        "recipes": {key: _measured(each.measured) for key, each in known.recipes_of(name).items()},
        **_costs(spec),
        "published_parameters": _published_parameters(name),
        "weights": {key: each.model_dump(mode="json") for key, each in model.weights.items()},
        "data": dataset and dataset.model_dump(mode="json"),
        "spec": values,
        "sources": dict(resolved.sources),
    }
    return print_json(document) if json else _print_model(document)


@registry_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A catalogue, such as a plugin's registry.yaml.")], json: Json = False
):
    """Hold a catalogue against the schema, the installed tasks and the names of other catalogues; name every error.

    Example: zoo registry check registry.yaml
    """
    from zoo.registry import check as find_problems

    problems = find_problems(file)
    fields = ("file", "line", "column", "message")
    if json:
        print_json([{key: getattr(problem, key) for key in fields} for problem in problems])
    if problems:
        listed = [] if json else [str(problem) for problem in problems]
        raise UserError("\n".join([f"{counted(len(problems), 'problem')} in {file}", *listed]))
    note(f"{file}: no problems")


@registry_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a catalogue.

    Editors check as you type when the catalogue begins with: # yaml-language-server: $schema=registry.schema.json

    Example: zoo registry schema > registry.schema.json
    """
    from zoo.catalogue import json_schema

    print_json(json_schema())


def _listed(known: Registry, name: str) -> dict[str, Any]:
    """A row. A model that its task refuses is listed too, with no parameters."""
    measured = known.measured(name)
    try:
        parameters = _costs(known.own(name).spec)["parameters"]
    except UserError as error:
        note(str(error))
        parameters = None
    return {
        "name": name,
        "task": known.models[name].task,
        "plugin": known.owner(name),
        "description": known.models[name].description,
        "parameters": parameters,
        "data": known.default_data(name),
        "measured": measured and {"data": measured[0], **(_measured(measured[1]) or {})},
    }


def _offered(name: str, offered: Offered) -> dict[str, Any]:
    """A row of a bridge's model."""
    from zoo import plugins

    bridging = plugins.bridge_of(name)
    assert bridging is not None, "a bridge offers it"
    facts = {"plugin": bridging.plugin, "description": offered.description, "parameters": offered.parameters}
    return {"name": name, "task": offered.task, **facts, "data": None, "measured": None}


def _note_bridges(pattern: str) -> None:
    """Where the models are that are not listed unless asked for."""
    from zoo import plugins

    if listed := [f"zoo list {quote(f'{each.bridge.prefix}/{pattern}')}" for each in plugins.bridges()]:
        note(f"models of other libraries: {', '.join(listed)}")


def _published_parameters(name: str) -> int | None:
    from zoo import plugins

    bridging = plugins.bridge_of(name)
    offered = bridging.offered().get(name) if bridging else None
    return offered.parameters if offered else None


def _measured(measured: Measured | None) -> dict[str, Any] | None:
    return measured and measured.model_dump(mode="json")


def _costs(spec: RunSpec) -> dict[str, int | None]:
    """By the task's formula; nothing where it has none."""
    from zoo import plugins
    from zoo.cost import training_memory_bytes

    cost = plugins.cost(spec)
    if cost is None:
        return {"parameters": None, "flops": None, "training_memory_bytes": None}
    return {
        "parameters": cost.parameters,
        "flops": cost.flops,
        "training_memory_bytes": training_memory_bytes(cost, spec.train),
    }


def _print_model(document: dict[str, Any]) -> None:
    from zoo.registry.resolution import ROOMS, leaves

    spec, data, recipe = document["spec"], document["data"], document["recipe"]
    facts: list[tuple[str, str]] = []
    if document["published_parameters"] is not None:
        facts.append(("parameters", f"{document['published_parameters']:,} as published"))
    elif document["parameters"] is None:
        facts.append(("parameters", f"task '{spec['task']}' has no formula"))
    else:
        memory = document["training_memory_bytes"] / 2**30
        facts.append(("parameters", f"{document['parameters']:,}"))
        facts.append(("forward", f"{document['flops'] / 1e9:.3g} GFLOPs an item"))
        facts.append(("training memory", f"about {memory:.2g} GiB in fp32, batch {spec['train']['batch_size']}"))
    facts.append(("task", spec["task"]))
    facts.append(("plugin", document["plugin"]))
    facts.append(("recipe", f"{recipe or 'none'}; there are: {', '.join(document['recipes']) or 'none'}"))
    if measured := document["recipes"].get(recipe):
        took = f"{measured['seconds']:.0f} s on {measured['hardware']}"
        facts.append(("measured", f"{_result({'data': spec['data']['name'], **measured})}, {took}"))
    facts.append(("data", f"{data['description']}; {data['license']}" if data else spec["data"]["name"]))

    print(f"{document['name']}: {document['description'] or spec['task']}\n")
    print_table(("", ""), facts)
    print()
    if document["weights"]:
        print_table(WEIGHTS, [_weights(key, each) for key, each in document["weights"].items()])
        print()
    values = leaves({room: spec[room] for room in ROOMS})
    rows = [(".".join(map(str, keys)), as_yaml(value)) for keys, value in values]
    print_table(("key", "value", "from"), [(key, value, document["sources"][key]) for key, value in rows])


def _weights(name: str, weights: dict[str, Any]) -> tuple[str | None, ...]:
    """A row. A revision is told by its first digits; ``--json`` has them all."""
    size, revision, reported = weights["size_bytes"], weights["revision"], weights["reported"]
    return (
        name,
        weights["description"],
        weights["source"],
        revision and revision[:8],
        weights["license"],
        size and f"{size / 1e6:.0f} MB",
        reported and f"{reported['metric']} {reported['value']:.4f} on {reported['data']}",
        reported and reported["source"],
    )


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _result(measured: dict[str, Any] | None) -> str | None:
    if measured is None:
        return None
    spread = "" if measured["std"] is None else f" ± {measured['std']:.4f}"
    seeds = counted(measured["seeds"], "seed")
    return f"{measured['metric']} {measured['value']:.4f}{spread} on {measured['data']}, {seeds}"
