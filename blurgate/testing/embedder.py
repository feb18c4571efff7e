"""The contract of an embedder; see `blurgate.interfaces.Embedder`."""

from __future__ import annotations

from typing import Final

import numpy as np

from blurgate.testing import common
from blurgate.types import CROP_SIZE


class Subject(common.ModelSubject):
    """An embedder to check: a registered name or a factory, and what to make it with."""

    kind = "embedder"
    gives = "embeddings"


def gives_vectors_of_length_one(subject: Subject) -> None:
    """(n, 112, 112, 3) uint8 -> (n, d) float32, each of length 1, whatever the crops show."""
    size = (CROP_SIZE, CROP_SIZE, 3)
    flat = [np.full((1, *size), value, np.uint8) for value in (0, 128, 255)]
    crops = np.concatenate([common.noisy_patches(5), *flat])
    got = subject.made(crops)
    common.check_array("embeddings, also of flat crops,", got, (len(crops), -1))
    lengths = np.linalg.norm(got.astype(np.float64), axis=1)
    common.require(
        np.abs(lengths - 1).max() < 1e-3, f"embeddings must be of length 1, got {lengths}"
    )


def tells_crops_apart(subject: Subject) -> None:
    """Different crops have different embeddings."""
    got = subject.made(common.noisy_patches(5))
    likeness = got @ got.T - 2 * np.eye(5)
    common.require(likeness.max() < 0.9999, "different crops have the same embedding")


def takes_no_crops(subject: Subject) -> None:
    """No crops give (0, d) float32."""
    d = subject.made(common.noisy_patches(1)).shape[1]
    got = subject.made(np.empty((0, CROP_SIZE, CROP_SIZE, 3), np.uint8))
    common.check_array("embeddings of no crops", got, (0, d))


CHECKS: Final = (
    common.says_who_it_is,
    gives_vectors_of_length_one,
    tells_crops_apart,
    takes_no_crops,
    common.batch_of_one_equals_batch_of_many,
    common.repeats_itself_also_in_threads,
    common.refuses_what_are_no_crops,
)
