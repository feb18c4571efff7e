"""Plain columns of text: they survive a pipe, a narrow terminal and grep."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from blurgate.io.text import shown


def columns(rows: Iterable[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Align rows of cells, the columns numbered in `right` to the right.

    A cell that holds line ends, control characters and the like, as a model's card may, is escaped.

    >>> columns([("NAME", "KIND"), ("laplacian", "scorer")])
    ['NAME       KIND', 'laplacian  scorer']
    >>> columns([("detector", "AP"), ("one", "0.500")], right=[1])
    ['detector     AP', 'one       0.500']
    """
    table = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def size_text(n_bytes: int | None) -> str:
    """Write a number of bytes for people.

    >>> size_text(14_969_382), size_text(812), size_text(None)
    ('15.0 MB', '812 B', '?')
    """
    if n_bytes is None:
        return "?"
    if n_bytes < 1000:
        return f"{n_bytes} B"
    if n_bytes < 1_000_000:
        return f"{n_bytes / 1000:.1f} kB"
    return f"{n_bytes / 1_000_000:.1f} MB"
