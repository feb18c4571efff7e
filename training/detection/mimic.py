"""Learning to see what another detector sees: the features beneath its predictions.

A teacher's scores say little about the many ways in which faces differ; its features say more, and
at every cell (FitNets: Romero et al., 2015, arXiv 1412.6550; for detectors, channels brought to one
scale: Cao et al., 2022, arXiv 2207.02039). Two networks have different channels, so what is asked
for is that the teacher's can be read off the network's own by a linear map. The map is solved for
in closed form on every batch: it has nothing to learn, to store or to resume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from blurgate.errors import ConfigError
from blurgate.onnxfile import read_model
from blurgate.plugins.detectors.scrfd import ANCHORS, STRIDES

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import GraphProto, NodeProto

__all__ = ["mimic_loss", "neck_of"]

_RIDGE: Final = 1e-4  # of the mean variance of a channel; keeps the map finite
_LEAST: Final = 1e-6
_STEPS: Final = frozenset(
    {"BatchNormalization", "Clip", "Conv", "LeakyRelu", "PRelu", "Relu", "Reshape", "Transpose"}
)
"""What a head is made of: operators with one input that is no constant."""


def mimic_loss(own: Sequence[Tensor], wanted: Sequence[Tensor], faces: Tensor) -> Tensor:
    """Give the share of the wanted features' variance that the own ones do not explain.

    It is the mean over channels and levels, 0 where a linear map gives them all, 1 where the own
    features tell nothing. Cells that answer for faces weigh as much, together, as all others.

    Args:
        own: (n, c, h, w) of each stride; the gradient goes through these.
        wanted: (n, d, h, w) of each stride.
        faces: (n, rows) int64 as `losses.Targets` has them.
    """
    shares = []
    start = 0
    for features, goal in zip(own, wanted, strict=True):
        n, _, h, w = features.shape
        rows = ANCHORS * h * w
        here = faces[:, start : start + rows].reshape(n * h * w, ANCHORS).ge(0).any(1)
        start += rows
        shares.append(_unexplained(_cells(features), _cells(goal), _balanced(here)))
    return torch.stack(shares).mean()


def _cells(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1).flatten(0, 2).float()


def _balanced(faces: Tensor) -> Tensor:
    """Give weights that sum to 1: half of it to either kind of cell, if there are both."""
    count = faces.sum().clamp(min=1), (~faces).sum().clamp(min=1)
    weights = torch.where(faces, 0.5 / count[0], 0.5 / count[1])
    return weights / weights.sum()


def _unexplained(own: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Regress (cells, d) on (cells, c) and give what is left, as a share of the variance."""
    root = weights.sqrt()[:, None]
    x = (own - (weights[:, None] * own).sum(0)) * root
    y = (wanted - (weights[:, None] * wanted).sum(0)) * root
    with torch.no_grad():  # at its optimum the map's own gradient is 0
        gram = x.T @ x
        ridge = _RIDGE * gram.diagonal().mean() + _LEAST
        gram.diagonal().add_(ridge)
        linear = torch.linalg.solve(gram, x.T @ y)
    left: Tensor = (y - x @ linear).square().sum(0)
    shares: Tensor = left / y.square().sum(0).clamp(min=_LEAST)
    return shares.mean()


def neck_of(path: Path) -> list[str]:
    """Name the values of an SCRFD's graph from which the heads of strides 8, 16 and 32 start.

    A head is what the score, the box and the landmarks of a stride have in common; above it the
    first value that something else uses too, or that is a sum, belongs to the neck.

    Args:
        path: An ONNX file with the nine outputs of an SCRFD in their usual order.

    Raises:
        ConfigError: Its graph is of another kind.
        WeightsError: The file cannot be read.
    """
    import onnx

    graph = onnx.load_model_from_string(read_model(path)).graph
    made = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    used: dict[str, int] = defaultdict(int)
    for node in graph.node:
        for name in set(node.input):
            used[name] += node.op_type != "Shape"
    count = len(STRIDES)
    names = []
    for level in range(count):
        outputs = [graph.output[k].name for k in range(level, 3 * count, count)]
        name = common = _common(graph, made, outputs)
        while True:
            node = made.get(name)
            if node is None:
                raise ConfigError(f"{path} has no neck to learn from: it is not a usual SCRFD")
            if node.op_type not in _STEPS or (used[name] > 1 and name != common):
                break
            name = next(value for value in node.input if value not in constants)
        names.append(name)
    return names


def _common(graph: GraphProto, made: dict[str, NodeProto], outputs: Sequence[str]) -> str:
    """Give the last value in the graph that all outputs come from; empty: there is none."""
    sets = []
    for output in outputs:
        seen: set[str] = set()
        left = [output]
        while left:
            name = left.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in made:
                left += made[name].input
        sets.append(seen)
    shared = set.intersection(*sets)
    order = (output for node in reversed(graph.node) for output in node.output)
    return next((name for name in order if name in shared), "")
