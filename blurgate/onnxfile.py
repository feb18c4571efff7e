"""ONNX files, looked into and cut without the package `onnx` and without opening a session.

The numbers of fields are those of onnx.proto, which have been the same since ONNX 1.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from blurgate import protobuf
from blurgate.errors import WeightsError

# The messages through which a tensor can be reached: message -> field -> message.
_TENSORS_WITHIN: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_DATA_LOCATION: Final = 14
_GRAPH: Final = 7
_METADATA: Final = 14
_GRAPH_NODE: Final = 1
_GRAPH_OUTPUT: Final = 12
_NODE_INPUT: Final = 1
_NODE_OUTPUT: Final = 2
_NODE_ATTRIBUTE: Final = 5
_ATTRIBUTE_GRAPHS: Final = (6, 11)
_VALUE_NAME: Final = 1
_FIELD_NUMBERS: Final = (1 << 29) - 1
"""Protobuf readers drop the bits above; kept, they would hide a field under another number."""


def read_model(model: Path) -> bytes:
    """Read a model file, and refuse one that is no ONNX or that names other files.

    onnxruntime would read such other files, found in the current folder when the model comes as
    bytes, and their checksum is not the model's.
    """
    try:
        data = model.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the model {model}: {error}", path=str(model)) from error
    try:
        external = has_external_data(data)
    except IndexError:
        raise WeightsError(
            f"{model} is not an ONNX file, or is cut short ({len(data)} bytes); get it again",
            path=str(model),
        ) from None
    if external:
        raise WeightsError(
            f"{model} keeps weights in other files (ONNX external data), which blurgate does not "
            "read; save it as one file: onnx.save(onnx.load(path), new_path)",
            path=str(model),
        )
    return data


def with_outputs(data: bytes, names: Sequence[str], model: Path) -> bytes:
    """Copy an ONNX file without the graph's other outputs and the nodes that only they need.

    onnxruntime works out nodes whose outputs nobody asks for. What a node gives and the graph does
    not becomes an output of it.
    """
    missing = set(names)
    useless: Iterator[bool] = iter(())

    def of_graph(number: int, value: memoryview) -> memoryview | None:
        if number == _GRAPH_NODE:
            return None if next(useless, False) else value
        if number != _GRAPH_OUTPUT:
            return value
        called = {bytes(v) for n, v in protobuf.fields(value) if n == _VALUE_NAME and v}
        kept = [name for name in names if name.encode() in called]
        missing.difference_update(kept)
        return value if kept else None

    def of_model(number: int, value: memoryview) -> bytes | memoryview:
        nonlocal useless
        if number != _GRAPH:
            return value
        useless = iter(_useless(value, names))
        edited = protobuf.edited(value, of_graph)
        given = _given(value) if missing else set()
        inner = [name for name in names if name in missing and name.encode() in given]
        missing.difference_update(inner)
        outputs = (protobuf.field(_VALUE_NAME, name.encode()) for name in inner)
        return edited + b"".join(protobuf.field(_GRAPH_OUTPUT, output) for output in outputs)

    try:
        edited = protobuf.edited(memoryview(data), of_model)
    except IndexError as error:
        raise WeightsError(f"{model} is damaged; get it again", path=str(model)) from error
    if missing:
        raise WeightsError(f"{model} has no output {min(missing)!r}", path=str(model))
    return edited


def _given(graph: memoryview) -> set[bytes]:
    """Give the names of all that the nodes of a graph give."""
    nodes = [value for number, value in protobuf.fields(graph) if number == _GRAPH_NODE]
    parts = [_parts(node) for node in nodes]
    return set().union(*(outputs for _, outputs in filter(None, parts)))


def _useless(graph: memoryview, names: Sequence[str]) -> list[bool]:
    """Tell of each node of a graph, in its order, whether none of some outputs needs it."""
    nodes = [value for number, value in protobuf.fields(graph) if number == _GRAPH_NODE]
    needed = {name.encode() for name in names}
    useless: list[bool] = []
    for node in reversed(nodes):  # ONNX lists a node after those that it needs
        parts = _parts(node)
        if parts is None:
            return []  # nothing is left out
        inputs, outputs = parts
        useless.append(needed.isdisjoint(outputs))
        if not useless[-1]:
            needed |= inputs
    return useless[::-1]


def _parts(node: int | memoryview) -> tuple[set[bytes], set[bytes]] | None:
    """Give a node's inputs and outputs; None of a branch or a loop, which reads other names too."""
    inputs: set[bytes] = set()
    outputs: set[bytes] = set()
    if isinstance(node, int):
        return None
    for number, value in protobuf.fields(node):
        if isinstance(value, int) or not value:
            continue
        if number == _NODE_INPUT:
            inputs.add(bytes(value))
        elif number == _NODE_OUTPUT:
            outputs.add(bytes(value))
        elif number == _NODE_ATTRIBUTE and any(
            within in _ATTRIBUTE_GRAPHS for within, _ in protobuf.fields(value)
        ):
            return None
    return inputs, outputs


def has_external_data(data: bytes) -> bool:
    """Look for a tensor whose values lie outside the file.

    Raises:
        IndexError: The bytes are no ONNX model, or break off.
    """
    waiting: list[tuple[str, memoryview]] = [("model", memoryview(data))]
    has_graph = False
    while waiting:
        message, content = waiting.pop()
        within = _TENSORS_WITHIN[message]
        for full_number, value in protobuf.fields(content):
            number = full_number & _FIELD_NUMBERS
            if message == "tensor":
                if number == _TENSOR_DATA_LOCATION and value:  # 0: in this file
                    return True
            elif number in within and isinstance(value, memoryview):
                has_graph |= message == "model" and number == _GRAPH
                waiting.append((within[number], value))
    if not has_graph:
        raise IndexError("no graph")
    return False


def metadata(data: bytes) -> dict[str, str]:
    """Read the metadata properties of an ONNX file without loading the model.

    Opening a session to ask for them costs a second load of the weights, and a card may name the
    runner that has to open it. Only the outermost protobuf fields are walked.

    Args:
        data: The file's content.

    Returns:
        The properties; empty when the bytes are not an ONNX file, which the runner reports better.
    """
    found: dict[str, str] = {}
    try:
        for number, value in protobuf.fields(memoryview(data)):
            if number == _METADATA and isinstance(value, memoryview):
                pair = {n: v for n, v in protobuf.fields(value) if isinstance(v, memoryview)}
                found[str(pair[1], "utf-8")] = str(pair[2], "utf-8")
    except (IndexError, KeyError, UnicodeDecodeError):
        return {}
    return found


def identity_model() -> bytes:
    """Give the smallest ONNX file that computes something, y = x for one float."""

    def text(number: int, value: str) -> bytes:
        return protobuf.field(number, value.encode())

    def count(number: int, value: int) -> bytes:
        return bytes([number << 3, value])

    def tensor(number: int, name: str) -> bytes:
        dimension = protobuf.field(1, count(1, 1))
        float_of_one = count(1, 1) + protobuf.field(2, dimension)
        kind = protobuf.field(2, protobuf.field(1, float_of_one))
        return protobuf.field(number, text(_VALUE_NAME, name) + kind)

    node = text(_NODE_INPUT, "x") + text(_NODE_OUTPUT, "y") + text(4, "Identity")
    graph = protobuf.field(_GRAPH_NODE, node) + text(2, "probe")
    graph += tensor(11, "x") + tensor(_GRAPH_OUTPUT, "y")
    opset = protobuf.field(8, text(1, "") + count(2, 13))
    return count(1, 8) + protobuf.field(_GRAPH, graph) + opset
