"""The one place that knows TensorBoard's writer."""

from collections.abc import Mapping
from pathlib import Path

from zoo.errors import UserError


class TensorBoard:
    """Writes scalars as event files.

    Raises:
        UserError: The package `tensorboard` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "train.trackers has 'tensorboard', but the package tensorboard is not installed\n"
                "install it: pip install 'attention-zoo[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(folder)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
