"""What a plugin has to offer: one protocol per kind, and the factory that makes it.

A factory is called only when its plugin is chosen and does its heavy imports (torch, onnxruntime)
itself. Everything made must be safe to call from several threads at once, because the pipeline's
workers share one object (onnxruntime sessions and pure NumPy code are).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from blurgate.io.text import shown

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import typer

    from blurgate.training.interfaces import Backbone, Loss, Synthesizer
    from blurgate.types import F32, U8, BlurKind, Detections, Frame

__all__ = [
    "App",
    "BackboneFactory",
    "Column",
    "Detector",
    "DetectorFactory",
    "DetectorOptions",
    "Embedder",
    "EmbedderFactory",
    "KindScorer",
    "LossFactory",
    "ModelFile",
    "ModelInfo",
    "Register",
    "Runtime",
    "Scalar",
    "Scorer",
    "ScorerFactory",
    "Sink",
    "SinkFactory",
    "SynthesizerFactory",
]

Scalar: TypeAlias = str | int | float | None


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how a model runs."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 1
    """Threads inside one operator; 1 is fastest when several workers share the machine."""


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """What a user may choose about detection."""

    long_side: int = 640
    """Longer side of the detector's input in pixels; the shorter follows the picture's shape."""
    min_score: float = 0.5
    """Faces below this confidence are not reported."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `repr` gives, which journals note.

        Raises:
            ValueError: It is something else.
        """
        found = re.fullmatch(r"DetectorOptions\(long_side=(\d+), min_score=([\d.e-]+)\)", text)
        if found is None:
            raise ValueError(f"{text!r} is not what DetectorOptions show")
        return cls(int(found[1]), float(found[2]))


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Who a model is; goes into summaries and beside every score."""

    name: str
    sha256: str
    """Hex digest of the weight file; empty for a model without weights."""

    def __str__(self) -> str:
        """Give "name@sha256[:12]", or the name alone when there are no weights, on one line."""
        name = shown(self.name)
        return f"{name}@{self.sha256[:12]}" if self.sha256 else name


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file whose checksum has been taken, with the facts its card states."""

    path: Path
    info: ModelInfo
    card: Mapping[str, Any] = field(default_factory=dict)
    """Facts from the manifest, the ONNX metadata or the card beside the file (docs/models.md)."""


class Detector(Protocol):
    """Finds faces."""

    @property
    def info(self) -> ModelInfo:
        """Who this is."""
        ...

    def __call__(self, frames: Sequence[Frame], /) -> list[Detections]:
        """Find the faces of each frame.

        Returns:
            One `Detections` per frame, in the same order, each sorted by falling score.
        """
        ...


class Scorer(Protocol):
    """Measures how blurred aligned faces are."""

    @property
    def info(self) -> ModelInfo:
        """Who this is."""
        ...

    @property
    def threshold(self) -> float:
        """The blur degree above which this scorer's card advises to reject."""
        ...

    def __call__(self, crops: U8, /) -> F32:
        """Score aligned faces; a batch of one gives what a batch of many gives.

        Args:
            crops: (n, 112, 112, 3) uint8 BGR on the ArcFace template; n may be 0.

        Returns:
            (n,) float32 blur degrees in [0, 1], 0 sharp, 1 unusable.
        """
        ...


class KindScorer(Scorer, Protocol):
    """A scorer that also tells motion, defocus and low resolution apart."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds it knows; empty for a model that has no such output."""
        ...

    def with_kinds(self, crops: U8, /) -> tuple[F32, list[BlurKind]]:
        """Give what a call gives, and the kind of blur of every face."""
        ...


class Embedder(Protocol):
    """Turns aligned faces into recognition embeddings."""

    @property
    def info(self) -> ModelInfo:
        """Who this is."""
        ...

    def __call__(self, crops: U8, /) -> F32:
        """Embed aligned faces.

        Args:
            crops: (n, 112, 112, 3) uint8 BGR on the ArcFace template; n may be 0.

        Returns:
            (n, d) float32, L2-normalised.
        """
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    type: type[str] | type[int] | type[float]


class Sink(Protocol):
    """Stores rows. What has been written is valid at any moment, also after a crash."""

    def __enter__(self) -> Sink:
        """Open the target."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Close the target; rows written so far stay valid, also when an error is on its way."""
        ...

    def write(self, row: Mapping[str, Scalar], /) -> None:
        """Store one row, with a value (None: empty) for every column."""
        ...

    def mark(self) -> int:
        """Give a mark: a sink made to resume at it forgets what was written after it."""
        ...

    def sync(self) -> None:
        """Bring everything written so far to the disk."""
        ...


class Register(Protocol):
    """Handed to a `register_*` hook; adds one plugin under a name."""

    def __call__(self, name: str, factory: Any, /, *, aliases: Sequence[str] = ()) -> None:
        """Add a plugin.

        Args:
            name: Lower-case letters, digits, `.`, `_` and `-`; unique within its kind.
            factory: Called when the plugin is chosen; its signature stands in this module.
            aliases: Other names for the same plugin.

        Raises:
            DuplicateNameError: Another plugin of the kind has one of the names.
        """
        ...


DetectorFactory: TypeAlias = Callable[["ModelFile | None", Runtime, DetectorOptions], Detector]
ScorerFactory: TypeAlias = Callable[["ModelFile | None", Runtime], Scorer]
EmbedderFactory: TypeAlias = Callable[["ModelFile | None", Runtime], Embedder]
SinkFactory: TypeAlias = Callable[["Path | None", Sequence[Column], "int | None"], Sink]
"""(path or None for stdout, columns, mark to resume at or None) -> sink."""

# Made of torch, which the core does not import: blurgate.training.interfaces has their protocols.
BackboneFactory: TypeAlias = Callable[..., "Backbone"]
SynthesizerFactory: TypeAlias = Callable[..., "Synthesizer"]
LossFactory: TypeAlias = Callable[..., "Loss"]

App: TypeAlias = "typer.Typer"
