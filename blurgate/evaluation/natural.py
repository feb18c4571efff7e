"""What happens to faces without any blur: strong compression, and few pixels.

Both keep to `blurgate.evaluation.families.Family` and are for evaluation only.

| family | what |
| --- | --- |
| `compressed` | JPEG at a quality of 4 to 30, at the size the face has in its picture |
| `small` | 14 to 48 pixels a side, every octave alike, enlarged bilinearly as alignment does |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from blurgate.evaluation.families import Blurred, clean_twins, generator
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.evaluation.heldout import Params
    from blurgate.types import U8

QUALITY: Final = (4, 30)
"""JPEG quality, both ends included."""
SMALL_PX: Final = (14.0, 48.0)


@dataclass(frozen=True, slots=True)
class Natural:
    """One of the two families."""

    name: str
    seed: int
    degrade: Callable[[U8, np.random.Generator], tuple[U8, Params, float]]
    held_out: bool = True

    def make(self, crops: Sequence[U8], index: Sequence[int], /) -> Blurred:
        """Degrade crops; see `blurgate.evaluation.families.Family.make`."""
        made = [
            self.degrade(crop, generator(self.seed, self.name, int(i)))
            for crop, i in zip(crops, index, strict=True)
        ]
        pictures = clean_twins([picture for picture, _, _ in made])
        return Blurred(pictures, [params for _, params, _ in made], [side for *_, side in made])


def natural_families(seed: int = 0) -> tuple[Natural, ...]:
    """Make both families."""
    return Natural("compressed", seed, _compressed), Natural("small", seed, _small)


def _compressed(crop: U8, rng: np.random.Generator) -> tuple[U8, Params, float]:
    quality = int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    picture: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return picture, {"method": "compressed", "quality": quality}, 0.0


def _small(crop: U8, rng: np.random.Generator) -> tuple[U8, Params, float]:
    low, high = np.log(SMALL_PX)
    side = min(round(float(np.exp(rng.uniform(low, high)))), len(crop))
    few = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    picture = cv2.resize(few, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
    return picture.astype(np.uint8), {"method": "small", "side": side}, float(side)
