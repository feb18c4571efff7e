"""`onnx`: any ONNX model of face blur or face quality, run as its card says.

The card (docs/models.md) states how crops become the input and what the output means. A model with
a fixed batch is called once per batch of that size, so that every model takes any number of faces.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NoReturn

import numpy as np

from blurgate.cards import Card, OutputCard, read_card
from blurgate.errors import WeightsError
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelFile, ModelInfo, Register, Runtime
from blurgate.onnxfile import read_model
from blurgate.plugins.prepare import input_tensor
from blurgate.runtime import make_session, run
from blurgate.types import CROP_SIZE, F32, U8, BlurKind, check_array

BATCH = 32
"""Faces per call of a model whose batch is free; more gain nothing and cost memory."""


class OnnxScorer:
    """Scores aligned faces with an ONNX model.

    Args:
        model: The file and its card; the card has to state `output` and `threshold`.
        runtime: Device and threads.

    Raises:
        WeightsError: The file is no ONNX model, there is no card, or model and card contradict each
            other.
    """

    def __init__(self, model: ModelFile, runtime: Runtime) -> None:
        card = read_card(model.card, str(model.path))
        if card.output is None or card.threshold is None:
            read_model(model.path)  # to a file that is no model a card would be of no use
            lacking = "output" if card.output is None else "threshold"
            raise WeightsError(
                f"{model.path} has no card that states its {lacking}, so its values cannot be read "
                f"as blur degrees; write {model.path.with_suffix('.json').name} beside it, such as "
                '{"kind": "scorer", "output": {"type": "quality"}, "threshold": 0.5} '
                "(docs/models.md)",
                path=str(model.path),
            )
        if card.output.type == "embedding":
            raise WeightsError(
                f"{model.path} gives embeddings by its card and not blur degrees",
                path=str(model.path),
            )
        self.info: ModelInfo = model.info
        self.threshold: float = card.threshold
        self._where = str(model.path)
        self._card: Card = card
        self._output: OutputCard = card.output
        # The kinds cost half as much again as the degree, so a session without them is the usual.
        only = [card.output.tensor] if card.output.kinds and card.output.tensor else None
        self._session = make_session(model.path, runtime, only)
        self._open_kinds = partial(make_session, model.path, runtime)
        self._input, self._batch = self._check_input()
        self._tensor = self._find_tensor()

    def __call__(self, crops: U8, /) -> F32:
        """Score (n, 112, 112, 3) uint8 BGR crops; gives (n,) float32 in [0, 1].

        Raises:
            WeightsError: The model gave something else than one finite value per face.
        """
        check_array("crops", crops, (None, CROP_SIZE, CROP_SIZE, 3), "uint8")
        step = self._batch or BATCH
        parts = [self._run(crops[start : start + step]) for start in range(0, len(crops), step)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of blur that the model tells apart; empty for one that does not."""
        return self._output.kinds

    def with_kinds(self, crops: U8, /) -> tuple[F32, list[BlurKind]]:
        """Score crops and tell the kind of blur of each; needs a model that has `kinds`.

        Raises:
            WeightsError: The model gave something else than its card says.
        """
        check_array("crops", crops, (None, CROP_SIZE, CROP_SIZE, 3), "uint8")
        told: list[BlurKind] = []
        parts = [np.zeros(0, np.float32)]
        wanted = [self._tensor, "kind", "direction"]
        step = self._batch or BATCH
        for start in range(0, len(crops), step):
            some = crops[start : start + step]
            tensor = input_tensor(some, self._card.input, self._batch)
            raw, kind, direction = run(self._with_kinds, {self._input: tensor}, self._where, wanted)
            if kind.shape != (len(tensor), len(self.kinds)) or direction.shape != (len(tensor), 2):
                self._fail(f"gave kinds of {kind.shape} and directions of {direction.shape}")
            parts.append(self._checked(raw, len(some)))
            kind, direction = kind[: len(some)], direction[: len(some)]
            if not (np.isfinite(kind).all() and np.isfinite(direction).all()):
                self._fail("gave kinds or directions that are not numbers")
            angles = np.degrees(np.arctan2(direction[:, 1], direction[:, 0])) / 2 % 180
            for best, angle in zip(kind.argmax(axis=1), angles, strict=True):
                name = self.kinds[int(best)]
                told.append(BlurKind(name, float(angle) if name == "motion" else None))
        return np.concatenate(parts), told

    @cached_property
    def _with_kinds(self) -> Any:
        return self._open_kinds()

    def _run(self, crops: U8) -> F32:
        tensor = input_tensor(crops, self._card.input, self._batch)
        (raw,) = run(self._session, {self._input: tensor}, self._where, [self._tensor])
        if raw.shape[:1] != tensor.shape[:1]:
            self._fail(f"gave an output of {raw.shape} for {len(tensor)} faces")
        return self._checked(raw, len(crops))

    def _checked(self, raw: F32, count: int) -> F32:
        """Turn the raw values of at least `count` faces into their degrees."""
        if len(raw) < count:
            self._fail(f"gave an output of {raw.shape} for {count} faces")
        degrees = self._degrees(raw[:count].reshape(count, -1).astype(np.float32))
        if not np.isfinite(degrees).all():
            self._fail("gave values that are not numbers")
        return degrees.clip(0, 1).astype(np.float32)

    def _degrees(self, raw: F32) -> F32:
        """Read (n, k) output values as (n,) blur degrees, not yet clipped."""
        facts = self._output
        if facts.type == "bins":
            return self._expectation(raw)
        if facts.reduce == "mean":
            values: F32 = raw.mean(axis=1)
        elif raw.shape[1] == 1:
            values = raw[:, 0]
        else:
            self._fail(
                f"gives {raw.shape[1]} values per face; its card has to say how they become one: "
                '"reduce": "mean" or "type": "bins"'
            )
        low, high = facts.range
        values = (values - np.float32(low)) / np.float32(high - low)
        return values if facts.type == "degree" else 1 - values

    def _expectation(self, logits: F32) -> F32:
        n_bins = logits.shape[1]
        centres = self._output.centres or tuple((np.arange(n_bins) + 0.5) / n_bins)
        if len(centres) != n_bins:
            self._fail(f"gives {n_bins} bins, and its card has {len(centres)} centres")
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        means: F32 = (weights @ np.array(centres, np.float32)) / weights.sum(axis=1)
        return means

    def _check_input(self) -> tuple[str, int | None]:
        """Compare the graph's input with the card; gives its name and its batch (None: free)."""
        inputs = self._session.get_inputs()
        h, w = self._card.input.size
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        fits = len(shape) == 4 and all(
            want == have or not isinstance(have, int)
            for want, have in zip((3, h, w), shape[1:], strict=True)
        )
        if not fits or inputs[0].type != "tensor(float)":
            shapes = [(entry.name, entry.shape, entry.type) for entry in inputs]
            self._fail(f"takes {shapes}; a scorer takes one float tensor of (n, 3, {h}, {w})")
        return str(inputs[0].name), shape[0] if isinstance(shape[0], int) else None

    def _find_tensor(self) -> str:
        names = [str(entry.name) for entry in self._session.get_outputs()]
        if self._output.tensor and self._output.tensor not in names:
            self._fail(f"has no output {self._output.tensor!r}; it has {', '.join(names)}")
        return self._output.tensor or names[0]

    def _fail(self, what: str) -> NoReturn:
        raise WeightsError(f"{self._where} {what}", path=self._where)


def _make(model: ModelFile | None, runtime: Runtime) -> OnnxScorer:
    if model is None:
        raise WeightsError("the scorer 'onnx' runs a file; name it: --model path/to/model.onnx")
    return OnnxScorer(model, runtime)


@hookimpl
def register_scorers(register: Register) -> None:
    """Register `onnx`."""
    register("onnx", _make)
