"""Groups of people: read from file names, and compared with each other.

A person belongs to one group on each of several axes, such as sex, age and ethnicity. The groups
are those that a collection's own file names tell; nobody is looked at to guess them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from blurgate.errors import ConfigError
from blurgate.evaluation import fidelity
from blurgate.io.text import harmless, shown

if TYPE_CHECKING:
    from blurgate.types import F64


Groups: TypeAlias = Mapping[str, str]
"""Axis -> group of one person; empty where nothing is known."""

AGES: Final = (0, 13, 20, 40, 60)
"""Lower bounds of the groups of age, in years."""
_NORMAL_95: Final = 1.959964
_UTK_ETHNICITIES: Final = {"0": "white", "1": "black", "2": "asian", "3": "indian", "4": "other"}


def age_group(years: str) -> str:
    """Name the group of an age in whole years.

    >>> age_group("7"), age_group("20"), age_group("116")
    ('0-12', '20-39', '60+')
    """
    at = int(np.searchsorted(AGES, int(years), side="right")) - 1
    return f"{AGES[at]}-{AGES[at + 1] - 1}" if at + 1 < len(AGES) else f"{AGES[at]}+"


COLLECTIONS: Final[dict[str, tuple[str, dict[str, Callable[[str], str]]]]] = {
    "mebeauty": (r"(?P<sex>female|male)_(?P<ethnicity>[a-z]+)_.*", {}),
    "utkface": (
        r"(?P<age>\d{1,3})_(?P<sex>[01])_(?P<ethnicity>[0-4])_\d+.*",
        {
            "age": age_group,
            "sex": lambda code: ("male", "female")[int(code)],
            "ethnicity": lambda code: _UTK_ETHNICITIES[code],
        },
    ),
}
"""Collections whose file names tell groups: pattern of the name without its ending, and what the
codes on an axis mean."""


class GroupNames:
    """Reads the groups of a person out of a file's name.

    Args:
        patterns: Keys of `COLLECTIONS`, or regular expressions for the whole name without its
            ending; each named part in parentheses is an axis, and without one the first part is
            the axis `group`. The first pattern that fits a name decides.

    Raises:
        ConfigError: A pattern is no regular expression, or has no part in parentheses.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [_compiled(pattern) for pattern in patterns]

    def __call__(self, source: str) -> dict[str, str]:
        """Give the groups of a file; none where its name tells none."""
        stem = PurePath(source.replace("\\", "/")).stem
        for pattern, meaning in self._patterns:
            found = pattern.fullmatch(stem)
            if found is not None:
                told = found.groupdict() if pattern.groupindex else {"group": found[1]}
                return {
                    axis: shown(harmless(meaning.get(axis, str)(code)))
                    for axis, code in told.items()
                    if code
                }
        return {}


def check_fit(patterns: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse patterns that fit none of some file names; where there are none, any pattern will do.

    Raises:
        ConfigError: None fits.
    """
    group_of = GroupNames(patterns)
    if patterns and sources and not any(map(group_of, sources)):
        given = " ".join(f"--groups {pattern}" for pattern in patterns)
        raise ConfigError(f"{given} fits no file name, such as {shown(sources[0])}")


def _compiled(pattern: str) -> tuple[re.Pattern[str], dict[str, Callable[[str], str]]]:
    text, meaning = COLLECTIONS.get(pattern, (pattern, {}))
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"--groups {pattern}: {error}") from error
    if not compiled.groups:
        raise ConfigError(
            f"--groups {pattern}: put the part that names the group in parentheses, such as "
            r"'\w+_(\w+)_\d+', or use " + " or ".join(COLLECTIONS)
        )
    return compiled, meaning


def members(groups: Sequence[Groups]) -> dict[str, dict[str, list[int]]]:
    """Give who is in each group.

    Args:
        groups: Those of n faces.

    Returns:
        Axis -> group -> places from 0, both sorted by name.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for place, own in enumerate(groups):
        for axis, name in own.items():
            found.setdefault(axis, {}).setdefault(name, []).append(place)
    return {axis: dict(sorted(named.items())) for axis, named in sorted(found.items())}


def take_in_turn(groups: Sequence[Groups], places: Iterable[int], count: int) -> list[int]:
    """Choose faces so that small groups are there, too: one of each combination of groups in turn.

    Args:
        groups: Those of n faces.
        places: Places among them, those to be preferred first; faces without a group are left out.
        count: How many at most.
    """
    waiting: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place in places:
        if groups[place]:
            waiting.setdefault(tuple(sorted(groups[place].items())), []).append(place)
    order = sorted(
        (turn, key, place) for key, own in waiting.items() for turn, place in enumerate(own)
    )
    return [place for *_, place in order[:count]]


def half_width(values: F64, units: Sequence[str]) -> float:
    """Give the half width of the 95 % interval of a mean, when values of one unit hang together.

    The usual sandwich estimate for clusters (Cameron and Miller, "A practitioner's guide to
    cluster-robust inference", 2015), normal quantile.

    Args:
        values: (n,)
        units: n names: the person that each value comes from.

    Returns:
        The half width; NaN where there are fewer than two units.
    """
    names, unit = np.unique(np.array(units, dtype=str), return_inverse=True)
    k = len(names)
    if k < 2:
        return float("nan")
    sums = np.bincount(unit, values - values.mean(), k)
    return _NORMAL_95 * float(np.sqrt(k / (k - 1) * (sums**2).sum())) / len(values)


def compare_groups(
    degree: F64, label: F64, groups: Sequence[Groups], persons: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare degrees with labels within each group.

    Args:
        degree: (n,) in [0, 1].
        label: (n,) in [0, 1].
        groups: n.
        persons: n: who each picture shows.

    Returns:
        Axis -> group -> what `blurgate.evaluation.fidelity.whole` gives, with `persons`, and with
        `mae_pm` and `bias_pm`, the half widths of 95 % intervals (None for a single person).
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for axis, named in members(groups).items():
        found[axis] = {}
        for name, places in named.items():
            error = degree[places] - label[places]
            own = [persons[i] for i in places]
            bounds = {"mae_pm": half_width(np.abs(error), own), "bias_pm": half_width(error, own)}
            found[axis][name] = {
                **fidelity.whole(degree[places], label[places]),
                "persons": len(set(own)),
                **{key: None if np.isnan(size) else size for key, size in bounds.items()},
            }
    return found
