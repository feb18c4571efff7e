"""How much a degree moves when something other than blur changes.

Every change is made to the finished 112 px picture, once to sharp faces and once to the same faces
blurred by a Gaussian. None of them blurs or sharpens what the camera saw, so a measure of blur
should not move. How far the label itself moves stands beside it: a recogniser sees sunglasses, too.
Where groups of people are known, the same is compared between them, and so is what the unchanged
faces get: none of these sharp faces is blurrier than another by what group it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import cv2
import numpy as np

from blurgate.evaluation.families import clean_twins
from blurgate.evaluation.groups import members, take_in_turn
from blurgate.evaluation.protocol import first_faces
from blurgate.pipeline import ordered_map
from blurgate.stages import degrees_of
from blurgate.training.compress import compress_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.evaluation.clean import CleanFaces
    from blurgate.interfaces import Scorer
    from blurgate.training.labels import Labeller
    from blurgate.types import F32, U8

    Looked: TypeAlias = Mapping[tuple[str, str], Mapping[str, F32]]
    """(State, change, empty for none) -> scorer, or `_LABEL` -> values of the faces."""

SIGMA: Final = 2.0
"""Standard deviation in pixels of the Gaussian that makes the blurred faces."""
FACES: Final = 150
GROUPED_FACES: Final = 300
"""Faces at most where groups of people are compared."""
STATES: Final = ("sharp", "blurred")
_LABEL: Final = ""  # stands for the label among the scorers


def contrast(picture: U8, factor: float) -> U8:
    """Stretch or shrink the codes about their mean."""
    mean = picture.mean(axis=(0, 1))
    return _codes((picture - mean) * factor + mean)


def brightness(picture: U8, amount: float) -> U8:
    """Add to the codes."""
    return _codes(picture.astype(np.float64) + amount)


def gamma(picture: U8, power: float) -> U8:
    """Raise the codes, as a share of 255, to a power."""
    return _codes(255 * (picture / 255) ** power)


def cast(picture: U8, blue: float, green: float, red: float) -> U8:
    """Multiply each channel."""
    return _codes(picture * np.array([blue, green, red]))


def grey(picture: U8) -> U8:
    """Take the colour out."""
    one = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.cvtColor(one, cv2.COLOR_GRAY2BGR), np.uint8)


def unsharp(picture: U8, amount: float) -> U8:
    """Sharpen unnaturally: add the difference to a Gaussian of 1.5 px, `amount` times."""
    soft = cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.float64)
    return _codes(picture + amount * (picture - soft))


def bar(picture: U8) -> U8:
    """Cover the eyes with a dark bar, as sunglasses do."""
    out = picture.copy()
    cv2.rectangle(out, (22, 42), (90, 61), (25, 22, 20), -1)
    return out


def flat(picture: U8) -> U8:
    """Cover mouth and chin with a flat region, as a mask or a hand does."""
    out = picture.copy()
    out[76:, 14:98] = picture[76:, 14:98].mean(axis=(0, 1)).astype(np.uint8)
    return out


CHANGES: Final[dict[str, Callable[[U8], U8]]] = {
    "contrast x0.6": lambda p: contrast(p, 0.6),
    "contrast x1.4": lambda p: contrast(p, 1.4),
    "brightness -40": lambda p: brightness(p, -40),
    "brightness +40": lambda p: brightness(p, 40),
    "gamma 0.6": lambda p: gamma(p, 0.6),
    "gamma 1.6": lambda p: gamma(p, 1.6),
    "JPEG 90": lambda p: compress_image(p, "jpeg", 90),
    "JPEG 60": lambda p: compress_image(p, "jpeg", 60),
    "JPEG 30": lambda p: compress_image(p, "jpeg", 30),
    "warm cast": lambda p: cast(p, 0.75, 1.0, 1.15),
    "cold cast": lambda p: cast(p, 1.15, 1.0, 0.75),
    "grey": grey,
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "sharpened x1": lambda p: unsharp(p, 1.0),
    "sharpened x2": lambda p: unsharp(p, 2.0),
    "bar over the eyes": bar,
    "flat mouth": flat,
}
"""Name -> what is done to a picture (112, 112, 3) uint8 BGR."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far values moved."""

    mean: float
    """Mean of the change, with its sign."""
    mean_abs: float
    """Mean of its size."""
    p95_abs: float
    """95th percentile of its size."""


@dataclass(frozen=True, slots=True)
class Level:
    """What the faces of one group get in one state."""

    mean: float
    """Mean value of the unchanged faces."""
    moved: float
    """Mean over the changes of the mean size of the change."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupLeaks:
    """What came out for the faces of one group."""

    faces: int
    label: dict[str, Level]
    """State -> the label's level."""
    degree: dict[str, dict[str, Level]]
    """Scorer -> state -> the degree's level."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaks:
    """What came out."""

    faces: int
    label: dict[str, dict[str, Moved]]
    """State -> change -> how far the label moved."""
    degree: dict[str, dict[str, dict[str, Moved]]]
    """Scorer -> state -> change -> how far the degree moved."""
    groups: dict[str, dict[str, GroupLeaks]]
    """Axis -> group of people -> the same for its faces; see `blurgate.evaluation.groups`."""

    def overall(self, scorer: str, state: str) -> float:
        """Give the mean over the changes of the mean size."""
        return float(np.mean([moved.mean_abs for moved in self.degree[scorer][state].values()]))

    def facts(self) -> dict[str, Any]:
        """Give everything as plain values."""

        def plain(ways: Mapping[str, Mapping[str, Moved]]) -> dict[str, Any]:
            return {s: {c: asdict(m) for c, m in changes.items()} for s, changes in ways.items()}

        return {
            "faces": self.faces,
            "blurred_sigma_px": SIGMA,
            "label": plain(self.label),
            "degree": {name: plain(ways) for name, ways in self.degree.items()},
            "groups": {
                axis: {name: asdict(group) for name, group in named.items()}
                for axis, named in self.groups.items()
            },
        }


def moved(before: NDArray[Any], after: NDArray[Any]) -> Moved:
    """Compare (n,) values before and after a change."""
    change = after.astype(np.float64) - before.astype(np.float64)
    size = np.abs(change)
    return Moved(float(change.mean()), float(size.mean()), float(np.quantile(size, 0.95)))


def run_leaks(
    clean: CleanFaces,
    labeller: Labeller,
    scorers: Mapping[str, Scorer],
    *,
    faces: int | None = None,
    seed: int = 0,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Leaks:
    """Change pictures and see what moves.

    Args:
        clean: The faces; one of each person is taken first. Where groups are known, only people of
            known groups, from the groups in turn.
        labeller: Makes the labels.
        scorers: Name -> scorer.
        faces: How many at most; None: `FACES`, or `GROUPED_FACES` where groups are known.
        seed: Decides which.
        workers: Threads; the result does not depend on them.
        on_progress: Called with the number of pictures that are done.
    """
    chosen = _chosen(clean, faces, seed)
    twins = clean_twins([clean.crops[i] for i in chosen])
    blurred = np.stack(
        [np.asarray(cv2.GaussianBlur(twin, (0, 0), SIGMA), np.uint8) for twin in twins]
    )
    base = {"sharp": twins, "blurred": blurred}
    embedded = labeller.embed(twins)
    every = range(len(twins))

    def look(job: tuple[str, str]) -> dict[str, F32]:
        state, change = job
        pictures = base[state]
        if change:
            pictures = np.stack([CHANGES[change](picture) for picture in pictures])
        label = labeller.label(embedded, every, pictures)
        degree = {name: degrees_of(pictures, scorer) for name, scorer in scorers.items()}
        return {_LABEL: label, **degree}

    jobs = [(state, change) for state in STATES for change in ("", *CHANGES)]
    looked = {}
    for done, (job, seen) in enumerate(zip(jobs, ordered_map(look, jobs, workers), strict=True), 1):
        looked[job] = seen
        on_progress(done * len(twins))
    ways = {
        name: {
            state: {c: moved(looked[state, ""][name], looked[state, c][name]) for c in CHANGES}
            for state in STATES
        }
        for name in (_LABEL, *scorers)
    }
    groups = {
        axis: {name: _of_group(looked, own, list(scorers)) for name, own in named.items()}
        for axis, named in members([clean.groups[i] for i in chosen]).items()
    }
    return Leaks(len(twins), ways.pop(_LABEL), ways, groups)


def _chosen(clean: CleanFaces, faces: int | None, seed: int) -> list[int]:
    """Choose the faces; gives their places."""
    order = first_faces(clean, len(clean), seed)
    known = set(order)
    order += [i for i in range(len(clean)) if i not in known]  # few people with many photos
    if any(clean.groups):
        return take_in_turn(clean.groups, order, faces or GROUPED_FACES)
    return order[: faces or FACES]


def _of_group(looked: Looked, own: list[int], names: list[str]) -> GroupLeaks:
    """Take the levels of some of the faces."""

    def level(name: str, state: str) -> Level:
        base = looked[state, ""][name][own]
        sizes = [moved(base, looked[state, c][name][own]).mean_abs for c in CHANGES]
        return Level(float(base.mean(dtype=np.float64)), float(np.mean(sizes)))

    levels = {n: {state: level(n, state) for state in STATES} for n in (_LABEL, *names)}
    return GroupLeaks(len(own), levels.pop(_LABEL), levels)


def _codes(values: NDArray[Any]) -> U8:
    return (values + 0.5).clip(0, 255).astype(np.uint8)
