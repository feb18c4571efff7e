"""The log of a run for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Board"]


class Board:
    """Writes a run's epochs for TensorBoard; does nothing where it is not installed.

    Args:
        folder: The run's folder; events go into `tensorboard/` below it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one epoch: its number as `epoch`, and the values of the other columns."""
        if self._writer is None:
            if importlib.util.find_spec("tensorboard") is None:
                return
            from torch.utils.tensorboard import SummaryWriter

            # A resumed run repeats epochs that the interrupted one may have written already.
            self._writer = SummaryWriter(str(self._folder), purge_step=row["epoch"])
        for key, value in row.items():
            if key != "epoch":
                self._writer.add_scalar(key, value, row["epoch"])
        self._writer.flush()
