"""What happens to faces without any blur: strong compression, and few pixels.

Both keep to `blurgate.evaluation.families.Family` and are for evaluation only.

| family | what |
| --- | --- |
| `compressed` | JPEG at a quality of 4 to 30, at the size the face has in its picture |
| `small` | 14 to 48 pixels a side, every octave alike, enlarged bilinearly as alignment does |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate.evaluation.families import PixelFamily
from blurgate.training.compress import compress_image
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.evaluation.heldout import Params
    from blurgate.types import U8

QUALITY: Final = (4, 30)
"""JPEG quality, both ends included."""
SMALL_PX: Final = (14.0, 48.0)


def natural_families(seed: int) -> tuple[PixelFamily, ...]:
    """Make both families."""
    return PixelFamily("compressed", seed, _compressed), PixelFamily("small", seed, _small)


def _compressed(crop: U8, rng: np.random.Generator) -> tuple[U8, Params]:
    quality = int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    return compress_image(crop, "jpeg", quality), {"method": "compressed", "quality": quality}


def _small(crop: U8, rng: np.random.Generator) -> tuple[U8, Params]:
    low, high = np.log(SMALL_PX)
    side = min(round(float(np.exp(rng.uniform(low, high)))), len(crop))
    few = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(few, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.uint8), {"method": "small", "side": side}
