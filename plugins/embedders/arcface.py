"""`arcface`: recognition networks in insightface's convention.

A file without a card takes (n, 3, 112, 112) RGB as (x - 127.5) / 127.5. A card (docs/models.md) can
state other channels, mean and std under `input`; a file that normalises inside the graph needs one.
"""

from __future__ import annotations

from typing import Final, NoReturn

import numpy as np

from blurgate.cards import InputCard, read_card
from blurgate.errors import WeightsError
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelFile, ModelInfo, Register, Runtime
from blurgate.plugins.prepare import input_tensor
from blurgate.runtime import make_session, run
from blurgate.types import CROP_SIZE, F32, U8, check_array

BATCH: Final = 32
"""Faces per call of a model whose batch is free; more gain nothing and cost memory."""


class ArcFace:
    """Turns aligned faces into embeddings.

    Safe to call from several threads at once.

    Args:
        model: The ONNX file.
        runtime: Device and threads.

    Raises:
        WeightsError: The file does not take 112 x 112 crops, or does not give one vector per crop.
    """

    def __init__(self, model: ModelFile, runtime: Runtime) -> None:
        self.info: ModelInfo = model.info
        self._path = str(model.path)
        self._card: InputCard = read_card(model.card, self._path).input
        self._session = make_session(model.path, runtime)
        self._input, self._batch = self._check_file()
        noise = np.random.default_rng(0).integers(0, 256, (1, CROP_SIZE, CROP_SIZE, 3), np.uint8)
        self._length = self._run(noise).shape[1]  # a file that cannot run is refused here

    def __call__(self, crops: U8, /) -> F32:
        """Embed (n, 112, 112, 3) uint8 BGR crops; gives (n, d) float32, each of length 1.

        Raises:
            WeightsError: The model gave something else than one finite vector per crop.
        """
        check_array("crops", crops, (None, CROP_SIZE, CROP_SIZE, 3), "uint8")
        step = self._batch or BATCH
        parts = [self._run(crops[start : start + step]) for start in range(0, len(crops), step)]
        return np.concatenate(parts) if parts else np.empty((0, self._length), np.float32)

    def _run(self, crops: U8) -> F32:
        blob = input_tensor(crops, self._card, self._batch)
        (raw,) = run(self._session, {self._input: blob}, self._path)
        if raw.ndim != 2 or len(raw) != len(blob):
            self._refuse(f"it gives {raw.shape} for {len(blob)} crops, not one vector for each")
        vectors: F32 = raw[: len(crops)].astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            self._refuse("it gives vectors that are not numbers or have no length")
        vectors /= lengths
        return vectors

    def _check_file(self) -> tuple[str, int | None]:
        """Give the input's name and its batch (None: free)."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] not in (3, None) or inputs[0].type != "tensor(float)":
            got = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
            self._refuse(f"its input is {got}, not one float tensor of (n, 3, 112, 112)")
        size = [side if isinstance(side, int) else CROP_SIZE for side in shape[2:]]
        if size != [CROP_SIZE, CROP_SIZE] or self._card.size != (CROP_SIZE, CROP_SIZE):
            h, w = size if size != [CROP_SIZE, CROP_SIZE] else self._card.size
            self._refuse(f"it takes crops of {h}x{w}, and the aligned ones are 112x112")
        if len(outputs) != 1 or outputs[0].type != "tensor(float)":
            names = ", ".join(f"{entry.name} {entry.type}" for entry in outputs)
            self._refuse(f"its outputs are {names}, not one float tensor")
        return str(inputs[0].name), shape[0] if isinstance(shape[0], int) else None

    def _refuse(self, why: str) -> NoReturn:
        raise WeightsError(f"{self._path} is not a usable embedder: {why}", path=self._path)


def _make(model: ModelFile | None, runtime: Runtime) -> ArcFace:
    if model is None:
        raise WeightsError("the embedder 'arcface' runs a file; give the path of an ONNX file")
    return ArcFace(model, runtime)


@hookimpl
def register_embedders(register: Register) -> None:
    """Register `arcface`."""
    register("arcface", _make)
