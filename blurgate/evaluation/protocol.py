"""The protocol by which the original system was evaluated, and what it did not report.

30 people, one picture each, are blurred with a straight line of 0 to 99 pixels of the 112 px crop,
once all at one angle and once each at a random one. The original shows the mean label and the mean
prediction at each length, and the mean squared error between these two curves. A mean curve hides
errors that cancel, so the error of single pictures stands beside it.

As there, codes are blurred and not light, and there is neither noise nor compression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import InputError
from blurgate.evaluation.families import clean_twins
from blurgate.io.text import digest
from blurgate.pipeline import ordered_map
from blurgate.stages import degrees_of
from blurgate.training.pairs import make_chain
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    from blurgate.evaluation.clean import CleanFaces
    from blurgate.interfaces import Scorer
    from blurgate.training.labels import Labeller
    from blurgate.types import F32, F64


PEOPLE: Final = 30
LENGTHS: Final = range(100)
ANGLES: Final[Mapping[str, float | None]] = {"fixed": 0.0, "random": None}
"""Way -> degrees from the horizontal; None: every picture has its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """What came out."""

    identities: list[str]
    """The p people."""
    label: dict[str, F64]
    """Way -> (100, p) labels."""
    degree: dict[str, dict[str, F64]]
    """Scorer -> way -> (100, p) degrees."""

    def curves(self, way: str) -> dict[str, F64]:
        """Give the mean curves, (100,) each: `true` and one per scorer."""
        means = {name: ways[way].mean(1) for name, ways in self.degree.items()}
        return {"true": self.label[way].mean(1), **means}

    def errors(self, scorer: str, way: str) -> dict[str, float]:
        """Give a scorer's errors.

        Returns:
            `mse_of_means`, the original's figure of merit; `mae_of_means`; `mae`, over all pictures
            of all lengths; `mse`, likewise.
        """
        true, degree = self.label[way], self.degree[scorer][way]
        of_means = degree.mean(1) - true.mean(1)
        return {
            "mse_of_means": float((of_means**2).mean()),
            "mae_of_means": float(np.abs(of_means).mean()),
            "mse": float(((degree - true) ** 2).mean()),
            "mae": float(np.abs(degree - true).mean()),
        }

    def facts(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "people": len(self.identities),
            "lengths": list(LENGTHS),
            "curves": {
                way: {name: curve.tolist() for name, curve in self.curves(way).items()}
                for way in self.label
            },
            "errors": {
                name: {way: self.errors(name, way) for way in self.label} for name in self.degree
            },
        }


def first_faces(clean: CleanFaces, count: int, seed: int) -> list[int]:
    """Choose the first face of each of some people, by the seed; gives their places."""
    first: dict[str, int] = {}
    for place, identity in enumerate(clean.identities):
        first.setdefault(identity, place)
    chosen = sorted(first, key=lambda who: digest(f"{seed} {who}"))[:count]
    return [first[who] for who in chosen]


def run_protocol(
    clean: CleanFaces,
    labeller: Labeller,
    scorers: Mapping[str, Scorer],
    *,
    people: int = PEOPLE,
    seed: int = 0,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Protocol:
    """Run the protocol.

    Args:
        clean: The faces that people are drawn from; fewer people than asked for are all taken.
        labeller: Makes the labels.
        scorers: Name -> scorer.
        people: How many.
        seed: Decides who, and the random angles.
        workers: Threads; the result does not depend on them.
        on_progress: Called with the number of pictures that are done.

    Raises:
        InputError: There are fewer than two people.
    """
    chosen = first_faces(clean, people, seed)
    if len(chosen) < 2:
        raise InputError("the original's protocol needs at least two people; see --identity")
    crops = clean_twins([clean.crops[i] for i in chosen])
    n, lengths = len(crops), len(LENGTHS)
    embedded = labeller.embed(crops)
    chains = {
        way: make_chain(
            "linear",
            options={"max_length": 100.0, "angle": angle},
            linear=False,
            noise=False,
            compression=False,
        )
        for way, angle in ANGLES.items()
    }

    def one(job: tuple[str, int]) -> tuple[F32, dict[str, F32]]:
        way, length = job[0], LENGTHS[job[1]]
        streams = Streams(seed, range(length * n, length * n + n)).fold("protocol")
        severity = np.full(n, length / 100, np.float32)
        pictures = chains[way].apply(crops, chains[way].sample(streams, severity)).degraded
        label = labeller.label(embedded, range(n), pictures)
        return label, {name: degrees_of(pictures, scorer) for name, scorer in scorers.items()}

    jobs = [(way, place) for way in ANGLES for place in range(lengths)]
    labels = {way: np.empty((lengths, n)) for way in ANGLES}
    degrees = {name: {way: np.empty((lengths, n)) for way in ANGLES} for name in scorers}
    results = ordered_map(one, jobs, workers)
    for done, ((way, place), (label, degree)) in enumerate(zip(jobs, results, strict=True), 1):
        labels[way][place] = label
        for name, values in degree.items():
            degrees[name][way][place] = values
        on_progress(done * n)
    return Protocol([clean.identities[i] for i in chosen], labels, degrees)
