"""blurgate keeps the faces that a recogniser can use.

>>> import blurgate, numpy as np
>>> crops = np.zeros((2, 112, 112, 3), np.uint8)          # flat: nothing to recognise
>>> blurgate.blur_degree(crops, model="laplacian").tolist()
[1.0, 1.0]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blurgate.errors import BlurgateError as BlurgateError
    from blurgate.gate import Gate as Gate
    from blurgate.gate import blur_degree as blur_degree
    from blurgate.hookspecs import hookimpl as hookimpl
    from blurgate.types import BlurKind as BlurKind
    from blurgate.types import Detections as Detections
    from blurgate.types import FaceBatch as FaceBatch
    from blurgate.types import Frame as Frame
    from blurgate.types import RoutedFaces as RoutedFaces
    from blurgate.types import ScoredFaces as ScoredFaces
    from blurgate.types import SourceEnd as SourceEnd
    from blurgate.types import Tracks as Tracks
    from blurgate.types import Verdict as Verdict

    __version__: str

_HOME = {
    "BlurKind": "blurgate.types",
    "BlurgateError": "blurgate.errors",
    "Detections": "blurgate.types",
    "FaceBatch": "blurgate.types",
    "Frame": "blurgate.types",
    "Gate": "blurgate.gate",
    "RoutedFaces": "blurgate.types",
    "ScoredFaces": "blurgate.types",
    "SourceEnd": "blurgate.types",
    "Tracks": "blurgate.types",
    "Verdict": "blurgate.types",
    "blur_degree": "blurgate.gate",
    "hookimpl": "blurgate.hookspecs",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `blurgate --help` needs none of them."""
    if name == "__version__":
        from importlib.metadata import version

        return version("blurgate")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'blurgate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
