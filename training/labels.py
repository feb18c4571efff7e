"""The label of a blurred picture: how far its embedding has moved from that of its clean twin.

    label = 1 - cosine(embedding(clean twin), embedding(blurred picture)), cut to [0, 1]

Cosines below 0, of pictures in which nothing of the face is left, give 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ModelError, ShapeError, blamed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.interfaces import Embedder
    from blurgate.types import F32, U8

UNIT_TOLERANCE: Final = 1e-3
"""How far the length of an embedding may be from 1."""


class Labeller:
    """Labels blurred pictures against clean faces that are embedded once each.

    Safe to call from several threads at once.

    Args:
        embedder: Turns (n, 112, 112, 3) crops into embeddings of length 1.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.info = embedder.info

    def embed(self, crops: U8) -> F32:
        """Embed (n, 112, 112, 3) uint8 BGR crops; gives (n, d) float32, each of length 1.

        Raises:
            ModelError: The embedder gave something else than one vector of length 1 per crop.
            PluginError: The embedder failed.
        """
        with blamed("embedder", self.info.name):
            vectors = self._embedder(crops)
        check_embeddings(vectors, len(crops), str(self.info))
        return vectors

    def label(self, clean: F32, owner: Sequence[int] | NDArray[Any], pictures: U8) -> F32:
        """Label pictures.

        Args:
            clean: (f, d) embeddings of the clean faces.
            owner: (n,) which of the clean faces each picture shows.
            pictures: (n, 112, 112, 3) uint8 BGR, as they are or will be written.

        Returns:
            (n,) float32 labels in [0, 1].
        """
        if len(owner) != len(pictures):
            raise ShapeError(f"{len(owner)} owners for {len(pictures)} pictures")
        return labels_of(clean[np.asarray(owner, np.intp)], self.embed(pictures))


def labels_of(clean: F32, blurred: F32) -> F32:
    """Turn pairs of embeddings of length 1 into labels.

    Args:
        clean: (n, d) embeddings of the clean twins.
        blurred: (n, d) embeddings of the blurred pictures, in the same order.

    Returns:
        (n,) float32 in [0, 1].

    >>> one, other = np.float32([[1, 0]]), np.float32([[0.6, 0.8]])
    >>> labels_of(one, other).round(6).tolist(), labels_of(one, -one).tolist()
    ([0.4000000059604645], [1.0])
    """
    if clean.shape != blurred.shape:
        raise ShapeError(f"embeddings of {clean.shape} and {blurred.shape} are not pairs")
    cosine = np.einsum("nd,nd->n", clean, blurred, dtype=np.float64)
    labels: F32 = (1 - cosine).clip(0, 1).astype(np.float32)
    return labels


def check_embeddings(vectors: Any, n: int, model: str) -> None:
    """Refuse what no label can be made of.

    Raises:
        ModelError: These are not n finite vectors of length 1.
    """
    shape = tuple(getattr(vectors, "shape", ()))
    if len(shape) != 2 or shape[0] != n:
        raise ModelError(f"the embedder {model} gave {shape} for {n} crops, not a vector for each")
    lengths = np.linalg.norm(vectors, axis=1)
    if not bool((np.abs(lengths - 1) <= UNIT_TOLERANCE).all()):  # False for NaN too
        raise ModelError(
            f"the embedder {model} gave vectors that are not of length 1; labels need "
            "L2-normalised embeddings"
        )
