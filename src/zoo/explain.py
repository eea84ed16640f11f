"""What a model attends to: how much each token weighs in what the head reads.

Attention rollout: Abnar & Zuidema 2020, arXiv:2005.00928.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo import plugins
from zoo.contract import Batch, Dataset, Drawable, Item, Record, Task
from zoo.data.loader import Skipped, evaluation_batches
from zoo.errors import UserError
from zoo.specs import CoreSpec, NetworkSpec, RunSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zoo.core.model import Model

Method = Literal["attention", "rollout"]
RIGHT, WRONG = "#1f5f99", "#c04f00"


class Explanation(NamedTuple):
    """An item, what the model says of it, and how much each of the item's tokens weighs in that, (num_tokens,)."""

    item: Item
    record: Record
    relevance: Float[np.ndarray, " num_tokens"]


def explain_dataset(
    model: Model, task: Task, dataset: Dataset, *, method: Method = "attention", layer: int | None = None
) -> Iterator[Explanation | Skipped]:
    """Explain items one by one; one that cannot be read is handed on with the reason.

    Raises:
        UserError: The model has no such layer.
    """
    loaded = evaluation_batches(task, dataset, batch_size=1, on_error="skip", workers=0, pin=False)
    for index, (batch, skipped) in enumerate(loaded):
        yield from skipped
        if batch is not None:
            yield explain_batch(model, task, dataset[index], batch, method=method, layer=layer)


def explain_item(model: Model, task: Task, item: Item) -> Explanation:
    """Look at one item with the attention of the model's last layer."""
    return explain_batch(model, task, item, task.collate([task.transform(item, None)], [item.id]))


def explain_batch(
    model: Model, task: Task, item: Item, batch: Batch, *, method: Method = "attention", layer: int | None = None
) -> Explanation:
    """Look at one item, alone in its batch, with the model's own attention.

    The head says with `head.readout_weights(x)`, (b, t), how much it reads each of the core's output tokens `x`; where
    it doesn't, the item's own count alike. The embed says with `embed.num_prefix` how many tokens stand before those.

    Args:
        method: One layer's attention, or the flow through all layers up to it.
        layer: Counted from 1; the last when None.

    Raises:
        UserError: The model has no such layer.
    """
    batch = batch.to(next(model.parameters()).device)
    with torch.no_grad():
        output = model.eval()(batch.inputs, return_intermediates=True)
    layers = [each[0].float().cpu() for each in output.intermediates.weights]
    if not layers or not 1 <= (layer or len(layers)) <= len(layers):
        raise UserError(
            f"the model has no layer {layer}\nits layers are 1 to {len(layers)}; leave --layer out for the last"
        )
    num_prefix = getattr(model.embed, "num_prefix", 0)
    if (weights_of := getattr(model.head, "readout_weights", None)) is not None:
        with torch.no_grad():
            readout = weights_of(output.intermediates.output)[0].float().cpu()
    else:
        readout = (torch.arange(layers[0].shape[-1]) >= num_prefix).float()
        readout /= readout.sum()
    relevance = token_weights(layers[:layer], method=method, readout=readout, num_prefix=num_prefix)
    return Explanation(item, task.decode(output, batch)[0], relevance.numpy())


def token_weights(
    layers: Sequence[Float[Tensor, "h t t"]], *, method: Method, readout: Float[Tensor, " t"], num_prefix: int
) -> Float[Tensor, " num_tokens"]:
    """How much what the head reads draws from each of the item's tokens.

    Args:
        readout: How much the head reads each of the core's output tokens.
    """
    matrix = rollout(layers) if method == "rollout" else layers[-1].mean(0)
    return (readout @ matrix)[num_prefix:]


def rollout(layers: Sequence[Float[Tensor, "h t t"]]) -> Float[Tensor, "t t"]:
    """Ã_L … Ã_1 with Ã = (A + I) / 2: attention's mean over heads and the residual branch, through all layers."""
    identity = torch.eye(layers[0].shape[-1])
    flow = identity
    for weights in layers:
        flow = (weights.mean(0) + identity) / 2 @ flow
    return flow


def can_draw(task: Task, spec: RunSpec) -> bool:
    """Whether what a model attends to can be shown: its core says so, and the task draws it."""
    return isinstance(task, Drawable) and isinstance(spec.core, CoreSpec)


def require_drawing(task: Task, spec: RunSpec) -> None:
    """
    Raises:
        UserError: What the model attends to cannot be shown.
    """
    if can_draw(task, spec):
        return
    if isinstance(spec.core, NetworkSpec):
        raise UserError(
            f"'{spec.model}' does not tell what it attends to: its core is another library's network\n"
            "explain a model with a core of ours, such as one that learnt from it (train.distill)"
        )
    able = [name for name in plugins.tasks() if _draws(name)]
    raise UserError(
        f"a model for {spec.task} cannot show what it attends to\nexplain one for {' or '.join(sorted(able))}; "
        "a plugin's task can where it has `draw` (zoo.contract.Drawable)"
    )


def _draws(name: str) -> bool:
    """Whether a task can; of one that is broken, others are told nothing."""
    try:
        return hasattr(plugins.task_class(name), "draw")
    except UserError:
        return False


def draw_explanation(axes: Axes, task: Task, explanation: Explanation) -> None:
    """The item with its relevance laid over, under what the model says of it."""
    item, record, relevance = explanation
    assert isinstance(task, Drawable), "whoever explains has asked `can_draw`"
    task.draw(axes, item, relevance)
    says = " ".join(_short(value) for value in task.describe(record, 1).values())
    if record.target is None:
        axes.set_title(says, size=9)
    else:
        right = record.prediction == record.target
        axes.set_title(f"{'✓' if right else '✗'} {says}", size=9, color=RIGHT if right else WRONG)


def draw_single(figure: Figure, task: Task, explanation: Explanation, note: str) -> None:
    """One item's picture, under the way it was looked at."""
    figure.set_size_inches(4.5, 4.9)
    axes = figure.subplots()
    axes.set_axis_off()
    draw_explanation(axes, task, explanation)
    figure.suptitle(note, size=11)


def draw_gallery(figure: Figure, model: Model, task: Task, items: Sequence[Item]) -> None:
    """What the last layer attends to on some items."""
    rows = -(-len(items) // 4)
    figure.set_size_inches(8, 2.25 * rows + 0.3)
    panels = list(figure.subplots(rows, 4, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, item in zip(panels, items, strict=False):
        draw_explanation(axes, task, explain_item(model, task, item))
    figure.suptitle(f"What the last layer attends to · {len(items)} items", size=11)


def _short(value: Any) -> str:
    return f"({value:.2f})" if isinstance(value, float) else str(value)
