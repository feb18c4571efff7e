"""Comparisons of a calibration: which pictures are compared, and how like they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.errors import ConfigError
from blurgate.evaluation.edc import pair_degree
from blurgate.evaluation.verification import Pairs, similarities

if TYPE_CHECKING:
    from blurgate.evaluation.material import Measured
    from blurgate.evaluation.verification import Index
    from blurgate.types import F64


MOST_COMPARISONS: Final = 200_000
"""More mated comparisons are thinned out at random."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """Mated comparisons of references with probes, and non-mated ones of references."""

    similarity: F64
    """(n,) of mated comparisons."""
    degree: F64
    """(n,) the larger one of the two pictures."""
    person: Index
    """(n,) who it is, from 0."""
    impostor_similarity: F64
    """(m,)"""
    impostor_person: Index
    """(m, 2) who they are."""
    persons: int
    """How many people there are."""
    source: str


def compare(
    measured: Measured,
    pairs: Pairs,
    *,
    twins: bool = False,
    other_photo: float = 1.0,
    seed: int = 0,
) -> Comparisons:
    """Compare faces.

    Args:
        measured: With embeddings.
        pairs: Of references. Where probes are changed pictures, a mated pair (a, b) becomes a with
            every probe of b and b with every probe of a; non-mated pairs stay those of references.
        twins: Compare every probe with the reference that it was made of instead of with another
            picture of the person: for material that shows hardly anybody twice. It flatters;
            `other_photo` makes up for that.
        other_photo: With twins, the similarity of two clean photos of one person: that with a
            twin, times this, stands for that with another photo. In (0, 1].
        seed: Decides what is left out above `MOST_COMPARISONS`.

    Raises:
        ConfigError: `twins` without changed probes.
    """
    references, probes = measured.reference_embedding, measured.embedding
    if references is None or probes is None:
        raise ConfigError("comparisons need an embedder")
    if twins and not measured.is_changed:
        raise ConfigError("faces as they are have no twins; pair blurred ones, or use photos")
    if twins:
        mated = np.stack([measured.owner, np.arange(len(measured.owner))], 1)
    elif measured.is_changed:
        mated = _with_probes(pairs.genuine, measured.owner, len(measured.identities))
    else:
        mated = pairs.genuine
    if len(mated) > MOST_COMPARISONS:
        rng = np.random.default_rng([seed % 2**32, 17])
        mated = mated[np.sort(rng.choice(len(mated), MOST_COMPARISONS, replace=False))]
    names, person = np.unique(np.array(measured.identities), return_inverse=True)
    own = "each probe with its own reference"
    if other_photo != 1:
        own += f", times {other_photo:g}"
    similarity = similarities(references, probes, mated)
    return Comparisons(
        similarity=similarity * other_photo if twins else similarity,
        degree=pair_degree(measured.reference_degree[mated[:, 0]], measured.degree[mated[:, 1]]),
        person=person[mated[:, 0]],
        impostor_similarity=similarities(references, references, pairs.impostor),
        impostor_person=person[pairs.impostor],
        persons=len(names),
        source=own if twins else pairs.source,
    )


def _with_probes(pairs: Index, owner: Index, references: int) -> Index:
    """Turn pairs of references into (reference, probe of the other), both ways round."""
    order = np.argsort(owner, kind="stable")
    start = np.searchsorted(owner[order], np.arange(references + 1))
    both = np.concatenate([pairs, pairs[:, ::-1]])
    count = np.diff(start)[both[:, 1]]
    first = np.repeat(start[both[:, 1]] - np.cumsum(count) + count, count)
    probe = order[first + np.arange(len(first))] if len(first) else np.empty(0, np.intp)
    return np.stack([np.repeat(both[:, 0], count), probe], 1).astype(np.intp)
