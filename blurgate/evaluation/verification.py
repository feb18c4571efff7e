"""Comparisons of faces: which pictures are compared, and which similarity counts as a match.

FNMR is the share of mated comparisons (one person) whose similarity lies below the threshold, FMR
the share of non-mated ones (two people) at or above it, as in ISO/IEC 19795-1.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from blurgate.errors import InputError, ShapeError
from blurgate.io.text import reason, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.faces import Face
    from blurgate.types import F32, F64

    Index: TypeAlias = NDArray[np.intp]

IMPOSTORS: Final = 50_000
"""Non-mated comparisons that are drawn where nobody says how many."""
MOST_GENUINE: Final = 1_000_000
"""Of more mated comparisons so many are drawn: their number grows with the square of the pictures
of a person."""
STANDARD_FILES: Final = ("pairs.txt", "pairs.csv", "lfw_pairs.csv", "lfw_pairs_subset.csv")
"""Names under which a folder of faces may hold its list of comparisons."""
LEAST_FROM_FILE: Final = 1000
"""A file with fewer non-mated comparisons says nothing about low FMRs: they are drawn instead."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Comparisons of pictures, by their places in a list."""

    genuine: Index
    """(n, 2) pictures of one person."""
    impostor: Index
    """(m, 2) pictures of two people."""
    source: str
    """Where they come from, for the record."""
    folds: tuple[Index, Index] | None = None
    """(n,) and (m,) the fold of each, from 0; None where the comparisons have none."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        for name in ("genuine", "impostor"):
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape[1] != 2:
                raise ShapeError(f"{name} pairs must be of shape (n, 2), got {shape}")

    def sided(self, seed: int) -> Pairs:
        """Swap the two pictures of comparisons at random: the second is the one that is changed."""
        rng = np.random.default_rng([seed % 2**32, 11])
        turned = [
            np.where(rng.random(len(part))[:, None] < 0.5, part[:, ::-1], part)
            for part in (self.genuine, self.impostor)
        ]
        return Pairs(turned[0], turned[1], self.source, self.folds)


def make_pairs(identities: Sequence[str], *, impostors: int = IMPOSTORS, seed: int = 0) -> Pairs:
    """Compare every two pictures of each person, and pictures of different people at random.

    Args:
        identities: (n,) who each picture shows.
        impostors: Non-mated comparisons to draw; all are taken where there are no more.
        seed: Decides which.
    """
    genuine = genuine_pairs(identities, seed=seed)
    drawn = impostor_pairs(identities, impostors, seed)
    kinds = [
        "sampled" if len(part) == most else "all"
        for part, most in ((genuine, MOST_GENUINE), (drawn, impostors))
    ]
    return Pairs(genuine, drawn, f"{kinds[0]} genuine, {kinds[1]} impostor pairs (seed {seed})")


def genuine_pairs(identities: Sequence[str], *, most: int = MOST_GENUINE, seed: int = 0) -> Index:
    """Give every two places that show one person.

    Args:
        identities: (n,) who each picture shows.
        most: Of more, so many are drawn.
        seed: Decides which.

    Returns:
        (m, 2) places, the lower one first, in order.

    >>> genuine_pairs(["a", "b", "a", "a"]).tolist()
    [[0, 2], [0, 3], [2, 3]]
    """
    person = _numbered(identities)
    order = np.argsort(person, kind="stable")  # each person's pictures side by side
    sizes = np.bincount(person)
    following = np.arange(len(order)) + 1
    later = np.repeat(np.cumsum(sizes), sizes) - following
    total = int(later.sum())
    number = np.arange(total)
    if total > most:
        rng = np.random.default_rng([seed % 2**32, 13])
        number = rng.choice(total, most, replace=False)
    return _listed(order, following, later, number)


def _listed(order: Index, partner: Index, partners: Index, number: Index) -> Index:
    """Give some of the pairs that follow from each place's run of partners, sorted.

    Args:
        order: (n,) places, in an order of one's own.
        partner: (n,) where in it each one's partners begin.
        partners: (n,) how many follow from there.
        number: (m,) which pairs, counted through all runs.
    """
    stop = np.cumsum(partners)
    first = np.searchsorted(stop, number, side="right")
    second = partner[first] + number - (stop - partners)[first]
    pairs = np.sort(np.stack([order[first], order[second]], 1), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _numbered(identities: Sequence[str]) -> Index:
    """Give each picture (n,) the number of its person, from 0."""
    names = np.asarray(identities, object).astype(str)
    return np.unique(names, return_inverse=True)[1].astype(np.intp)


def impostor_pairs(identities: Sequence[str], count: int, seed: int) -> Index:
    """Draw pairs of places that show different people, each pair once.

    Args:
        identities: (n,) who each picture shows.
        count: How many; fewer come out where there are fewer.
        seed: Decides which.

    Returns:
        (count, 2) places, the lower one first, in order.
    """
    n = len(identities)
    person = _numbered(identities)
    order = np.argsort(person, kind="stable")  # each person's pictures side by side
    sizes = np.bincount(person)
    following = np.repeat(np.cumsum(sizes), sizes)  # where the next person's begin
    others = n - following
    possible = int(others.sum())
    rng = np.random.default_rng([seed % 2**32, 7])
    if possible <= 2 * count:  # few enough to list them all
        every = _listed(order, following, others, np.arange(possible))
        if possible <= count:
            return every
        return every[np.sort(rng.choice(possible, count, replace=False))]
    code = np.empty(0, np.intp)
    while len(code) < count:
        a, b = np.sort(rng.integers(0, n, (2, 2 * count)), axis=0)
        new = (a * n + b)[person[a] != person[b]]
        both = np.concatenate([code, new])
        # The first time each code came up, so that nothing prefers low places.
        code = both[np.sort(np.unique(both, return_index=True)[1])][:count]
    return np.stack(np.divmod(np.sort(code), n), 1).astype(np.intp)


def find_pairs_file(arguments: Iterable[str]) -> Path | None:
    """Look for a list of comparisons in the folders among some arguments; see `STANDARD_FILES`."""
    for argument in arguments:
        for name in STANDARD_FILES:
            path = Path(argument) / name
            if path.is_file():
                return path
    return None


def read_pairs(
    path: Path, faces: Sequence[Face], *, impostors: int = IMPOSTORS, seed: int = 0
) -> Pairs:
    """Read a list of comparisons, in one of two formats.

    `.csv`: columns a, b, same (1 or 0), two paths relative to the file. Anything else is LFW's
    `pairs.txt`: a first line with the number of folds and of comparisons of either kind per fold;
    then lines `name number number` and `name number name number`, separated by tabs.

    Comparisons with a picture that is not among the faces are left out. Where fewer than
    `LEAST_FROM_FILE` non-mated ones are left, they are drawn as `make_pairs` does; pictures that
    the list calls one person are not drawn as two.

    Args:
        path: The file.
        faces: The pictures that there are.
        impostors: How many to draw if need be.
        seed: Decides which.

    Raises:
        InputError: The file cannot be read, a line is wrong (it is named), or no mated comparison
            is left.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark first
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the pairs {path}: {reason(error)}", source=str(path)
        ) from error
    places = _Places(path, faces)
    rows = _csv_rows if path.suffix.lower() == ".csv" else _lfw_rows
    kept: dict[bool, list[tuple[int, int, int]]] = {True: [], False: []}
    listed = 0
    for first, second, same, fold in rows(path, text):
        listed += 1
        a, b = places.find(first), places.find(second)
        if a is not None and b is not None:
            kept[same].append((a, b, fold))
    if not kept[True]:
        raise InputError(
            f"{path}: none of its {listed} comparisons has one person and two pictures among the "
            f"{len(faces)} given; name the folder that the file belongs to",
            source=str(path),
        )
    genuine, impostor = (np.array(kept[s], np.intp).reshape(-1, 3) for s in (True, False))
    source = f"{path.name}: {len(genuine)} genuine, {len(impostor)} impostor of {listed} pairs"
    folds = (genuine[:, 2], impostor[:, 2])
    if len(impostor) < LEAST_FROM_FILE:
        names = _merged([face.identity for face in faces], genuine[:, :2])
        drawn = impostor_pairs(names, impostors, seed)
        source += f"; {len(drawn)} impostor pairs drawn instead (seed {seed})"
        return Pairs(genuine[:, :2], drawn, source)
    has_folds = len({*folds[0].tolist()} & {*folds[1].tolist()}) > 1
    return Pairs(genuine[:, :2], impostor[:, :2], source, folds if has_folds else None)


def _merged(identities: Sequence[str], same: Index) -> list[str]:
    """Give (n,) names of people, one for all whom pairs (m, 2) of places call the same."""
    known_as: dict[str, str] = {}

    def last(name: str) -> str:
        while name in known_as:
            name = known_as[name]
        return name

    for a, b in same.tolist():
        one, other = last(identities[a]), last(identities[b])
        if one != other:
            known_as[other] = one
    return [last(name) for name in identities]


class _Places:
    """Where in the list the picture of a path, or of a bare name, is."""

    def __init__(self, path: Path, faces: Sequence[Face]) -> None:
        self._folder = path.parent
        self._at = {os.path.realpath(face.source): i for i, face in enumerate(faces)}
        self._stems: dict[str, int | None] = {}
        for i, face in enumerate(faces):
            stem = PurePath(face.source.replace("\\", "/")).stem
            self._stems[stem] = None if stem in self._stems else i  # None: two have the name

    def find(self, name: str) -> int | None:
        exact = self._at.get(os.path.realpath(self._folder / name))
        if exact is not None or "/" not in name:
            return self._stems.get(name) if exact is None else exact
        # Laid out otherwise, as crops in one folder are. Then the name has to tell the person: a
        # bare 3.jpg is somebody else's, where the one that is meant could not be read.
        path = PurePath(name)
        person = path.parent.name
        return self._stems.get(path.stem) if person and path.stem.startswith(person) else None


def _csv_rows(path: Path, text: str) -> Iterable[tuple[str, str, bool, int]]:
    rows = csv.DictReader(text.splitlines(), strict=True)
    try:
        missing = {"a", "b", "same"} - set(rows.fieldnames or ())
        if missing:
            raise InputError(f"{path} has no column {min(missing)!r}; it needs a, b and same")
        for row in rows:
            if row["same"] not in ("0", "1") or not row["a"] or not row["b"]:
                raise InputError(
                    f"line {rows.line_num} of {path}: a and b are paths, same is 1 or 0",
                    source=str(path),
                )
            yield row["a"], row["b"], row["same"] == "1", 0
    except csv.Error as error:
        raise InputError(
            f"line {rows.reader.line_num} of {path}: {error}; check the quotation marks up to here",
            source=str(path),
        ) from error


def _lfw_rows(path: Path, text: str) -> Iterable[tuple[str, str, bool, int]]:
    lines = text.splitlines()
    head = lines[0].split() if lines else []
    if not head or len(head) > 2 or not all(word.isdecimal() for word in head):
        raise InputError(
            f"{path} is not a list of pairs: its first line must hold the number of folds and of "
            "pairs, as in LFW's pairs.txt (or name it .csv with the columns a, b, same)",
            source=str(path),
        )
    per_fold = 2 * int(head[-1])
    for number, line in enumerate(lines[1:]):
        if not line.strip():
            continue
        words = line.split("\t") if "\t" in line else line.split()
        if len(words) not in (3, 4) or not (words[1].isdecimal() and words[-1].isdecimal()):
            raise InputError(
                f"line {number + 2} of {path}: {shown(line[:60])} is neither "
                "`name number number` nor `name number name number`",
                source=str(path),
            )
        first, second = f"{words[0]}_{int(words[1]):04d}", f"{words[-2]}_{int(words[-1]):04d}"
        if len(words) == 3:
            second = f"{words[0]}_{int(words[2]):04d}"
        yield first, second, len(words) == 3, number // per_fold if per_fold else 0


def similarities(a: F32, b: F32, pairs: Index) -> F64:
    """Give the cosine of each pair: row `pairs[:, 0]` of a against row `pairs[:, 1]` of b.

    Args:
        a: (f, d) embeddings of length 1.
        b: (f, d) likewise, of the same pictures or of what became of them.
        pairs: (n, 2) places.

    Returns:
        (n,) in [-1, 1].
    """
    out = np.empty(len(pairs))
    for at in range(0, len(pairs), 65536):  # bounds the memory
        part = pairs[at : at + 65536]
        out[at : at + len(part)] = np.einsum(
            "nd,nd->n", a[part[:, 0]], b[part[:, 1]], dtype=np.float64
        )
    return out


def fnmr(genuine: NDArray[Any], threshold: float) -> float:
    """Give the share of mated similarities (n,) below a threshold."""
    return float((genuine < threshold).mean())


def threshold_at_fmr(impostor: NDArray[Any], target: float) -> float:
    """Give the lowest threshold whose FMR is at most a target.

    Args:
        impostor: (n,) similarities of non-mated comparisons.
        target: The FMR, above 0 and below 1.

    Raises:
        InputError: There are too few comparisons for one false match at that rate.

    >>> 0.3 < threshold_at_fmr(np.array([0.1, 0.2, 0.3, 0.4]), 0.25) < 0.31
    True
    """
    if not 0 < target < 1:
        raise InputError(f"an FMR is a share between 0 and 1, got {target:g}")
    allowed = int(np.floor(target * len(impostor) + 1e-9))
    if allowed < 1:
        raise InputError(
            f"an FMR of {target:g} takes at least {int(np.ceil(1 / target))} comparisons of "
            f"different people, and there are {len(impostor)}"
        )
    falling = np.sort(np.asarray(impostor, np.float64))[::-1]
    return float(np.nextafter(falling[allowed], np.inf))


def threshold_at_fnmr(genuine: NDArray[Any], target: float) -> float:
    """Give the highest threshold whose FNMR is at most a target in [0, 1).

    >>> scores = np.array([0.5, 0.6, 0.7, 0.8])
    >>> threshold_at_fnmr(scores, 0.25), fnmr(scores, 0.6)
    (0.6, 0.25)
    """
    if not 0 <= target < 1 or not len(genuine):
        raise InputError(f"an FNMR is a share from 0 to below 1 of some pairs, got {target:g}")
    rising = np.sort(np.asarray(genuine, np.float64))
    return float(rising[int(np.floor(target * len(rising) + 1e-9))])


def fold_accuracy(genuine: F64, impostor: F64, folds: tuple[Index, Index]) -> tuple[float, float]:
    """Give LFW's accuracy: the threshold of nine folds, applied to the tenth, for each.

    Args:
        genuine: (n,) similarities of mated comparisons.
        impostor: (m,) of non-mated ones.
        folds: (n,) and (m,) the fold of each.

    Returns:
        The mean over folds, and its standard error.
    """
    shares = []
    for fold in np.unique(folds[0]):
        out = (folds[0] == fold, folds[1] == fold)
        level = _best_threshold(genuine[~out[0]], impostor[~out[1]])
        right = (genuine[out[0]] >= level).sum() + (impostor[out[1]] < level).sum()
        shares.append(float(right / (out[0].sum() + out[1].sum())))
    spread = float(np.std(shares, ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else 0.0
    return float(np.mean(shares)), spread


def _best_threshold(genuine: F64, impostor: F64) -> float:
    levels = np.unique(np.concatenate([genuine, impostor]))
    misses = np.searchsorted(np.sort(genuine), levels, side="left")
    matches = len(impostor) - np.searchsorted(np.sort(impostor), levels, side="left")
    return float(levels[int((misses + matches).argmin())])
