"""Walking protobuf messages without their schema.

Enough to look into ONNX files before a runtime opens them, without the `onnx` package. The wire
format is https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give the fields of one message, in order; messages inside it come as their bytes.

    Args:
        data: The message's bytes.

    Yields:
        (field number, value): an int for a varint, the bytes of everything else.

    Raises:
        IndexError: The bytes are not a whole message.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise IndexError("not protobuf")
        if position + length > len(data):
            raise IndexError("cut off")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError("not protobuf")
