"""From a trained network to an ONNX file that `blurgate filter --model` takes as it is.

The graph goes from `images`, (n, 3, 112, 112) float32 RGB normalised as the embedded card says, to
`degree`, (n,) float32 in [0, 1]; n is free. Before a file counts, onnxruntime has to give what
torch gives.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from blurgate.cards import METADATA_KEY, read_card
from blurgate.errors import ModelError
from blurgate.files import written_whole
from blurgate.interfaces import Runtime
from blurgate.runtime import make_session, run
from blurgate.training.kinds import KindHead, pooled, taps
from blurgate.training.loop import INPUT, prepare
from blurgate.training.model import BlurModel
from blurgate.types import CROP_SIZE

__all__ = ["OPSET", "TOLERANCE", "card_facts", "check", "export", "trace", "write"]

OPSET: Final = 18
"""The oldest that the exporter writes without converting, so that old runtimes can read it."""
TOLERANCE: Final = 1e-4
"""How far onnxruntime's degrees may be from torch's."""
OUTPUTS: Final = ("degree", "kind", "direction")
_CHECKED: Final = (1, 5)  # batch sizes


class _Degree(nn.Module):
    """What is exported: images -> degrees. A head's own autocast switch has no place in a graph."""

    def __init__(self, model: BlurModel, kinds: KindHead | None = None) -> None:
        super().__init__()
        self.model, self.kinds = model, kinds

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(n, 3, 112, 112) float32 -> (n,) float32 in [0, 1]; with a head for kinds, its too."""
        head = self.model.head
        if self.kinds is None:
            return (head.degree(head(self.model.backbone(images))),)
        features, maps = taps(self.model.backbone, images)
        return (head.degree(head(features)), *self.kinds(pooled(maps)))


def card_facts(
    name: str,
    *,
    threshold: float,
    licence: str = "",
    kinds: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Give the card of an exported model as plain values; docs/models.md describes the keys."""
    facts: dict[str, Any] = {
        "kind": "scorer",
        "name": name,
        "threshold": threshold,
        "licence": licence or "none stated",
        "source": "blurgate train",
        "input": {
            "size": list(INPUT.size),
            "color": INPUT.color,
            "mean": list(INPUT.mean),
            "std": list(INPUT.std),
        },
        "output": {
            "type": "degree",
            **({"tensor": "degree", "kinds": list(kinds)} if kinds else {}),
        },
        "about": dict(about or {}),
    }
    read_card(facts, name)
    return facts


def export(
    model: BlurModel,
    path: Path,
    card: Mapping[str, Any],
    *,
    pictures: Tensor | None = None,
    kinds: KindHead | None = None,
) -> float:
    """Write a model as ONNX, and check the file against the model.

    Args:
        model: Left in eval mode, on the CPU, in float32, channels first.
        path: Where to; the file appears there only if it is right.
        card: From `card_facts`; goes into the file's metadata.
        pictures: (n, 3, 112, 112) uint8 BGR to check on besides drawn ones. On pictures that a
            network was not made for, all its degrees may be 0 or 1.
        kinds: Adds the outputs `kind` (n, 4) and `direction` (n, 2).

    Returns:
        The largest difference of an output between torch and onnxruntime.

    Raises:
        ModelError: The network cannot be exported, or onnxruntime gives other degrees.
    """
    model.cpu().float().eval()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module = _Degree(model, kinds).eval()
    graph = trace(module, torch.zeros(2, 3, CROP_SIZE, CROP_SIZE), _outputs(module))
    return write(graph, path, card, lambda file: check(module, file, pictures), "degrees")


def write(
    graph: onnx.ModelProto,
    path: Path,
    card: Mapping[str, Any],
    difference_of: Callable[[Path], float],
    unit: str = "",
) -> float:
    """Write a graph with a card in it, if it gives what the trained network gives.

    Args:
        graph: Changed.
        path: Where to; the file appears there only if it is right.
        card: Goes into the file's metadata.
        difference_of: Gives the largest difference between a file and the network.
        unit: Of that difference, for the message.

    Returns:
        The difference.

    Raises:
        ModelError: It is above `TOLERANCE`.
    """
    _strip(graph)
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(card)})
    graph.producer_name, graph.producer_version = "blurgate", ""
    with written_whole(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        difference = difference_of(temporary)
        if not difference <= TOLERANCE:
            raise ModelError(
                f"the exported model differs from the trained one by {difference:.2g} {unit}, and "
                f"{TOLERANCE:g} is allowed; {path} was not written",
                path=str(path),
            )
    return difference


def trace(module: nn.Module, example: Tensor, outputs: Sequence[str]) -> onnx.ModelProto:
    """Turn a network into an ONNX graph of `OPSET` for any number of images.

    Args:
        module: In eval mode.
        example: Images such as it takes, at least 2.
        outputs: Names of what it gives.

    Raises:
        ModelError: The exporter cannot.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # torch's exporter warns of its own insides
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                input_names=["images"],
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise ModelError(f"the network cannot be exported to ONNX: {line}") from error
    finally:
        logger.setLevel(level)
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    return graph


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter tells of its own work: stack traces with the machine's paths."""
    del model.metadata_props[:]
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        graph.doc_string = ""
        del graph.metadata_props[:]
        del graph.value_info[:]  # shapes in between, which runtimes infer again
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.node):
            value.doc_string = ""
            del value.metadata_props[:]
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


def _outputs(module: _Degree) -> list[str]:
    return ["degree"] if module.kinds is None else list(OUTPUTS)


def check(module: _Degree, path: Path, pictures: Tensor | None = None) -> float:
    """Give the largest difference between a module's outputs and those of its ONNX file."""
    session = make_session(path, Runtime("cpu"))
    worst = 0.0
    for some in [*map(_drawn, _CHECKED), *([] if pictures is None else [pictures.cpu()])]:
        count, images = len(some), prepare(some)
        with torch.inference_mode():
            expected = [out.numpy() for out in module(images)]
        found = run(session, {"images": images.numpy()}, str(path), _outputs(module))
        for got, wanted in zip(found, expected, strict=True):
            if got.shape != wanted.shape or not np.isfinite(got).all():
                raise ModelError(
                    f"the exported model gives {got.shape} or no numbers for {count} pictures",
                    path=str(path),
                )
            worst = max(worst, float(np.abs(got - wanted).max()))
    return worst


def _drawn(count: int) -> Tensor:
    """Draw (n, 3, 112, 112) uint8: patches of colour, of a size for each picture, under noise."""
    rng = np.random.default_rng(count)
    out = np.empty((count, 3, CROP_SIZE, CROP_SIZE), np.uint8)
    for i in range(count):
        side = (2, 4, 8, 16, 56)[i % 5]
        patches = rng.uniform(0, 255, (3, CROP_SIZE // side, CROP_SIZE // side))
        noise = rng.normal(0, 4 * (i % 5), (3, CROP_SIZE, CROP_SIZE))
        out[i] = (patches.repeat(side, 1).repeat(side, 2) + noise).clip(0, 255)
    return torch.from_numpy(out)
