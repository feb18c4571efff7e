"""Everything that decides what training a detector gives; written beside its result as YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from blurgate.errors import ConfigError
from blurgate.plugins.detectors.scrfd import STRIDES
from blurgate.training.detection.losses import Weights
from blurgate.training.detection.network import NetShape
from blurgate.training.detection.pictures import LEAST_PX
from blurgate.training.settings import Config, check_name, check_ranges, fill

__all__ = ["DetectionConfig", "make_detection_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionConfig(Config):
    """What detector is trained, on what, and how.

    Raises:
        ConfigError: A value is out of its range.
    """

    # The network.
    detector: Literal["scrfd"] = "scrfd"
    stem: int = NetShape().stem
    """Channels at stride 2."""
    widths: tuple[int, ...] = NetShape().widths
    """Channels at strides 4, 8, 16, 32."""
    depths: tuple[int, ...] = NetShape().depths
    """Blocks at strides 4, 8, 16, 32."""
    neck: int = NetShape().neck
    head: int = NetShape().head
    stacked: int = NetShape().stacked

    # Data.
    data: tuple[str, ...] = ()
    """Folders of annotated pictures."""
    background: tuple[str, ...] = ()
    """Folders of pictures without faces."""
    val: float = 0.03
    """Share of the pictures for validation."""
    size: int = 320
    """Side of a training picture in pixels, a multiple of 32."""
    close: float = 0.2
    """Share of the steps whose pictures have twice that side, and a quarter as many of them: faces
    close to the camera, larger than `size`."""
    pictures: int = 4096
    """Composed pictures per epoch."""
    val_pictures: int = 256
    least: float = 8.0
    """Faces whose shorter side is smaller than this in a training picture are ignored."""
    least_kps: float = 12.0
    """Landmarks of faces smaller than this are not learnt."""
    teacher: str = ""
    """An SCRFD file, or its name, whose scores, boxes and landmarks are learnt at every anchor,
    beside the annotations; see `blurgate.training.detection.distil`. Empty: none."""
    mimic: float = 0.0
    """Weight of learning the teacher's features too; see `blurgate.training.detection.mimic`."""

    # Training.
    epochs: int = 100
    batch: int = 16
    lr: float = 1.5e-3
    warmup: int = 500
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: down to 0 at the last epoch; constant: for a run to be stopped at any time, from
    whose weights another then begins."""
    init: tuple[str, ...] = ()
    """Checkpoints or earlier runs' folders whose weights are begun with, of several their mean;
    empty: drawn."""
    weight_decay: float = 0.05
    ema: float = 0.999
    """Decay per step of the averaged weights, which are what is validated and exported; 0: none."""
    clip: float = 10.0
    """Largest norm of the gradient; 0: not clipped."""
    freeze_norm: bool = False
    """Batch normalisation keeps its statistics, for going on from a trained network."""
    learn_from: int = 0
    """16 or 32: learn only what this stride's predictions and those of coarser ones come from and
    no finer one's, which stay as they are; for more of large faces. 0: everything is learnt."""
    box_weight: float = Weights().boxes
    kps_weight: float = Weights().kps
    patience: int = 0
    """Stop after this many epochs without a better validation AP; 0: never."""
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0

    # The result.
    name: str = ""
    """What the model is called; empty: as its architecture."""
    licence: str = ""
    source: str = ""
    """Where data and labels come from; goes into the card."""

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        check_ranges(self, _RANGES)
        check_name(self.name)
        for key, most in (("widths", 4096), ("depths", 100)):
            values = getattr(self, key)
            if len(values) != 4 or not all(1 <= value <= most for value in values):
                raise ConfigError(
                    f"{key} must be four numbers from 1 to {most}, got {list(values)}"
                )
        if self.close and self.size > 512:
            raise ConfigError(f"with size {self.size}, twice that is above 1024: say close: 0")
        if self.learn_from and self.learn_from not in STRIDES[1:]:
            raise ConfigError(f"learn_from must be 0, 16 or 32, got {self.learn_from}")
        if self.learn_from and not (self.init and self.freeze_norm):
            raise ConfigError(
                "learn_from goes on with a trained network: it needs init=... and freeze_norm=true"
            )
        if self.learn_from and self.mimic:
            raise ConfigError("with learn_from the features stay as they are: say mimic: 0")
        if self.mimic and not self.teacher:
            raise ConfigError("mimic needs a teacher: --set teacher=FILE")
        if self.size % STRIDES[-1]:
            raise ConfigError(f"size must be a multiple of {STRIDES[-1]}, got {self.size}")

    def shape(self) -> NetShape:
        """Give the network's shape."""
        a, b, c, d = self.widths
        e, f, g, h = self.depths
        return NetShape(self.stem, (a, b, c, d), (e, f, g, h), self.neck, self.head, self.stacked)

    def loss_weights(self) -> Weights:
        """Give the weights of the losses."""
        return Weights(self.box_weight, self.kps_weight)


_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "stem": (1, 4096),
    "neck": (1, 4096),
    "head": (1, 4096),
    "stacked": (1, 16),
    "val": (0.001, 0.9),
    "size": (64, 1024),
    "close": (0, 1),
    "pictures": (2, math.inf),
    "val_pictures": (1, math.inf),
    "least": (LEAST_PX, 1024),
    "least_kps": (0, 1024),
    "epochs": (1, math.inf),
    "batch": (2, math.inf),
    "lr": (1e-9, 10),
    "warmup": (0, math.inf),
    "weight_decay": (0, 1),
    "ema": (0, 0.999999),
    "clip": (0, math.inf),
    "box_weight": (0, math.inf),
    "kps_weight": (0, math.inf),
    "mimic": (0, math.inf),
    "patience": (0, math.inf),
    "seed": (0, 2**31 - 1),
}


def make_detection_config(*layers: Mapping[str, Any]) -> DetectionConfig:
    """Make a configuration of plain values; see `fill`.

    >>> make_detection_config({"epochs": 3}, {"lr": "1e-4"}).lr
    0.0001
    """
    return fill(DetectionConfig, layers, "the configuration")
