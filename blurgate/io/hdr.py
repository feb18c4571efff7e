"""Showing video of high dynamic range (PQ, HLG) as an ordinary picture.

Its values stand for other amounts of light than those of ordinary video. Taken for these they give
a grey, flat picture, such as no detector, recogniser or blur model was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from blurgate.types import U8

__all__ = ["CURVES"]

_PQ: Final = 16  # ITU-T H.273: the stream's transfer characteristics
_HLG: Final = 18
_WHITE: Final = 203.0
"""cd/m2 of paper (ITU-R BT.2408): what ordinary video has as its white."""
_PEAK: Final = 1000.0
"""cd/m2 of the screen that HLG is shown on (ITU-R BT.2100)."""
_KNEE: Final = 0.7
"""Of white: up to here light stays as it is, and what is brighter comes closer and closer to 1."""


def _pq(values: np.ndarray) -> np.ndarray:
    """Give the light of PQ values in cd/m2 (SMPTE ST 2084)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = values ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg(values: np.ndarray) -> np.ndarray:
    """Give the light of HLG values in cd/m2 (ITU-R BT.2100), each channel by itself."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    return _PEAK * scene**1.2


def _shown(light: np.ndarray) -> U8:
    """Give the sRGB values (IEC 61966-2-1) of light in cd/m2."""
    x = light / _WHITE
    room = 1 - _KNEE
    x = np.where(x > _KNEE, 1 - room * np.exp((_KNEE - x) / room), x)
    srgb = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * srgb), np.uint8)


_VALUES: Final = np.arange(256) / 255
CURVES: Final[Mapping[int, U8]] = {_PQ: _shown(_pq(_VALUES)), _HLG: _shown(_hlg(_VALUES))}
"""Transfer characteristics -> (256,) uint8: what each value of B, G and R becomes.

The channels are taken one by one and BT.2020's primaries for sRGB's: colours are a little paler
than they were. docs/decisions/0025-as-shown.md says what that costs.
"""
