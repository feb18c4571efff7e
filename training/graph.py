"""An ONNX recognition network run by torch, where the pictures are: on the GPU that trains.

A training machine then needs no onnxruntime with CUDA beside torch's own, and neither pictures nor
embeddings leave the GPU. It runs the operators that ArcFace-like networks are exported with; any
other file goes through onnxruntime and the computer's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blurgate import zoo
from blurgate.cards import InputCard, read_card
from blurgate.errors import ModelError
from blurgate.onnxfile import read_model
from blurgate.training.pairs import to_tensor
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.interfaces import ModelFile, ModelInfo
    from blurgate.types import F32, U8

__all__ = ["TorchEmbedder", "UnsupportedError", "torch_embedder"]

Op: TypeAlias = "Callable[[list[Any], Mapping[str, Any]], Tensor]"

_BATCH: Final = 1024  # pictures that are embedded at once: what is between the layers adds up


class UnsupportedError(ModelError):
    """The graph has an operator, or a way to use one, that is not known here."""


def torch_embedder(name: str | None, device: torch.device) -> TorchEmbedder | None:
    """Open an embedder on a device.

    Args:
        name: As `zoo.open_embedder` takes it.
        device: Where it is to run.

    Returns:
        None where it is not a plain ONNX file, or not one that torch can run.

    Raises:
        MissingModelError: It is not on this machine.
    """
    file = zoo.resolve("embedder", name or zoo.default_name("embedder"))
    runner = file.card.get("runner") or zoo.RUNNERS["embedder"] if file is not None else ""
    if file is None or runner != zoo.RUNNERS["embedder"]:
        return None
    try:
        return TorchEmbedder(file, device)
    except UnsupportedError:
        return None


class TorchEmbedder:
    """An embedder of insightface's convention.

    On a GPU the convolutions are torch's: in TF32 where it allows that, as it does by default,
    which moves a label by less than 1e-3.

    Args:
        file: The ONNX file and its card.
        device: Where it runs.

    Raises:
        UnsupportedError: The graph cannot be run by torch.
    """

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        self.info: ModelInfo = file.info
        self._path, self._device = str(file.path), device
        self._card: InputCard = read_card(file.card, self._path).input
        self._graph = _Graph(file, device)
        # An operator used in a way that is not known here shows when it runs.
        black = torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device)
        self._length = self._run(black).shape[1]

    def __call__(self, crops: U8, /) -> F32:
        """Embed (n, 112, 112, 3) uint8 BGR crops; gives (n, d) float32, each of length 1."""
        vectors: F32 = self.tensors(to_tensor(crops, self._device)).cpu().numpy()
        return vectors

    def tensors(self, pictures: Tensor) -> Tensor:
        """Embed (n, 3, 112, 112) uint8 BGR on the device; gives (n, d) float32 of length 1.

        Raises:
            ModelError: The network does not take such pictures.
        """
        if not len(pictures):
            return torch.empty(0, self._length, device=pictures.device)
        parts = [pictures[at : at + _BATCH] for at in range(0, len(pictures), _BATCH)]
        vectors = torch.cat([self._run(part) for part in parts])
        units: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
        return units

    def _run(self, pictures: Tensor) -> Tensor:
        facts = self._card
        pixels = (pictures.flip(1) if facts.color == "rgb" else pictures).float()
        planes = [
            (pixels[:, channel] - mean) / std
            for channel, (mean, std) in enumerate(zip(facts.mean, facts.std, strict=True))
        ]
        images = torch.stack(planes, 1).contiguous(memory_format=torch.channels_last)
        try:
            with torch.no_grad():
                return self._graph(images)
        except UnsupportedError:
            raise
        except (RuntimeError, IndexError) as error:
            raise ModelError(
                f"{self._path} does not run: {str(error).splitlines()[0]}", path=self._path
            ) from error


class _Graph:
    """The nodes of a graph with one input and one output, in their order."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        import onnx

        graph = onnx.load_model_from_string(read_model(file.path)).graph
        constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            constants[tensor.name] = _constant(tensor, device)
        named = [entry.name for entry in graph.input if entry.name not in constants]
        if len(named) != 1 or len(graph.output) != 1:
            raise UnsupportedError(f"{file.path} has not one input and one output")
        self._input, self._output = named[0], graph.output[0].name
        self._nodes: list[tuple[Op, list[str], str, dict[str, Any]]] = []
        for node in graph.node:
            facts = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant" and "value" in facts:
                constants[node.output[0]] = _constant(facts["value"], device)
                continue
            known = node.op_type in OPS and node.domain in ("", "ai.onnx")
            if not known or len(node.output) != 1:
                raise UnsupportedError(f"{file.path}: torch does not run {node.op_type} here")
            self._nodes.append((OPS[node.op_type], list(node.input), node.output[0], facts))
        self._constants = {"": None, **constants}
        # After which node a value is not needed any more: a batch's would fill a GPU otherwise.
        last = {name: at for at, node in enumerate(self._nodes) for name in node[1]}
        self._gone: list[list[str]] = [[] for _ in self._nodes]
        for name, at in last.items():
            if name not in self._constants and name != self._output:
                self._gone[at].append(name)

    def __call__(self, images: Tensor) -> Tensor:
        values: dict[str, Any] = {**self._constants, self._input: images}
        del images
        for (op, inputs, output, facts), gone in zip(self._nodes, self._gone, strict=True):
            values[output] = op([values[name] for name in inputs], facts)
            for name in gone:
                del values[name]
        result: Tensor = values[self._output]
        return result


def _constant(tensor: Any, device: torch.device) -> Any:
    """Bring weights to the device; whole numbers are shapes and stay where Python reads them."""
    from onnx import numpy_helper

    value = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    if not value.is_floating_point():
        return value
    if value.ndim == 0:
        return float(value)  # a limit or a factor
    layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
    return value.to(device).contiguous(memory_format=layout)


def _conv(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    images, weight = given[:2]
    bias = given[2] if len(given) > 2 else None
    top, left, *rest = facts.get("pads", [0, 0, 0, 0])
    if [top, left] != rest or weight.ndim != 4 or facts.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise UnsupportedError("a convolution is padded unevenly")
    strides, dilations = facts.get("strides", [1, 1]), facts.get("dilations", [1, 1])
    return functional.conv2d(
        images, weight, bias, strides, [top, left], dilations, facts.get("group", 1)
    )


def _norm(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    images, scale, bias, mean, variance = given
    return functional.batch_norm(
        images, mean, variance, scale, bias, eps=facts.get("epsilon", 1e-5)
    )


def _prelu(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    images, slope = given
    return functional.prelu(images, slope.reshape(-1))


def _clip(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    low, high = [*given[1:], None, None][:2]
    result: Tensor = given[0].clamp(facts.get("min", low), facts.get("max", high))
    return result


def _gemm(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    a, b = given[:2]
    a = a.T if facts.get("transA") else a
    b = b.T if facts.get("transB") else b
    product: Tensor = facts.get("alpha", 1.0) * (a @ b)
    return product + facts.get("beta", 1.0) * given[2] if len(given) > 2 else product


def _pool(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    if any(facts.get("pads", [])) or facts.get("ceil_mode"):
        raise UnsupportedError("a mean over windows is padded")
    return functional.avg_pool2d(given[0], facts["kernel_shape"], facts.get("strides", [1, 1]))


def _flatten(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    if facts.get("axis", 1) != 1:
        raise UnsupportedError("a tensor is flattened along another axis than the first")
    result: Tensor = given[0].flatten(1)
    return result


def _reshape(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    values, shape = given
    sides = [values.shape[i] if side == 0 else side for i, side in enumerate(shape.tolist())]
    result: Tensor = values.reshape(sides)
    return result


def _unsqueeze(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    axes = given[1].tolist() if len(given) > 1 else facts["axes"]
    result: Tensor = given[0]
    for axis in sorted(axes):
        result = result.unsqueeze(axis)
    return result


def _squeeze(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    axes = given[1].tolist() if len(given) > 1 else facts["axes"]
    result: Tensor = given[0].squeeze(tuple(axes))
    return result


def _gather(given: list[Any], facts: Mapping[str, Any]) -> Tensor:
    values, index = given
    if facts.get("axis", 0) != 0 or values.ndim != 1:
        raise UnsupportedError("values are gathered that are no shape")
    return torch.as_tensor(values[index])


# Shapes are tensors in the computer's own memory, so that reading one does not wait for the GPU.
OPS: Final[Mapping[str, Op]] = {
    "Add": lambda x, _: x[0] + x[1],
    "AveragePool": _pool,
    "BatchNormalization": _norm,
    "Clip": _clip,
    "Concat": lambda x, facts: torch.cat(x, facts["axis"]),
    "Conv": _conv,
    "Div": lambda x, _: x[0] / x[1],
    "Dropout": lambda x, _: x[0],
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, _: x[0].mean((2, 3), keepdim=True),
    "Identity": lambda x, _: x[0],
    "LeakyRelu": lambda x, facts: functional.leaky_relu(x[0], facts.get("alpha", 0.01)),
    "MatMul": lambda x, _: x[0] @ x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "PRelu": _prelu,
    "Relu": lambda x, _: x[0].relu(),
    "Reshape": _reshape,
    "Shape": lambda x, _: torch.tensor(x[0].shape),
    "Sigmoid": lambda x, _: x[0].sigmoid(),
    "Squeeze": _squeeze,
    "Sub": lambda x, _: x[0] - x[1],
    "Transpose": lambda x, facts: x[0].permute(facts["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""ONNX operator -> what torch does for it, given the inputs and the attributes."""
