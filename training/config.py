"""Everything that decides what a training run gives; written beside its result as YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from blurgate.errors import ConfigError
from blurgate.training.settings import Config, check_name, check_ranges, fill

__all__ = ["Identity", "TrainConfig", "make_config"]

Identity: TypeAlias = Literal["auto", "folder", "name", "file"]
"""What tells who a picture shows; see `blurgate.training.faces.list_faces`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(Config):
    """What is trained, on what, and how.

    Raises:
        ConfigError: A value is out of its range, or two contradict each other.
    """

    # The network.
    backbone: str = "mobilenetv2_0.25"
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the backbone's own."""
    head: str = "regression"
    hidden: tuple[int, ...] = ()
    """Widths of the head's hidden layers; empty: the head's own."""
    loss: str = "huber"
    """A sum such as 0.7*huber+0.3*l1."""

    # Data: a folder of `blurgate synth`, or faces that are blurred on the fly.
    data: tuple[str, ...] = ()
    """Folders; what they hold is put together."""
    methods: tuple[str, ...] = ()
    """Only these methods of the folder; empty: all."""
    faces: tuple[str, ...] = ()
    """Pictures, folders or patterns."""
    identity: Identity = "auto"
    val: float = 0.2
    """Share of the identities for validation; a folder brings its own parts."""
    align: bool = False
    """Detect and align the faces; otherwise the pictures are crops."""
    detector: str = ""
    embedder: str = ""
    size: int = 224
    one_size: bool = False
    """Bring every face to `size`, so that a GPU blurs many together."""
    synthesizer: str = "random"
    synthesizer_options: Mapping[str, Any] = field(default_factory=dict)
    iterative: int = 1
    light: Literal["linear", "srgb"] = "linear"
    noise: bool = True
    compression: bool = True
    harsh: float = 0.0
    """Share of the pictures with the noise and compression of a poor camera."""
    even: bool = False
    clean: float = 0.0
    """Share of the training pictures that show the clean face, with the degree 0."""
    per_face: int = 1
    """Pictures of every face per epoch, on the fly."""
    val_per_face: int = 1
    fresh: int = 0
    """Epochs whose pictures are new, on the fly; then these come again, in another order. 0: all
    are new."""

    # Training.
    init: tuple[str, ...] = ()
    """Checkpoints or earlier runs' folders whose weights are begun with, of several their mean;
    empty: drawn."""
    epochs: int = 50
    batch: int = 64
    """Pictures per step and process."""
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["cosine", "exponential"] = "cosine"
    """cosine: per step, down to 0; exponential: times `decay` after every epoch."""
    decay: float = 0.95
    ema: float = 0.0
    """Decay per step of the averaged weights, which are then what is validated and exported."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: not clipped."""
    flip: bool = True
    shift: int = 0
    """Move every picture by up to this many whole pixels, each way."""
    tone: float = 0.0
    """Change every picture's brightness, contrast and colours, by at most e to this power."""
    for_int8: bool = False
    """Round activations while training, as an 8-bit twin does; see `blurgate.training.rounding`."""
    freeze_norm: bool = False
    """Batch normalisation keeps its statistics, for going on from a trained model."""
    patience: int = 0
    """Stop after this many epochs without a better validation error; 0: never."""
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0

    # The result.
    name: str = ""
    """What the model is called; empty: as its backbone."""
    threshold: float = 0.4
    """The threshold that the card suggests."""
    licence: str = ""

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.data and self.faces:
            raise ConfigError(
                "train either on a folder of blurgate synth (data) or on faces that are blurred on "
                "the fly (faces), not on both"
            )
        check_ranges(self, _RANGES)
        for key in ("lr", "decay"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key} must be above 0, got {getattr(self, key)}")
        if any(not 1 <= width <= _WIDEST for width in self.hidden):
            raise ConfigError(f"hidden must be widths from 1 to {_WIDEST}, got {list(self.hidden)}")
        check_name(self.name)


_WIDEST: Final = 65_536
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "val": (0, 0.9),
    "size": (112, 1024),
    "iterative": (1, 100),
    "harsh": (0, 1),
    "clean": (0, 0.5),
    "per_face": (1, 10_000),
    "val_per_face": (1, 10_000),
    "fresh": (0, math.inf),
    "epochs": (1, math.inf),
    "batch": (2, math.inf),
    "weight_decay": (0, 1),
    "lr": (0, 10),
    "decay": (0, 1),
    "ema": (0, 0.999999),
    "clip": (0, math.inf),
    "shift": (0, 16),
    "tone": (0, 1),
    "patience": (0, math.inf),
    "seed": (0, 2**31 - 1),
    "threshold": (0, 1),
}


def make_config(*layers: Mapping[str, Any]) -> TrainConfig:
    """Make a configuration of plain values; see `blurgate.training.settings.fill`.

    >>> make_config({"epochs": 3}, {"lr": "1e-4"}).lr
    0.0001
    """
    return fill(TrainConfig, layers, "the configuration")
