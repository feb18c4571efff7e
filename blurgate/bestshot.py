"""Choosing the best pictures of each person of a video while it is read.

A track competes with itself: of the faces that the rule keeps or sends to review, at most `n` pass,
and the others become `reject` with reason `not_best_shot`. See docs/tracking.md for the rank.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from blurgate.errors import ConfigError
from blurgate.tracking import seconds
from blurgate.types import CROP_SIZE, F32, U8, Verdict

APART_S: Final = 0.5
"""Two shots of one track lie at least this far apart."""
_ROUNDING_S: Final = 1e-6
"""Of two floats that are half a second apart, the difference may be less."""
LONGEST_S: Final = 120.0
"""A face that has waited for the end of its track for so long is decided about."""
MOST_ROWS: Final = 20_000
"""So many faces may wait at once; then the track of the oldest is decided about."""

# The nose of a face that looks at the camera lies in the middle between the eyes, and half-way down
# to the mouth. Full marks up to the first number, none from the second; in eye distances, and in
# shares of the way from the eyes to the mouth.
_YAW: Final = (0.15, 0.6)
_PITCH: Final = (0.2, 0.5)
_PROFILE: Final = 0.1  # what is left of the rank of a face that shows its side


@dataclass(slots=True)
class Row:
    """A face on its way to the table."""

    verdict: Verdict
    kps: F32
    """(5, 2) float32 landmarks in pixels of the frame."""
    pixels: U8 | None = None
    """Its picture, while that may still have to be written."""
    crop: str = ""
    """Where its picture was written, relative to the output folder."""
    waits: bool = False
    """It has a chance, and its track has not ended."""


def frontality(kps: F32) -> float:
    """Tell how much a face looks at the camera, from where its nose is between eyes and mouth.

    Turning in the plane of the picture, size and place play no part.

    Args:
        kps: (5, 2) float32 landmarks.

    Returns:
        1 for a face that looks at the camera or nearly so, falling to 0 for a profile.

    >>> from blurgate.geometry import ARCFACE_TEMPLATE
    >>> frontality(ARCFACE_TEMPLATE)
    1.0
    """
    left, right, nose, *mouth = np.asarray(kps, np.float64)
    eyes, lips = (left + right) / 2, (mouth[0] + mouth[1]) / 2
    across = right - left
    width = float(np.hypot(*across))
    if width == 0.0:
        return 0.0
    down = np.array([-across[1], across[0]]) / width
    height = float((lips - eyes) @ down)
    if height <= 0.0:
        return 0.0
    aside = abs(float((nose - eyes) @ across)) / width**2
    pitched = abs(float((nose - eyes) @ down) / height - 0.5)
    return _falling(aside, *_YAW) * _falling(pitched, *_PITCH)


def rank(row: Row) -> float:
    """Give the rank of a face among those of its track: sharp, large and frontal, in [0, 1].

    The product of 1 - blur degree, of the face's size over 112 px (the size at which a recogniser
    sees it; larger is not better), and of its frontality.
    """
    verdict = row.verdict
    size = min(1.0, verdict.face_px / CROP_SIZE)
    return (1 - verdict.blur_degree) * size * (_PROFILE + (1 - _PROFILE) * frontality(row.kps))


def _falling(value: float, full: float, none: float) -> float:
    return float(np.clip((none - value) / (none - full), 0, 1))


@dataclass(slots=True)
class _Shot:
    row: Row
    at_s: float
    key: tuple[bool, float, int]  # the least is the best


class _Candidates:
    """The faces of one track that may still be chosen.

    Time is cut into slots of `APART_S`; the best face of a slot stands for it. Going down from the
    best, a shot that is chosen can exclude those of the two slots beside its own and no others, so
    that `n` are found among the best 3 n - 2: all others are let go at once.
    """

    def __init__(self, n: int, lost: Callable[[Row], None]) -> None:
        self._n = n
        self._lost = lost
        self._slots: dict[int, _Shot] = {}
        self._now = 0

    def add(self, row: Row, at_s: float) -> None:
        verdict = row.verdict
        shot = _Shot(row, at_s, (verdict.decision != "keep", -rank(row), verdict.frame_index))
        slot = int(at_s // APART_S)
        if slot != self._now:
            self._now = slot
            self._prune()
        other = self._slots.get(slot)
        if other is None or shot.key < other.key:
            self._slots[slot] = shot
            shot = other if other is not None else shot
            if other is None:
                return
        self._lost(shot.row)

    def _prune(self) -> None:
        ranked = sorted(self._slots.items(), key=lambda item: item[1].key)
        for slot, shot in ranked[3 * self._n - 2 :]:
            del self._slots[slot]
            self._lost(shot.row)

    def decide(self) -> None:
        """Choose; what is not chosen has lost."""
        chosen: list[_Shot] = []
        least = APART_S - _ROUNDING_S
        for shot in sorted(self._slots.values(), key=lambda shot: shot.key):
            apart = all(abs(shot.at_s - other.at_s) >= least for other in chosen)
            if apart and len(chosen) < self._n:
                chosen.append(shot)
                shot.row.waits = False
            else:
                self._lost(shot.row)
        self._slots.clear()


class BestShots:
    """Holds the faces of one source back until it is known which are the best of their tracks.

    Args:
        n: How many faces of a track pass, at least 1.
        lost: Called with each face that has lost, once, at the moment when that is known; its
            verdict says so. The place to let go of its picture.

    Raises:
        ConfigError: `n` is below 1.

    Rows come out in the order in which they went in. At most `MOST_ROWS` rows and, for each track,
    3 n - 1 pictures are held.
    """

    def __init__(self, n: int, lost: Callable[[Row], None]) -> None:
        if n < 1:
            raise ConfigError(f"best-shot must be at least 1, got {n}")
        self._n = n
        self._on_lost = lost
        self._rows: deque[Row] = deque()
        self._tracks: dict[int, _Candidates] = {}

    def add(self, rows: Iterable[Row], ended: Iterable[int] = ()) -> Iterator[Row]:
        """Take the faces of the next frame.

        Args:
            rows: The faces; those without a track, and rejected ones, do not compete.
            ended: Tracks that will not be seen again.

        Yields:
            The faces about which everything is known.
        """
        for number in ended:
            self._decide(number)
        for row in rows:
            verdict = row.verdict
            self._rows.append(row)
            if verdict.track is not None and verdict.decision != "reject":
                row.waits = True
                if verdict.track not in self._tracks:
                    self._tracks[verdict.track] = _Candidates(self._n, self._lose)
                self._tracks[verdict.track].add(row, _at_s(row))
        yield from self._ready()
        while self._rows and (
            len(self._rows) > MOST_ROWS or _at_s(self._rows[-1]) - _at_s(self._rows[0]) > LONGEST_S
        ):
            oldest = self._rows[0].verdict.track
            assert oldest is not None, "only a face with a track waits"
            self._decide(oldest)
            yield from self._ready()

    @property
    def held(self) -> Iterable[Row]:
        """The faces that are held back."""
        return self._rows

    def finish(self) -> Iterator[Row]:
        """Decide about everything that is left: the source has ended."""
        for number in list(self._tracks):
            self._decide(number)
        yield from self._ready()

    def _decide(self, number: int) -> None:
        candidates = self._tracks.pop(number, None)
        if candidates is not None:
            candidates.decide()

    def _lose(self, row: Row) -> None:
        row.verdict = replace(row.verdict, decision="reject", reason="not_best_shot")
        row.waits = False
        self._on_lost(row)

    def _ready(self) -> Iterator[Row]:
        while self._rows and not self._rows[0].waits:
            yield self._rows.popleft()


def _at_s(row: Row) -> float:
    return seconds(row.verdict.pts_s, row.verdict.frame_index)
