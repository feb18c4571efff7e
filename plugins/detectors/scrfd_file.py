"""SCRFD files: what they declare, what a probe finds of their outputs, and how they are run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias

import numpy as np

from blurgate.errors import ModelError, WeightsError
from blurgate.interfaces import Runtime
from blurgate.runtime import make_session, run
from blurgate.types import F32

logger = logging.getLogger(__name__)

STRIDES: Final = (8, 16, 32)
ANCHORS: Final = 2
"""Predictions per cell of each stride."""
COLUMNS: Final = (1, 4, 10)
"""Columns of a prediction: score, distances to the box's sides, offsets of five landmarks."""
BATCH: Final = 8
"""Pictures per call where the batch is free."""

Layout: TypeAlias = Literal["one", "pictures", "cells"]
"""one: a picture per call; pictures: picture after picture; cells: per cell, picture by picture."""


class ScrfdFile:
    """An SCRFD file that was looked at.

    Safe to run from several threads at once.

    Args:
        path: The ONNX file.
        runtime: Device and threads.

    Raises:
        WeightsError: The file is not an SCRFD with five landmarks.

    Attributes:
        size: The (h, w) that its input is fixed at; None: free.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self._path = str(path)
        self._runtime = runtime
        self._session = make_session(path, runtime)
        self._input, self.size, batch_is_free = self._check_input()
        self._order: list[int] = []
        self._layout: Layout = "one"
        self._probe(batch_is_free)

    @property
    def most(self) -> int:
        """How many pictures a call takes at most."""
        return 1 if self._layout == "one" else BATCH

    def watch(self, names: Sequence[str]) -> None:
        """Let `run` also give what flows between nodes, by the names that it has in the file.

        Raises:
            WeightsError: The file has no such name.
        """
        outputs = [out.name for out in self._session.get_outputs()][: len(self._order)]
        self._session = make_session(Path(self._path), self._runtime, [*outputs, *names])

    def run(self, blob: F32) -> tuple[list[F32], Sequence[F32]]:
        """Run n pictures through the file.

        Args:
            blob: (n, 3, h, w) RGB, n at most `most`.

        Returns:
            (outputs, watched): nine of (n, rows, columns), scores of each stride, then boxes, then
            landmarks; and what `watch` asked for, in its order.
        """
        given = run(self._session, {self._input: blob}, self._path)
        return self._arranged(given, blob.shape), given[len(self._order) :]

    def _arranged(self, outputs: Sequence[F32], shape: tuple[int, ...]) -> list[F32]:
        n, _, h, w = shape
        arranged = []
        for position, (rows, columns) in zip(self._order, _shapes(h, w), strict=True):
            out = outputs[position]
            if out.size != n * rows * columns:
                raise ModelError(
                    f"{self._path} gave {out.shape} for {n} pictures of {h}x{w}, "
                    f"not {n * rows} rows of {columns}",
                    path=self._path,
                )
            if self._layout == "cells":
                out = out.reshape(rows // ANCHORS, n, ANCHORS, columns).swapaxes(0, 1)
            arranged.append(out.reshape(n, rows, columns))
        return arranged

    def _check_input(self) -> tuple[str, tuple[int, int] | None, bool]:
        """Give the input's name, its size (None: free) and whether its batch is free."""
        inputs = self._session.get_inputs()
        n_outputs = len(self._session.get_outputs())
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            got = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
            self._refuse(f"its input is {got}, not one float tensor of (1, 3, h, w)")
        if n_outputs == 6:
            self._refuse("it gives no landmarks, and blurgate needs five; use a file named _bnkps")
        if n_outputs != len(STRIDES) * len(COLUMNS):
            self._refuse(f"it has {n_outputs} outputs, not nine")
        fixed = [isinstance(side, int) for side in shape[2:]]
        if any(fixed) and not all(fixed):
            self._refuse(f"of its input {shape} one side is fixed and the other is free")
        if isinstance(shape[0], int) and shape[0] != 1:
            self._refuse(f"its batch is fixed at {shape[0]}; export it with 1 or a free one")
        size = (shape[2], shape[3]) if all(fixed) else None
        if size is not None and (size[0] % STRIDES[-1] or size[1] % STRIDES[-1]):
            self._refuse(f"its size is fixed at {size[0]}x{size[1]}, no multiples of 32")
        return str(inputs[0].name), size, not isinstance(shape[0], int)

    def _probe(self, batch_is_free: bool) -> None:
        """Run noise through the file, to learn the order and the layout of its outputs."""
        size = self.size or (64, 96)
        noise = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
        shapes = [out.shape for out in run(self._session, {self._input: noise[:1]}, self._path)]
        flat = [(shape[-2], shape[-1]) if len(shape) > 1 else shape for shape in shapes]
        wanted = list(_shapes(*size))
        if sorted(flat) != sorted(wanted) or any(s[:-2] not in ((), (1,)) for s in shapes):
            self._refuse(f"for an input of {size[0]}x{size[1]} its outputs are {shapes}")
        self._order = [flat.index(shape) for shape in wanted]  # no two have the same shape
        if not batch_is_free:
            return
        singles = [self.run(noise[i : i + 1])[0] for i in range(2)]
        for layout in ("pictures", "cells"):
            self._layout = layout
            try:
                together, _ = self.run(noise)
            except ModelError:
                break
            if all(
                np.allclose(both[i], alone[0], rtol=1e-3, atol=1e-3)
                for i in range(2)
                for both, alone in zip(together, singles[i], strict=True)
            ):
                return
        self._layout = "one"
        logger.info("%s gives wrong results for two pictures at once: one by one", self._path)

    def _refuse(self, why: str) -> NoReturn:
        raise WeightsError(f"{self._path} is not an SCRFD face detector: {why}", path=self._path)


def _shapes(h: int, w: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of the nine outputs for a canvas: scores 8, 16, 32, boxes, landmarks."""
    for columns in COLUMNS:
        for stride in STRIDES:
            yield (h // stride) * (w // stride) * ANCHORS, columns
