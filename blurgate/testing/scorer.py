"""The contract of a scorer; see `blurgate.interfaces.Scorer`."""

from __future__ import annotations

from typing import Final

import numpy as np

from blurgate.testing import common
from blurgate.types import CROP_SIZE, BlurKind


class Subject(common.ModelSubject):
    """A scorer to check: a registered name or a factory, and what to make it with."""

    kind = "scorer"
    gives = "degrees"


def says_who_it_is_and_its_threshold(subject: Subject) -> None:
    """`info` is a ModelInfo, `threshold` a number in [0, 1]."""
    common.check_info(subject.made)
    threshold = getattr(subject.made, "threshold", None)
    fits = isinstance(threshold, float | int) and 0 <= threshold <= 1
    common.require(fits, f"`threshold` must be a number in [0, 1], got {threshold!r}")


def gives_one_degree_per_crop(subject: Subject) -> None:
    """(n, 112, 112, 3) uint8 -> (n,) float32 in [0, 1], whatever the crops show."""
    size = (CROP_SIZE, CROP_SIZE, 3)
    noise = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
    black, white = np.zeros((1, *size), np.uint8), np.full((1, *size), 255, np.uint8)
    crops = np.concatenate([common.noisy_patches(5), noise, black, white])
    got = subject.made(crops)
    common.check_array("degrees", got, (len(crops),))
    common.require(((got >= 0) & (got <= 1)).all(), f"degrees must lie in [0, 1], got {got}")


def takes_no_crops(subject: Subject) -> None:
    """No crops give (0,) float32."""
    got = subject.made(np.empty((0, CROP_SIZE, CROP_SIZE, 3), np.uint8))
    common.check_array("degrees of no crops", got, (0,))


def tells_one_kind_per_crop(subject: Subject) -> None:
    """Where `kinds` is not empty, `with_kinds` gives the degrees of a call, and a kind for each."""
    kinds = getattr(subject.made, "kinds", ())
    if not kinds:
        return
    crops = common.noisy_patches(5)
    common.require(hasattr(subject.made, "with_kinds"), "it has `kinds` and no `with_kinds`")
    got, told = subject.made.with_kinds(crops)
    common.check_array("degrees beside kinds", got, (len(crops),))
    common.same("degrees beside kinds and alone", got, subject.made(crops), 1e-6)
    common.require(
        len(told) == len(crops) and all(isinstance(one, BlurKind) for one in told),
        f"{len(crops)} crops must give as many BlurKind, got {told!r}",
    )
    for one in told:
        common.require(one.kind in kinds, f"it tells the kind {one.kind!r}, not one of {kinds}")


CHECKS: Final = (
    says_who_it_is_and_its_threshold,
    gives_one_degree_per_crop,
    takes_no_crops,
    tells_one_kind_per_crop,
    common.batch_of_one_equals_batch_of_many,
    common.repeats_itself_also_in_threads,
    common.refuses_what_are_no_crops,
)
