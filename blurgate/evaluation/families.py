"""Families of blur by name: the registered synthesizers, and those held out of all training.

A family turns clean crops into blurred 112 px pictures. What happens to a crop depends on the seed,
the family and the crop's number alone, so anyone repeats a set.

| family | what |
| --- | --- |
| a synthesizer's name | the training's chain: blur in linear light, noise, compression |
| `sharp` | that chain without its blur |
| `distance` | that chain on a face that has few pixels in its picture |
| `c-motion`, `c-defocus`, `c-glass`, `c-zoom` | held out, `blurgate.evaluation.heldout` |
| `second-order` | held out, `blurgate.evaluation.second_order` |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from blurgate.errors import UnknownNameError
from blurgate.evaluation.heldout import CORRUPTIONS, SEVERITIES, Params
from blurgate.evaluation.second_order import second_order
from blurgate.host import get_host
from blurgate.training import even
from blurgate.training.faces import resized
from blurgate.training.pairs import apply_sizes, make_chain
from blurgate.training.streams import Streams
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.training.degrade import Chain
    from blurgate.training.even import Curve
    from blurgate.training.labels import Labeller
    from blurgate.types import U8

HELD_OUT: Final = (*CORRUPTIONS, "second-order")
"""Families that no training sees."""
DISTANCE_PX: Final = (24.0, CROP_SIZE)
"""Range of the crop's side in its picture in the family `distance`, every octave alike."""
DEFAULT: Final = (
    "sharp", "deblurgan", "linear", "defocus", "gaussian", "lowres", "distance", *HELD_OUT,
)  # fmt: skip
_MIX: Final = "random"


@dataclass(frozen=True, slots=True, eq=False)
class Blurred:
    """Pictures of one family, in the order of the crops."""

    pictures: U8
    """(n, 112, 112, 3) uint8 BGR."""
    params: list[Params]
    """n rows: what was done."""
    sides: list[float]
    """n: pixels a side of the crop in the picture that it stands for, where the family decides it;
    0 where it stays what it was."""


class Family(Protocol):
    """Blurs clean crops."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def held_out(self) -> bool:
        """Whether no training sees it."""
        ...

    def make(self, crops: Sequence[U8], index: Sequence[int], /) -> Blurred:
        """Blur crops (s, s, 3) uint8 BGR, s from 112; picture i depends on `index[i]`."""
        ...


def make_family(name: str, *, seed: int = 0) -> Family:
    """Make a family.

    Args:
        name: One of `known_families`.
        seed: Decides everything random.

    Raises:
        UnknownNameError: There is no such family.
    """
    if name in CORRUPTIONS:
        corrupt = CORRUPTIONS[name]
        return PixelFamily(name, seed, lambda c, rng: corrupt(c, rng, int(rng.choice(SEVERITIES))))
    if name == "second-order":
        return PixelFamily(name, seed, second_order)
    if name == "sharp":
        return ChainFamily(name, make_chain(_MIX), seed, still=True)
    if name == "distance":
        return ChainFamily(name, make_chain(_MIX), seed, far=True)
    registry = get_host().registry("synthesizer")
    if name not in registry:
        raise UnknownNameError("blur family", name, known_families())
    return ChainFamily(registry[name].name, make_chain(name), seed)


def known_families() -> tuple[str, ...]:
    """Give the names of all families."""
    return (
        "sharp",
        "distance",
        *HELD_OUT,
        *(entry.name for entry in get_host().registry("synthesizer")),
    )


def clean_twins(crops: Sequence[U8]) -> U8:
    """Bring clean crops of any sizes to (n, 112, 112, 3): what labels are measured against."""
    out = np.empty((len(crops), CROP_SIZE, CROP_SIZE, 3), np.uint8)
    for twin, crop in zip(out, crops, strict=True):
        twin[:] = resized(crop, CROP_SIZE)
    return out


def generator(seed: int, name: str, index: int) -> np.random.Generator:
    """Give the random generator of one picture of a family."""
    text = f"{seed} {name} {index}"
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


@dataclass(slots=True)
class ChainFamily:
    """The training's chain with one synthesizer.

    Severities are drawn over the synthesizer's range, most of which ruins a face, until `calibrate`
    has found out how they must be drawn for labels that are spread evenly.
    """

    name: str
    chain: Chain
    seed: int
    still: bool = False
    """Leave the blur out."""
    far: bool = False
    """Draw how many pixels the face has."""
    held_out: bool = field(default=False, init=False)
    _curve: Curve | None = field(default=None, init=False)

    def calibrate(self, crops: Sequence[U8], labeller: Labeller, n: int, workers: int = 1) -> None:
        """Draw severities from now on so that labels come out even; n pictures are to be made."""
        if not self.still:
            tracks = even.n_tracks(n)
            self._curve = even.calibrate(
                self.chain, crops, labeller, seed=self.seed, tracks=tracks, workers=workers
            )

    def make(self, crops: Sequence[U8], index: Sequence[int], /) -> Blurred:
        """Blur crops; see `Family.make`."""
        streams = Streams(self.seed, index).fold(self.name)
        n = len(crops)
        severity = None
        if self.still:
            severity = np.zeros(n, np.float32)
        elif self._curve is not None:
            series = sum(self.name.encode())
            severity = self._curve.severity(even.draws(self.seed, series, index))
        params = self.chain.sample(streams, severity)
        sides = [0.0] * n
        if self.far:
            drawn = streams.log_uniform("side", *DISTANCE_PX).round()
            sides = np.minimum(drawn, [len(crop) for crop in crops]).tolist()
            crops = [_shrunk(crop, int(side)) for crop, side in zip(crops, sides, strict=True)]
        return Blurred(apply_sizes(self.chain, crops, params).degraded, params, sides)


@dataclass(frozen=True, slots=True)
class PixelFamily:
    """A function of single crops; a `side` among its params is that of `Blurred.sides`."""

    name: str
    seed: int
    function: Callable[[U8, np.random.Generator], tuple[U8, Params]]
    held_out: bool = True

    def make(self, crops: Sequence[U8], index: Sequence[int], /) -> Blurred:
        """Blur crops; see `Family.make`."""
        made = [
            self.function(crop, generator(self.seed, self.name, int(i)))
            for crop, i in zip(crops, index, strict=True)
        ]
        params = [params for _, params in made]
        sides = [float(row.get("side", 0)) for row in params]
        return Blurred(clean_twins([picture for picture, _ in made]), params, sides)


def _shrunk(crop: U8, side: int) -> U8:
    return np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
