"""An 8-bit twin of an exported model: smaller, often faster, and a little less right.

Static quantisation in QDQ form, activations as uint8 and weights as int8 per output channel, of
which seven bits are used; onnxruntime runs it as integer arithmetic. What follows the last
convolution is a sliver of the work and stays in floating point, and its last layer is scaled and
shifted to what the model itself answers: rounding does not only scatter a network's output, it
shrinks and moves it (Nagel et al. 2019 correct the shift). Ranges, scale and shift come from
training pictures; what is lost is measured on the validation part and stands in the twin's card.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from blurgate.cards import METADATA_KEY
from blurgate.errors import ModelError
from blurgate.files import written_whole
from blurgate.interfaces import Runtime
from blurgate.runtime import make_session, run
from blurgate.training.loop import prepare
from blurgate.training.scores import Scores, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.batches import Pictures

__all__ = ["measure", "note", "pack", "quantize"]


def quantize(model: Path, out: Path, pictures: Iterable[Pictures]) -> int:
    """Write the 8-bit twin of a model, its card included.

    Args:
        model: An ONNX file of `blurgate.training.export`.
        out: The file to write.
        pictures: Batches from which ranges, scale and shift are taken; a few hundred pictures.

    Returns:
        The number of these pictures.

    Raises:
        ModelError: onnxruntime cannot quantise it.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = [prepare(batch.pictures.cpu()).contiguous().numpy() for batch in pictures]
    logger = logging.getLogger()
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # the quantiser tells of every tensor it passes over
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quantized = Path(folder) / "quantized.onnx"
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(quantized),
                _Reader(iter(batches)),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                # Seven bits of weights: processors without VNNI add products up in 16 bits, where
                # eight would overflow, and the degree would depend on the machine.
                reduce_range=True,
                # The mean of the batches' ranges, which is what `for_int8` rounds to in training;
                # the widest of all makes coarse steps for the sake of one picture.
                extra_options={"CalibMovingAverage": True},
                nodes_to_exclude=_after_convolutions(onnx.load(str(prepared)).graph),
            )
            graph = onnx.load(str(quantized))
            wanted, found = (_raw(path, batches) for path in (prepared, quantized))
            _refit(graph, wanted, found)
            pack(graph)
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise ModelError(f"{model} cannot be quantised: {line}", path=str(model)) from error
    finally:
        logger.setLevel(level)
    properties = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    onnx.helper.set_model_props(graph, properties)
    with written_whole(out) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return sum(map(len, batches))


def _after_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Name the nodes that no convolution follows: a degree of eight bits would have 256 values."""
    before: set[str] = set()
    after = []
    for node in reversed(graph.node):
        if node.op_type == "Conv" or before.intersection(node.output):
            before.update(node.input)
        else:
            after.append(node.name)
    return after


def _last_linear(graph: onnx.GraphProto) -> onnx.NodeProto:
    """Find the linear layer whose output becomes the degree."""
    makers: dict[str, onnx.NodeProto] = {out: node for node in graph.node for out in node.output}
    node = makers["degree"]
    while node.op_type != "Gemm":
        node = makers[node.input[0]]
    return node


def _raw(path: Path, batches: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Give what the last linear layer says of some pictures: (n, outputs)."""
    model = onnx.load(str(path))
    name = _last_linear(model.graph).output[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    cut = path.with_suffix(".raw.onnx")
    onnx.save(model, str(cut))
    session = make_session(cut, Runtime("cpu"), [name])
    return np.concatenate([run(session, {"images": batch}, str(cut))[0] for batch in batches])


def _refit(model: onnx.ModelProto, wanted: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Scale and shift each output of the last linear layer, by least squares.

    Args:
        model: Its weights and biases are changed.
        wanted: (n, outputs) what the layer should say.
        found: (n, outputs) what it says.
    """
    node = _last_linear(model.graph)
    if len(node.input) == 2:  # biases of zero are left out
        zero = np.zeros(found.shape[1], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(zero, f"{node.output[0]}_bias"))
        node.input.append(f"{node.output[0]}_bias")
    weight, bias = (
        next(entry for entry in model.graph.initializer if entry.name == name)
        for name in node.input[1:]
    )
    spread = found.var(axis=0, dtype=np.float64)
    common = ((found - found.mean(axis=0)) * (wanted - wanted.mean(axis=0))).mean(axis=0)
    scale = np.divide(common, spread, out=np.ones_like(spread), where=spread > 0)
    shift = wanted.mean(axis=0) - scale * found.mean(axis=0)
    # Exported layers keep their weights as torch does, (outputs, features).
    for entry, by, add in ((weight, scale[:, None], 0), (bias, scale, shift)):
        changed = (numpy_helper.to_array(entry) * by + add).astype(np.float32)
        entry.CopyFrom(numpy_helper.from_array(changed, entry.name))


def pack(model: onnx.ModelProto) -> None:
    """Let the first convolution see squares of 2 x 2 pixels as one with four times the channels.

    The sums stay the same: one that steps by two pixels over an even border, as YOLOv5's, steps by
    one over such squares. onnxruntime collects what an 8-bit convolution multiplies pixel by pixel,
    and three numbers at a time are few (docs/decisions/0026-graphs-for-speed.md).

    Args:
        model: Changed, if its first convolution is such a one.
    """
    nodes = model.graph.node
    chain, name = [], "images"
    for kind in ("QuantizeLinear", "DequantizeLinear", "Conv"):
        users = [node for node in nodes if name in node.input]
        if [node.op_type for node in users] != [kind]:
            return
        chain += users
        name = users[0].output[0]
    rounded, _, conv = chain
    made = next(node for node in nodes if conv.input[1] in node.output)
    entry = next(entry for entry in model.graph.initializer if entry.name == made.input[0])
    weight = numpy_helper.to_array(entry)
    facts = {entry.name: onnx.helper.get_attribute_value(entry) for entry in conv.attribute}
    outputs, channels, h, w = weight.shape
    plain = facts.get("group", 1) == 1 and facts.get("dilations", [1, 1]) == [1, 1]
    even = not any(side % 2 for side in (h, w, *facts.get("pads", [0])))
    if not plain or not even or facts.get("strides") != [2, 2]:
        return
    squares = weight.reshape(outputs, channels, h // 2, 2, w // 2, 2).transpose(0, 3, 5, 1, 2, 4)
    squares = np.ascontiguousarray(squares).reshape(outputs, 4 * channels, h // 2, w // 2)
    entry.CopyFrom(numpy_helper.from_array(squares, entry.name))
    facts["kernel_shape"], facts["strides"] = [h // 2, w // 2], [1, 1]
    facts["pads"] = [side // 2 for side in facts.get("pads", [0] * 4)]
    del conv.attribute[:]
    conv.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in facts.items())
    rounded.input[0] = "squares"
    nodes.insert(0, onnx.helper.make_node("SpaceToDepth", ["images"], ["squares"], blocksize=2))


def measure(model: Path, batches: Iterable[Pictures]) -> Scores:
    """Measure the errors of an ONNX file's degrees with onnxruntime."""
    session = make_session(model, Runtime("cpu"), ["degree"])
    name = session.get_inputs()[0].name
    found: list[NDArray[Any]] = []
    true: list[NDArray[Any]] = []
    for batch in batches:
        images = prepare(batch.pictures.cpu()).contiguous().numpy()
        found.append(run(session, {name: images}, str(model))[0])
        true.append(batch.degrees.cpu().numpy())
    return score(np.concatenate(found), np.concatenate(true))


def note(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Put facts into the `about` of the card that a twin has of its model; gives the card."""
    graph = onnx.load(str(path))
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    card: dict[str, Any] = json.loads(properties[METADATA_KEY])
    card["name"] = path.stem
    card["about"] = {**card.get("about", {}), **facts}
    onnx.helper.set_model_props(graph, {**properties, METADATA_KEY: json.dumps(card)})
    with written_whole(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return card


class _Reader:
    """Batches in the form that onnxruntime's quantiser asks for."""

    def __init__(self, batches: Iterator[NDArray[Any]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}
