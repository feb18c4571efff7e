"""From a trained detector to an ONNX file that the runner `scrfd` takes as it is.

The graph goes from `images`, (n, 3, h, w) float32 RGB as (pixel - 127.5) / 128, to nine outputs:
scores in [0, 1], distances to the sides of the box and offsets of the five landmarks, both in units
of the stride, for the strides 8, 16 and 32. Pictures, height and width are free, the latter two in
multiples of 32.

The graph is written node by node. It is short, it stays as it is from one torch to the next, and
height and width that torch would have to trace as symbols cost nothing. onnxruntime has to give
what torch gives before a file counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blurgate.cards import read_card
from blurgate.errors import ModelError
from blurgate.interfaces import Runtime
from blurgate.plugins.detectors.scrfd import ANCHORS, COLUMNS, STRIDES
from blurgate.runtime import make_session, run
from blurgate.training import export as shared
from blurgate.training.detection.network import (
    LARGEST,
    SIDES,
    DetectorNet,
    RunnerOutputs,
    fold,
    prepare,
)

__all__ = ["OUTPUTS", "card_facts", "check_detector", "export_detector"]

OUTPUTS: Final = tuple(f"{part}_{stride}" for part in ("score", "box", "kps") for stride in STRIDES)
_IR: Final = 8  # the format of ONNX 1.13, whose operators opset 18 are
_CHECKED: Final = ((1, 64, 96), (3, 96, 64), (2, 160, 160))  # pictures, h, w


def card_facts(
    name: str, *, licence: str = "", source: str = "", about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Give the card of an exported detector as plain values; docs/models.md describes the keys."""
    facts: dict[str, Any] = {
        "kind": "detector",
        "runner": "scrfd",
        "name": name,
        "licence": licence or "none stated",
        "source": source or "blurgate train --detector",
        "about": dict(about or {}),
    }
    read_card(facts, name)
    return facts


def export_detector(
    network: DetectorNet, path: Path, card: Mapping[str, Any], *, pictures: Tensor | None = None
) -> float:
    """Write a detector as ONNX, and check the file against the network.

    Args:
        network: Left in eval mode, on the CPU, in float32.
        path: Where to; the file appears there only if it is right.
        card: From `card_facts`; goes into the file's metadata.
        pictures: (n, 3, h, w) uint8 BGR to check on besides drawn ones.

    Returns:
        The largest difference of an output between torch and onnxruntime, relative where values are
        above 1.

    Raises:
        ModelError: onnxruntime gives something else.
    """
    network.cpu().float().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    graph = _Graph(fold(network)).model()
    return shared.write(graph, path, card, lambda file: check_detector(network, file, pictures))


class _Graph:
    """Writes a network as ONNX.

    Args:
        network: In eval mode, folded.
    """

    def __init__(self, network: DetectorNet) -> None:
        self._network = network
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._channels = 3  # of what was added last

    def model(self) -> onnx.ModelProto:
        """Give the whole model; follows `DetectorNet.forward` and `RunnerOutputs.forward`."""
        network = self._network
        x, levels = self._through(network.stem, "images"), []
        for number, stage in enumerate(network.stages):
            x = self._through(stage, x)
            if number:
                levels.append(x)
        levels = [self._through(*pair) for pair in zip(network.lateral, levels, strict=True)]
        scales = self._constant("twice", np.array([1, 1, 2, 2], np.float32))
        for i in (1, 0):
            up = self._node(
                "Resize",
                [levels[i + 1], "", scales],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            levels[i] = self._node("Add", [levels[i], up])
        levels = [self._through(*pair) for pair in zip(network.smooth, levels, strict=True)]
        for i, (down, path) in enumerate(zip(network.down, network.path, strict=True)):
            below = self._through(down, levels[i])
            levels[i + 1] = self._through(path, self._node("Add", [levels[i + 1], below]))
        for head, level, stride, sides in zip(network.heads, levels, STRIDES, SIDES, strict=True):
            self._outputs(self._through(head, level), stride, sides)
        return self._wrapped()

    def _through(self, module: nn.Module, x: str) -> str:
        """Add the nodes of a module; gives the name of its output."""
        if isinstance(module, nn.Sequential):
            for part in module:
                x = self._through(part, x)
        elif isinstance(module, nn.Conv2d):
            assert isinstance(module.padding, tuple)
            assert module.bias is not None
            number, self._channels = len(self._nodes), module.out_channels
            inputs = [
                x,
                self._constant(f"weight_{number}", module.weight.detach().numpy()),
                self._constant(f"bias_{number}", module.bias.detach().numpy()),
            ]
            x = self._node(
                "Conv",
                inputs,
                kernel_shape=module.kernel_size,
                strides=module.stride,
                pads=[*module.padding, *module.padding],
                group=module.groups,
            )
        elif isinstance(module, nn.ReLU):
            x = self._node("Relu", [x])
        elif isinstance(module, nn.AvgPool2d):
            assert isinstance(module.kernel_size, int)
            x = self._average(x, module.kernel_size)
        elif not isinstance(module, nn.Identity):
            raise TypeError(f"no node is known for {type(module).__name__}")
        return x

    def _average(self, x: str, side: int) -> str:
        """Add the mean of squares of side x side, as a convolution without a bias.

        onnxruntime keeps channels in blocks of 16, or 8, and fills a convolution's last block up.
        For a pooling whose channels do not fill it, it brings them all into another order and back,
        which took longer than the pooling.
        """
        n = self._channels
        weight = self._constant(f"mean_{n}", np.full((n, 1, side, side), side**-2, np.float32))
        edges = [side, side]
        return self._node("Conv", [x, weight], kernel_shape=edges, strides=edges, group=n)

    def _outputs(self, raw: str, stride: int, sides: tuple[float, float]) -> None:
        """Add what makes three outputs of a level's raw predictions.

        Cells stay last until the end, so that a factor per anchor meets long runs of numbers, which
        onnxruntime multiplies many times faster than rows of four or ten.
        """
        shape = self._constant("cells", np.array([0, ANCHORS, sum(COLUMNS), -1]))
        cells = self._node("Reshape", [raw, shape])
        ends = np.cumsum(COLUMNS)
        halves = np.array(sides, np.float32)[:, None, None] / (2 * stride)
        half = self._constant(f"halves_{stride}", halves)
        axis = self._constant("columns", np.array([2]))
        for part, columns, end in zip(("score", "box", "kps"), COLUMNS, ends, strict=True):
            span = [self._constant(f"at_{at}", np.array([at])) for at in (end - columns, end)]
            x = self._node("Slice", [cells, *span, axis])
            if part == "score":
                x = self._node("Sigmoid", [x])
            elif part == "box":
                limits = [
                    self._constant("least", np.array(-LARGEST, np.float32)),
                    self._constant("most", np.array(LARGEST, np.float32)),
                ]
                x = self._node("Exp", [self._node("Clip", [x, *limits])])
            if part != "score":
                x = self._node("Mul", [x, half])
            x = self._node("Transpose", [x], perm=[0, 3, 1, 2])
            shape = self._constant(f"of_{columns}", np.array([0, -1, columns]))
            self._node("Reshape", [x, shape], output=f"{part}_{stride}")

    def _node(self, kind: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if all(tensor.name != name for tensor in self._weights):
            self._weights.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def _wrapped(self) -> onnx.ModelProto:
        real = onnx.TensorProto.FLOAT
        images = onnx.helper.make_tensor_value_info("images", real, ["n", 3, "h", "w"])
        widths = [columns for columns in COLUMNS for _ in STRIDES]
        outputs = [
            onnx.helper.make_tensor_value_info(
                name, real, ["n", f"rows_{name.partition('_')[2]}", columns]
            )
            for name, columns in zip(OUTPUTS, widths, strict=True)
        ]
        graph = onnx.helper.make_graph(
            self._nodes, "detector", [images], outputs, initializer=self._weights
        )
        opsets = [onnx.helper.make_opsetid("", shared.OPSET)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        onnx.checker.check_model(model)
        return model


def check_detector(network: DetectorNet, path: Path, pictures: Tensor | None = None) -> float:
    """Give the largest difference between a network's outputs and those of its ONNX file."""
    session = make_session(path, Runtime("cpu"))
    module = RunnerOutputs(network).eval()
    worst = 0.0
    for some in [*map(_drawn, _CHECKED), *([] if pictures is None else [pictures.cpu()])]:
        images = prepare(some)
        with torch.inference_mode():
            expected = [out.numpy() for out in module(images)]
        feed = {"images": np.ascontiguousarray(images.numpy())}
        got = run(session, feed, str(path), list(OUTPUTS))
        for name, ours, theirs in zip(OUTPUTS, expected, got, strict=True):
            if ours.shape != theirs.shape or not np.isfinite(theirs).all():
                raise ModelError(
                    f"the exported model's {name} is {theirs.shape} or no numbers for "
                    f"{len(some)} pictures, not {ours.shape}",
                    path=str(path),
                )
            gap = np.abs(ours - theirs) / np.maximum(np.abs(ours), 1)
            worst = max(worst, float(gap.max(initial=0)))
    return worst


def _drawn(shape: tuple[int, int, int]) -> Tensor:
    """Draw (n, 3, h, w) uint8: patches of colour under noise."""
    n, h, w = shape
    rng = np.random.default_rng(n)
    patches = rng.uniform(0, 255, (n, 3, h // 8, w // 8)).repeat(8, 2).repeat(8, 3)
    noisy = patches + rng.normal(0, 16, patches.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))
