"""The conformance kit: a sound plugin passes, and each check finds the fault that it is for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import zoo.testing
from zoo import plugins
from zoo.cost import Cost
from zoo.errors import UserError
from zoo.registry import register


def outcome(plugin: str, check: str) -> zoo.testing.Result:
    return next(result for result in zoo.testing.run_checks(plugin) if result.check == check)


def test_a_sound_plugin_passes(tiny: str) -> None:
    results = {result.check: result for result in zoo.testing.run_checks("zoo_tiny")}
    assert {name for name, result in results.items() if result.status != "passed"} == {"formula"}
    assert results["formula"].status == "skipped"
    assert all(result.purpose and "\n" not in result.purpose for result in results.values())
    assert list(results) == list(map(str, zoo.testing.checks("zoo_tiny")))


# ---------------------------------------------------------------- faults of a task


def unused_parameter(sums: Any) -> None:
    build = sums.build

    def wrong(spec: Any) -> nn.Module:
        model = build(spec)
        model.head.spare = nn.Parameter(torch.zeros(3))
        return model

    sums.build = staticmethod(wrong)


def statistics_of_the_batch(sums: Any) -> None:
    build = sums.build

    def wrong(spec: Any) -> nn.Module:
        model = build(spec)
        model.head.register_forward_hook(lambda _, __, logits: logits - logits.mean(0))
        return model

    sums.build = staticmethod(wrong)


def unsaved_buffer(sums: Any) -> None:
    build = sums.build

    def wrong(spec: Any) -> nn.Module:
        model = build(spec)
        model.head.register_buffer("drawn", torch.randn(2), persistent=False)
        model.head.register_forward_hook(lambda head, _, logits: logits + head.drawn)
        return model

    sums.build = staticmethod(wrong)


def count_of_calls(sums: Any) -> None:
    build = sums.build

    def wrong(spec: Any) -> nn.Module:
        model = build(spec)
        model.head.calls = 0

        def scaled(head: Any, _: Any, logits: torch.Tensor) -> torch.Tensor:
            head.calls += head.training
            return logits * (1 + head.calls)

        model.head.register_forward_hook(scaled)
        return model

    sums.build = staticmethod(wrong)


def loss_as_mean(sums: Any) -> None:
    loss = sums.loss

    def wrong(self: Any, output: Any, batch: Any) -> tuple[torch.Tensor, int]:
        total, count = loss(self, output, batch)
        return total / count, count

    sums.loss = wrong


def loss_that_teaches_nothing(sums: Any) -> None:
    sums.loss = lambda self, output, batch: (output.logits.sum() * 0 + 1, len(batch.ids))


def an_error_to_be_as_large_as_can_be(sums: Any) -> None:
    measure = sums.measure
    sums.measure = lambda self, records: replace(measure(self, records), primary="log_loss")


def records_in_another_order(sums: Any) -> None:
    decode = sums.decode
    sums.decode = lambda self, output, batch: decode(self, output, batch)[::-1]


def prediction_from_the_target(sums: Any) -> None:
    decode = sums.decode
    sums.decode = lambda self, output, batch: [
        replace(record, prediction=7 if record.target is None else 0) for record in decode(self, output, batch)
    ]


def generation_that_differs(sums: Any) -> None:
    count = iter(range(100))
    sums.generate = lambda self, model, batch, output: [
        replace(record, prediction=next(count)) for record in self.decode(output or model(batch.inputs), batch)
    ]


def generation_in_another_order(sums: Any) -> None:
    sums.generate = lambda self, model, batch, output: self.decode(output or model(batch.inputs), batch)[
        :: -1 if output is None else 1
    ]


def noise_from_the_global_generator(sums: Any) -> None:
    transform = sums.transform

    def wrong(self: Any, item: Any, rng: Any) -> Any:
        sample = transform(self, item, rng)
        return {**sample, "numbers": sample["numbers"] + np.float32(np.random.normal())}

    sums.transform = wrong


@pytest.mark.parametrize(
    ("fault", "check", "reason"),
    [
        (unused_parameter, "gradients", "no gradient reaches head.spare"),
        (statistics_of_the_batch, "alone as in a batch", "item 0 differs by"),
        (loss_as_mean, "loss adds up", "of the batch"),
        (loss_that_teaches_nothing, "overfits", "the loss went from"),
        (an_error_to_be_as_large_as_can_be, "overfits", "is Measures.higher_is_better right?"),
        (records_in_another_order, "records", "ids are not the batch's"),
        (prediction_from_the_target, "records", "predictions depend on the targets"),
        (generation_that_differs, "records", "`generate` is no function"),
        (generation_in_another_order, "records", "`generate`: the records' ids are not the batch's"),
        (noise_from_the_global_generator, "transform", "two calls for item 'train/0' without a generator differ"),
        (unsaved_buffer, "save and load", "the output is another after loading"),
        (count_of_calls, "resume", "model.safetensors is another after a resume"),
    ],
)
def test_each_check_finds_its_fault(
    tiny: str, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any], None], check: str, reason: str
) -> None:
    import zoo_tiny.task

    broken = type("Sums", (zoo_tiny.task.Sums,), {})
    fault(broken)
    monkeypatch.setattr(zoo_tiny.task, "Sums", broken)
    found = next(each for each in zoo.testing.checks("zoo_tiny") if each.name == check)
    with pytest.raises(AssertionError, match=reason):
        found()


def test_every_failure_is_named(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import zoo_tiny.task

    broken = type("Sums", (zoo_tiny.task.Sums,), {})
    loss_as_mean(broken)
    broken.measure = lambda self, records: 1 / 0  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(zoo_tiny.task, "Sums", broken)
    with pytest.raises(AssertionError, match=r"(?s)fails 4 of 12 checks:.*loss adds up: .*records: ZeroDivisionError"):
        zoo.testing.check_plugin("zoo_tiny")


# ---------------------------------------------------------------- faults of a plugin


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes a plugin's package, to be loaded by its name."""

    def write(name: str, code: str, catalogue: str = "schema_version: 1\n") -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(dedent(code))
        (tmp_path / name / "registry.yaml").write_text(catalogue)
        monkeypatch.setenv("ZOO_PLUGINS", name)
        plugins.reset()
        return name

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    plugins.reset()


EMPTY = """
    from zoo.contract import API_VERSION, Manifest, hookimpl
    @hookimpl
    def zoo_manifest(): return Manifest(API_VERSION, datasets={datasets})
"""


def test_a_plugin_that_is_not_loaded_fails_at_once(module: Callable[..., str]) -> None:
    (result,) = zoo.testing.run_checks(module("zoo_fails", "1 / 0"))
    assert (result.check, result.status) == ("manifest", "failed")
    assert "ZeroDivisionError" in result.reason


def test_a_dataset_without_a_card(module: Callable[..., str]) -> None:
    name = module("zoo_cardless", EMPTY.format(datasets="{'orphan': 'zoo_cardless:load'}"))
    assert "dataset 'orphan' has no card" in outcome(name, "catalogue").reason


def test_a_catalogue_with_a_mistake(module: Callable[..., str]) -> None:
    name = module("zoo_mistaken", EMPTY.format(datasets="{}"), "schema_version: 1\nmodel: {}\n")
    assert "registry.yaml:2:1: model: unknown key 'model'; did you mean 'models'?" in outcome(name, "catalogue").reason


def test_a_manifest_that_imports_torch(module: Callable[..., str]) -> None:
    name = module("zoo_heavy", "import torch\n" + dedent(EMPTY.format(datasets="{}")))
    assert outcome(name, "light").reason == "it imports torch"


def test_a_formula_that_miscounts(tiny: str) -> None:
    import zoo_tiny.task
    from zoo_tiny.spec import AugmentSpec, HeadSpec

    register(
        task=zoo_tiny.task.Sums,
        name="sums-again",
        head=HeadSpec,
        augment=AugmentSpec,
        cost=lambda spec: Cost(parameters=7),
        models={
            "sums-again-micro": {"task": "sums-again", "core": {"dim": 8, "depth": 1, "num_heads": 2}, "recipe": "x"}
        },
        recipes={"sums-again-micro/x": {"data": "sums-again"}},
        datasets={"sums-again": zoo_tiny.task.load},
    )
    formula = next(check for check in zoo.testing.checks("session") if check.name == "formula")
    with pytest.raises(AssertionError, match="the formula says 7 parameters, sums-again-micro has"):
        formula()


def test_an_unknown_plugin() -> None:
    with pytest.raises(UserError, match=r"unknown plugin 'vitt'; did you mean 'vit'\?"):
        zoo.testing.checks("vitt")
