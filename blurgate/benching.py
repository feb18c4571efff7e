"""How fast blur models are: wall clock from aligned faces as pixels to their degrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blurgate import zoo
from blurgate.cards import read_card
from blurgate.interfaces import Runtime
from blurgate.stages import degrees_of
from blurgate.timing import Spent, in_turns
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.types import U8

Key: TypeAlias = tuple[str, int, int]
"""(engine, threads, batch); an engine is `onnxruntime`, `torch` or `numpy`."""
Call: TypeAlias = "Callable[[U8], object]"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One model that is timed."""

    name: str
    bytes: int
    """Of the weight file; 0 for a scorer that has none."""
    about: Mapping[str, Any]
    """What its card tells of its training: parameters, validation errors, backbone, head."""
    calls: Mapping[tuple[str, int], Call]
    """(engine, threads) -> from (n, 112, 112, 3) uint8 BGR to anything."""
    score: Call | None = None
    """Gives degrees, to be compared with true ones; None for a network that was not trained."""
    path: str | None = None
    """The weight file; None where there is none, or none that stays."""


def open_subject(model: str, device: str, threads: Sequence[int]) -> Subject:
    """Open a scorer by name or path, once per number of threads.

    Raises as `zoo.resolve` and `degrees_of` do.
    """
    file = zoo.resolve("scorer", model)
    engine = "onnxruntime" if file is not None else "numpy"
    # A scorer without weights has no session whose threads could be chosen.
    chosen = threads if file is not None else (1,)
    scorers = {n: zoo.open_scorer(model, Runtime(device, n)) for n in chosen}
    card = read_card(file.card, str(file.path)) if file is not None else None
    first = scorers[chosen[0]]
    degrees_of(np.zeros((1, CROP_SIZE, CROP_SIZE, 3), np.uint8), first)  # a broken one ends it here
    return Subject(
        name=first.info.name,
        bytes=file.path.stat().st_size if file is not None else 0,
        about=card.about if card is not None else {},
        calls={(engine, n): scorer for n, scorer in scorers.items()},
        score=first,
        path=str(file.path) if file is not None else None,
    )


def measure(
    subjects: Sequence[Subject],
    batches: Sequence[int],
    *,
    rounds: int,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[dict[Key, Spent]]:
    """Time models in turns.

    Args:
        subjects: What to time.
        batches: Faces per call.
        rounds: Timed calls of each.
        on_round: Called with the number of rounds that are done.

    Returns:
        For each subject: (engine, threads, batch) -> milliseconds of a call.
    """
    rng = np.random.default_rng(0)
    crops = {n: rng.integers(0, 256, (n, CROP_SIZE, CROP_SIZE, 3), np.uint8) for n in batches}
    calls: dict[tuple[int, Key], Callable[[], object]] = {
        (number, (engine, threads, batch)): partial(call, faces)
        for number, subject in enumerate(subjects)
        for (engine, threads), call in subject.calls.items()
        for batch, faces in crops.items()
    }
    out: list[dict[Key, Spent]] = [{} for _ in subjects]
    for (number, key), spent in in_turns(calls, rounds, on_round).items():
        out[number][key] = spent
    return out
