"""SIGTERM and Ctrl-C end a training between two steps, when what was learnt can be saved."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self


class Preempted(Exception):
    """A signal asked the training to stop.

    Args:
        number: The signal; the command line exits with 128 + it.
        step: Of the last whole checkpoint; None where there is none yet.
    """

    def __init__(self, number: int, folder: Path, step: int | None) -> None:
        saved = "nothing was saved yet" if step is None else f"step {step} is saved"
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved} in '{folder}'")
        self.number, self.folder = number, folder


class StopSignal:
    """Remembers which signal asked for a stop. Only the main thread can listen.

    The first one waits for the loop to look. At the second, and where nothing can be lost (`at_once`),
    KeyboardInterrupt is raised.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again or self.at_once:
            raise KeyboardInterrupt
