"""Relevance is the attention that it says it is."""

import numpy as np
import pytest
import torch

from zoo.contract import TaskEntry
from zoo.errors import UserError
from zoo.explain import explain_batch, explain_item, require_drawing, rollout, token_weights
from zoo.registry import register
from zoo.run import Run

LAYERS = [torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(i)).softmax(-1) for i in range(3)]


FIRST = torch.eye(5)[0]


def test_attention_is_the_readers_row_averaged_over_heads() -> None:
    found = token_weights(LAYERS, method="attention", readout=FIRST, num_prefix=1)
    torch.testing.assert_close(found, (LAYERS[-1][0, 0, 1:] + LAYERS[-1][1, 0, 1:]) / 2)


def test_several_readers_count_as_much_as_the_head_reads_them() -> None:
    readout = torch.tensor([0.0, 0.0, 0.5, 0.3, 0.2])
    found = token_weights(LAYERS, method="attention", readout=readout, num_prefix=2)
    rows = LAYERS[-1].mean(0)[:, 2:]
    torch.testing.assert_close(found, 0.5 * rows[2] + 0.3 * rows[3] + 0.2 * rows[4])


def test_rollout_multiplies_the_layers_with_their_residual() -> None:
    expected = np.eye(5)
    for layer in LAYERS:
        mixed = layer.mean(0).double().numpy() + np.eye(5)
        expected = mixed / mixed.sum(-1, keepdims=True) @ expected
    np.testing.assert_allclose(rollout(LAYERS).numpy(), expected, atol=1e-6)
    found = token_weights(LAYERS, method="rollout", readout=FIRST, num_prefix=1)
    np.testing.assert_allclose(found.numpy(), expected[0, 1:], atol=1e-6)


def test_an_item_is_explained_by_its_own_model(trained: Run) -> None:
    model, task = trained.load_model(), trained.load_task()
    item = task.datasets(trained.spec).test[0]
    found = explain_item(model, task, item)
    batch = task.collate([task.transform(item, None)], [item.id])
    with torch.no_grad():
        weights = model(batch.inputs, return_intermediates=True).intermediates.weights[-1]
    np.testing.assert_allclose(found.relevance, weights[0].mean(0).mean(0).numpy(), atol=1e-6)
    assert found.relevance.sum() == pytest.approx(1, abs=1e-5)
    assert found.record.target == item.target
    depth = trained.spec.core.depth
    with pytest.raises(UserError, match=f"no layer {depth + 1}\nits layers are 1 to {depth}"):
        explain_batch(model, task, item, batch, layer=depth + 1)


def test_a_task_that_cannot_show_it_names_those_that_can(trained: Run) -> None:
    with pytest.raises(
        UserError, match=r"a model for masked-lm cannot .*\nexplain one for .*image-classification.* or "
    ):
        require_drawing(object(), trained.spec.model_copy(update={"task": "masked-lm"}))  # pyright: ignore


def test_a_broken_plugin_does_not_stand_in_the_way(trained: Run) -> None:
    register(task=TaskEntry("broken", "no_such_library:Task"))
    with pytest.raises(UserError, match=r"a model for masked-lm cannot"):
        require_drawing(object(), trained.spec.model_copy(update={"task": "masked-lm"}))  # pyright: ignore


def test_the_heads_own_pooling_says_which_tokens_count(trained: Run) -> None:
    model, task = trained.load_model(), trained.load_task()
    item = task.datasets(trained.spec).test[0]
    batch = task.collate([task.transform(item, None)], [item.id])
    with torch.no_grad():
        inside = model(batch.inputs, return_intermediates=True).intermediates
    vars(model.head)["readout_weights"] = lambda x: x[..., 0].softmax(1)
    expected = inside.output[0, :, 0].softmax(0) @ inside.weights[-1][0].mean(0)
    np.testing.assert_allclose(explain_item(model, task, item).relevance, expected.numpy(), atol=1e-6)
