"""Model cards: the facts that travel with a weight file (docs/models.md describes every key).

A card is a JSON object. It stands in the manifest, in an ONNX file's metadata under the key
`blurgate`, or in a file beside the model (`<stem>.json`), which wins over the metadata. A key that
is unknown or has a wrong value is an error: a misspelt `threshold` must not become a default.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias, TypeGuard

from blurgate import onnxfile
from blurgate.errors import WeightsError, hint

if TYPE_CHECKING:
    from pathlib import Path

ModelKind: TypeAlias = Literal["detector", "scorer", "embedder"]
Triple: TypeAlias = tuple[float, float, float]

MODEL_KINDS: Final = ("detector", "scorer", "embedder")
_KIND: Final = re.compile(r"[a-z][a-z0-9_-]*")
METADATA_KEY: Final = "blurgate"


@dataclass(frozen=True, slots=True)
class InputCard:
    """How aligned faces become the model's input tensor, (n, 3, h, w) float32."""

    size: tuple[int, int] = (112, 112)
    """(h, w) in pixels."""
    color: Literal["rgb", "bgr"] = "rgb"
    mean: Triple = (127.5, 127.5, 127.5)
    """Taken from the pixel values 0..255, in the order of `color`."""
    std: Triple = (127.5, 127.5, 127.5)
    """Divides what is left, in the order of `color`."""


@dataclass(frozen=True, slots=True)
class OutputCard:
    """What the model's output means."""

    type: Literal["degree", "quality", "bins", "embedding"]
    """degree: blur degree; quality: 1 - degree; bins: logits over `centres`; embedding."""
    reduce: Literal["mean", "none"] = "none"
    """mean: average a face's values (degree and quality); none: there is one value per face."""
    tensor: str = ""
    """Name of the graph output to read; empty for the first."""
    range: tuple[float, float] = (0.0, 1.0)
    """The raw values that stand for 0 and 1 (degree and quality)."""
    centres: tuple[float, ...] = ()
    """Blur degree of each bin; empty for equal bins over [0, 1]."""
    kinds: tuple[str, ...] = ()
    """Names of the kinds of blur whose probabilities the graph's output `kind` (n, k) gives; its
    output `direction` (n, 2) is then the cosine and sine of twice the angle of a motion."""


@dataclass(frozen=True, slots=True)
class Card:
    """A checked card."""

    kind: ModelKind | None = None
    runner: str = ""
    """The registered plugin that runs the file; empty for the kind's usual one."""
    name: str = ""
    threshold: float | None = None
    """Scorers: the blur degree above which a face is rejected, in [0, 1]."""
    licence: str = ""
    source: str = ""
    """Where the weights come from."""
    input: InputCard = field(default_factory=InputCard)
    output: OutputCard | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """Anything worth keeping, such as how the weights were trained; `blurgate bench` shows some of
    it, read with `number_in` and `object_in`."""


def read_card(facts: Mapping[str, Any], where: str) -> Card:
    """Check a card.

    Args:
        facts: The card as JSON gives it.
        where: The file it stands in, for messages.

    Raises:
        WeightsError: A key is unknown (the nearest known one is named) or a value is wrong.

    >>> read_card({"kind": "scorer", "threshold": 0.4}, "card.json").threshold
    0.4
    """
    reader = _Reader(where, "")
    reader.known(facts, Card)
    values: dict[str, Any] = {}
    for key, value in facts.items():
        if key == "kind":
            values[key] = reader.one_of(key, value, MODEL_KINDS)
        elif key == "threshold":
            if value is not None:
                values[key] = reader.number(key, value, 0.0, 1.0)
        elif key == "input":
            values[key] = _read_input(reader.mapping(key, value), _Reader(where, "input."))
        elif key == "output":
            values[key] = _read_output(reader.mapping(key, value), _Reader(where, "output."))
        elif key == "about":
            values[key] = reader.mapping(key, value)
        else:
            values[key] = reader.text(key, value)
    return Card(**values)


def _read_input(facts: Mapping[str, Any], reader: _Reader) -> InputCard:
    reader.known(facts, InputCard)
    values: dict[str, Any] = {}
    for key, value in facts.items():
        if key == "size":
            size = reader.numbers(key, value, 2, 1, 4096)
            if any(n % 1 for n in size):
                reader.fail(key, value, "two whole numbers")
            values[key] = tuple(map(int, size))
        elif key == "color":
            values[key] = reader.one_of(key, value, ("rgb", "bgr"))
        else:
            triple = value if isinstance(value, list) else [value] * 3
            # Beyond these a graph in float32 would see the same of every face, or infinities.
            low = 1e-6 if key == "std" else -1e6
            values[key] = reader.numbers(key, triple, 3, low, 1e6)
    return InputCard(**values)


def _read_output(facts: Mapping[str, Any], reader: _Reader) -> OutputCard:
    reader.known(facts, OutputCard)
    values: dict[str, Any] = {"type": None}
    for key, value in facts.items():
        if key == "reduce":
            values[key] = reader.one_of(key, value, ("mean", "none"))
        elif key == "range":
            values[key] = reader.numbers(key, value, 2)
            if values[key][0] == values[key][1]:
                reader.fail(key, value, "two different numbers")
        elif key == "centres":
            values[key] = reader.numbers(key, value, None, 0.0, 1.0)
        elif key == "tensor":
            values[key] = reader.text(key, value)
        elif key == "kinds":
            if not isinstance(value, list) or not value:
                reader.fail(key, value, "a list of texts")
            values[key] = tuple(reader.text(key, entry) for entry in value)
            if not all(map(_KIND.fullmatch, values[key])):  # they stand in tables
                reader.fail(key, value, "names of small letters, digits, - and _")
    types = ("degree", "quality", "bins", "embedding")
    values["type"] = reader.one_of("type", facts.get("type"), types)
    return OutputCard(**values)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks the values of one JSON object and says where a wrong one stands."""

    where: str
    prefix: str

    def fail(self, key: str, value: object, wanted: str) -> NoReturn:
        got = json.dumps(value, default=repr)
        raise WeightsError(
            f"{self.where}: the card's {self.prefix}{key} must be {wanted}, not {got}",
            path=self.where,
        )

    def known(self, facts: Mapping[str, Any], card: type[Any]) -> None:
        keys = [entry.name for entry in fields(card)]
        for key in facts:
            if key not in keys:
                raise WeightsError(
                    f"{self.where}: the card has an unknown key {self.prefix + key!r}; "
                    f"{hint(key, keys)}",
                    path=self.where,
                )

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            self.fail(key, value, "a text")
        return value

    def one_of(self, key: str, value: object, allowed: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in allowed:
            self.fail(key, value, f"one of {', '.join(allowed)}")
        return value

    def mapping(self, key: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.fail(key, value, "an object")
        return value

    def number(self, key: str, value: object, low: float, high: float) -> float:
        return self.numbers(key, [value], 1, low, high)[0]

    def numbers(
        self,
        key: str,
        value: object,
        count: int | None,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> tuple[float, ...]:
        if (
            not isinstance(value, list)
            or (count is not None and len(value) != count)
            or not all(_is_number(n) and low <= n <= high for n in value)
        ):
            span = "" if low == -math.inf else f" in [{low:g}, {high:g}]"
            if count == 1 and isinstance(value, list):
                self.fail(key, value[0], f"a number{span}")
            self.fail(key, value, f"{count or 'some'} numbers{span}")
        return tuple(float(n) for n in value)


def number_in(about: Mapping[str, Any], key: str) -> float | None:
    """Give a number within a card's `about`, which may hold anything; None where it is none.

    >>> number_in({"mae": 0.03}, "mae"), number_in({"mae": "small"}, "mae")
    (0.03, None)
    """
    value = about.get(key)
    return value if _is_number(value) else None


def object_in(about: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Give an object within a card's `about`, which may hold anything; empty where it is none."""
    value = about.get(key)
    return value if isinstance(value, Mapping) else {}


def _is_number(value: object) -> TypeGuard[float]:
    # Compared and not asked: JSON may hold an integer that is too large for `math.isfinite`.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def facts_of(path: Path, data: bytes) -> dict[str, Any]:
    """Collect what is known about a model file from its metadata and from the card beside it.

    Args:
        path: The model file; `<stem>.json` beside it is its card.
        data: The file's content.

    Returns:
        The card as JSON gives it, checked; empty when there is neither.

    Raises:
        WeightsError: A card is not a JSON object, or holds unknown keys or wrong values.
    """
    metadata = onnxfile.metadata(data)
    facts = _parse(metadata[METADATA_KEY], str(path)) if METADATA_KEY in metadata else {}
    beside = path.with_suffix(".json")
    if beside != path and beside.is_file():
        try:
            text = beside.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(
                f"cannot read the card {beside}: {error}", path=str(beside)
            ) from error
        facts |= _parse(text, str(beside))
    return facts


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the card in {where} is not JSON: {error}", path=where) from error
    if not isinstance(facts, dict):
        raise WeightsError(f"the card in {where} is not a JSON object", path=where)
    read_card(facts, where)
    return facts
