"""How long calls take by the clock on the wall, taking turns.

In turns, what else the machine does falls on all of them; and a median and the fastest are given,
since it makes calls longer, long ones above all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple, TypeVar

K = TypeVar("K")


class Spent(NamedTuple):
    """Milliseconds of a call."""

    median: float
    fastest: float


def in_turns(
    calls: Mapping[K, Callable[[], object]],
    rounds: int,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[K, Spent]:
    """Time calls in turns.

    In each round every call is made twice, and the second one counts: the first finds caches that
    the calls before it have filled, and the very first sets up what later ones use again.

    Args:
        calls: What to time.
        rounds: How often; at least one.
        on_round: Called with the number of rounds that are done.
    """
    taken: dict[K, list[float]] = {key: [] for key in calls}
    for number in range(1, rounds + 1):
        for key, call in calls.items():
            call()
            began = time.perf_counter()
            call()
            taken[key].append((time.perf_counter() - began) * 1000)
        on_round(number)
    return {key: Spent(median(times), min(times)) for key, times in taken.items()}
