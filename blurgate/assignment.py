"""Pairing two sets one to one so that the pairs are as alike as can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blurgate.errors import ShapeError


def pair_up(likeness: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Find the one-to-one pairs with the greatest sum of likeness.

    The exact optimum, by shortest augmenting paths with dual variables (Jonker and Volgenant 1987,
    in the form of Crouse 2016); O(n^3), with whole rows at a time. Greedy pairing would be as fast
    for two faces and wrong for two that pass each other: the best single pair can leave the other
    two without a partner. A pair of likeness 0 or less is the same as no pair.

    Args:
        likeness: (n, m) finite numbers; 0 or less: never pair these two.

    Returns:
        The pairs (row, column), sorted; at most min(n, m). The same input always gives the same
        pairs, also where several are equally good.

    Raises:
        ShapeError: `likeness` is not a matrix of finite numbers.

    >>> pair_up(np.array([[0.9, 0.8], [0.8, 0.1]]))  # greedy would take 0.9 + 0.1
    [(0, 1), (1, 0)]
    """
    if likeness.ndim != 2 or not np.isfinite(likeness).all():
        raise ShapeError(f"likeness must be a matrix of finite numbers, got {likeness!r}")
    useful = np.maximum(likeness, 0.0)
    if not useful.size:
        return []
    # As a rule every row likes another column best, and no sum can be greater than that one.
    best = useful.argmax(axis=1).tolist()
    chosen = [(row, column) for row, column in enumerate(best) if likeness[row, column] > 0]
    if len({column for _, column in chosen}) == len(chosen):
        return chosen
    if likeness.shape[0] > likeness.shape[1]:
        pairs = [(row, column) for column, row in enumerate(_assign(-useful.T))]
    else:
        pairs = list(enumerate(_assign(-useful)))
    return sorted((row, column) for row, column in pairs if likeness[row, column] > 0)


def _assign(cost: NDArray[np.float64]) -> list[int]:
    """Give each row its column so that the sum of costs is least; rows <= columns."""
    n, m = cost.shape
    column_of = np.full(n, -1)
    row_of = np.full(m, -1)
    u, v = np.zeros(n), np.zeros(m)  # dual variables: cost - u - v >= 0, and 0 on assigned pairs
    for start in range(n):
        shortest = np.full(m, np.inf)
        previous = np.full(m, -1)
        done = np.zeros(m, bool)
        visited = [start]
        row, reached, length = start, -1, 0.0
        while reached < 0:
            through = length + cost[row] - u[row] - v
            better = ~done & (through < shortest)
            shortest[better] = through[better]
            previous[better] = row
            column = int(np.argmin(np.where(done, np.inf, shortest)))
            length = float(shortest[column])
            done[column] = True
            if row_of[column] < 0:
                reached = column
            else:
                row = int(row_of[column])
                visited.append(row)
        u[start] += length
        for other in visited[1:]:
            u[other] += length - shortest[column_of[other]]
        v[done] -= length - shortest[done]
        column = reached
        while True:  # turn the path around
            row = int(previous[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
            if row == start:
                break
    return [int(column) for column in column_of]
