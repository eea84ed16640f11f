"""What a user sees of a training while it goes on: a bar in a terminal, a line an evaluation elsewhere."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.contract import Batch


class TrainingProgress:
    """Epoch, step, loss, samples/s and time left, on stderr.

    Args:
        total: Steps of the whole training.
        done: Steps taken before it was resumed.
    """

    def __init__(self, total: int, done: int, epochs: int, *, show: bool = True) -> None:
        console = Console(file=sys.stderr, quiet=not show, highlight=False)
        self.epochs = epochs
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]} samples/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not (show and console.is_terminal),
            refresh_per_second=4,
        )
        self.task = self.bar.add_task("", total=total, completed=done, epoch=1, epochs=epochs, loss="–", rate="–")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, done: int, epoch: int) -> None:
        self.bar.update(self.task, completed=done, epoch=epoch + 1)

    def logged(self, values: Mapping[str, float]) -> None:
        self.bar.update(self.task, loss=f"{values['loss']:.4f}", rate=f"{values['items_per_second']:,.0f}")

    def evaluated(self, step: int, epoch: int, values: Mapping[str, float], primary: str) -> None:
        figures = "  ".join(f"{name} {values[name]:.4f}" for name in dict.fromkeys(("loss", primary)))
        self.note(f"epoch {epoch + 1}/{self.epochs}  step {step}  validation {figures}")

    def note(self, message: str) -> None:
        self.bar.console.print(message, markup=False)


def say(message: str, *, show: bool) -> None:
    """A word on a training that does not come to its bar."""
    Console(file=sys.stderr, quiet=not show, highlight=False).print(message, markup=False, soft_wrap=True)


@dataclass
class Window:
    """Sums over the steps since the last line of metrics.jsonl."""

    loss: float = 0.0
    count: float = 0.0
    norm: float = 0.0
    items: int = 0
    tokens: int = 0
    slots: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def saw(self, batch: Batch) -> None:
        self.items += len(batch.ids)
        if batch.num_tokens is not None:
            self.tokens += batch.num_tokens[0]
            self.slots += batch.num_tokens[1]

    def stepped(self, loss: float, count: float, norm: float) -> None:
        self.loss, self.count, self.norm = self.loss + loss, self.count + count, norm

    def close(self) -> dict[str, float]:
        """The means of the window, which starts anew.

        `data_wait` is the share of the time spent waiting for data, `grad_norm` the last step's, before clipping.
        """
        seconds = time.perf_counter() - self.started
        values = {
            "loss": self.loss / self.count,
            "grad_norm": self.norm,
            "seconds": seconds,
            "items_per_second": self.items / seconds,
            "data_wait": self.waited / seconds,
        }
        if self.slots:
            values["real_tokens"] = self.tokens / self.slots
        self.loss = self.count = self.norm = self.waited = 0.0
        self.items = self.tokens = self.slots = 0
        self.started = time.perf_counter()
        return values

    def pause(self, seconds: float) -> None:
        """Leave the time of an evaluation or of a checkpoint out."""
        self.started += seconds
