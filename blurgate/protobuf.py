"""Walking protobuf messages without their schema.

Enough to look into ONNX files before a runtime opens them, without the `onnx` package. The wire
format is https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give the fields of one message, in order; messages inside it come as their bytes.

    Args:
        data: The message's bytes.

    Yields:
        (field number, value): an int for a varint, the bytes of everything else.

    Raises:
        IndexError: The bytes are not a whole message.
    """
    for number, value, _ in _spans(data):
        yield number, value


def edited(data: memoryview, edit: Callable[[int, memoryview], bytes | memoryview | None]) -> bytes:
    """Copy a message with some of its fields changed.

    Args:
        data: The message's bytes.
        edit: Called with (field number, value) of every field that is not a plain number; gives
            the new value, or None to leave the field out.

    Raises:
        IndexError: The bytes are not a whole message.
    """
    out = bytearray()
    for number, value, span in _spans(data):
        if isinstance(value, int) or span[0] & 7 != _LENGTH_DELIMITED:
            out += span
            continue
        new = edit(number, value)
        if new is value:
            out += span
        elif new is not None:
            out += field(number, new)
    return bytes(out)


def field(number: int, value: bytes | memoryview) -> bytes:
    """Write one field that is no number."""
    return _encoded(number << 3 | _LENGTH_DELIMITED) + _encoded(len(value)) + bytes(value)


_LENGTH_DELIMITED: Final = 2


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _spans(data: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """Give the fields of one message, each with all of its bytes."""
    position = 0
    while position < len(data):
        start = position
        key, position = _varint(data, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield key >> 3, value, data[start:position]
            continue
        if wire == _LENGTH_DELIMITED:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise IndexError("not protobuf")
        if position + length > len(data):
            raise IndexError("cut off")
        end = position + length
        yield key >> 3, data[position:end], data[start:end]
        position = end


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
