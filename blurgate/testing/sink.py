"""The contract of a sink; see `blurgate.interfaces.Sink`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blurgate.errors import ConfigError
from blurgate.interfaces import Column, Scalar
from blurgate.testing import ContractError, common

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = Mapping[str, Scalar]

COLUMNS: Final = (Column("name", str), Column("n", int), Column("x", float))
"""What is written: text, a whole number and a number, each of which may be None."""
ROWS: Final[tuple[Row, ...]] = (
    {"name": 'a,"b"\nc', "n": 1, "x": 0.12345678},
    {"name": "ä 😀", "n": None, "x": None},
    {"name": "=1+1", "n": -3, "x": 1e-9},
    {"name": "z", "n": 10**12, "x": 123456789.0},
)


class _Stop(Exception):  # noqa: N818 - it stands for whatever goes wrong in the user's code
    """Raised in the middle of a table."""


class Subject:
    """A sink to check: a registered name or a factory, and how to read what it wrote."""

    def __init__(self, plugin: Any, *, read: Callable[[Path], Iterable[Row]] | None = None) -> None:
        self.plugin, self._read = plugin, read

    def table(self, path: Path, mark: int | None = None) -> Any:
        """Make the sink for a path."""
        return common.factory_of("sink", self.plugin)(path, COLUMNS, mark)

    def expect(self, path: Path, wanted: Iterable[Row]) -> None:
        """Require that a table is there, and, if it can be read, that it holds some rows."""
        common.require(path.is_file(), f"there is no table at the path that was given, {path.name}")
        if self._read is None:
            return
        got, rows = list(self._read(path)), list(wanted)
        common.require(
            len(got) == len(rows), f"{len(rows)} rows were written, {len(got)} are there"
        )
        for here, there in zip(got, rows, strict=True):
            for name, value in there.items():
                close = _close(here[name], value)
                common.require(close, f"{name!r} was written as {value!r} and is {here[name]!r}")


def _close(got: Any, wanted: Scalar) -> bool:
    if isinstance(wanted, float):
        return isinstance(got, float | int) and abs(got - wanted) <= 1e-5 * abs(wanted)
    same: bool = got == wanted
    return same


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def writes_rows(subject: Subject) -> None:
    """A context manager with `write`; without a mark a new table, which is the only file."""
    with _folder() as folder:
        for rows in (ROWS[2:], ROWS):
            with subject.table(folder / "t") as table:
                for row in rows:
                    given = dict(row)
                    table.write(given)
                    common.require(given == row, f"`write` changed its row from {row} to {given}")
            subject.expect(folder / "t", rows)
        left = sorted(path.name for path in folder.iterdir())
        common.require(left == ["t"], f"besides the table it leaves {left}")


def an_empty_table_is_a_table(subject: Subject) -> None:
    """No rows is ordinary."""
    with _folder() as folder:
        with subject.table(folder / "t"):
            pass
        subject.expect(folder / "t", ())


def an_error_leaves_what_was_written(subject: Subject) -> None:
    """The rows before an error are there, and the error goes on its way."""
    with _folder() as folder:
        try:
            with subject.table(folder / "t") as table:
                table.write(dict(ROWS[0]))
                raise _Stop
        except _Stop:
            subject.expect(folder / "t", ROWS[:1])
        else:
            raise ContractError("the sink swallowed an error that was not its own")


def resumes_at_a_mark(subject: Subject) -> None:
    """Made with a mark, it forgets what came after and goes on as if nothing had happened."""
    with _folder() as folder:
        try:
            with subject.table(folder / "t") as table:
                table.write(dict(ROWS[0]))
                table.sync()
                mark = table.mark()
                common.require(
                    isinstance(mark, int) and mark >= 0, f"a mark is a whole number, got {mark!r}"
                )
                table.write(dict(ROWS[3]))
                raise _Stop
        except _Stop:
            pass
        with subject.table(folder / "t", mark) as table:
            for row in ROWS[1:]:
                table.write(dict(row))
        subject.expect(folder / "t", ROWS)


def what_was_synced_survives_a_crash(subject: Subject) -> None:
    """After `sync` the rows lie on the disk: where a run is killed, another goes on at the mark."""
    with _folder() as folder, _folder() as left:
        with subject.table(folder / "t") as table:
            table.write(dict(ROWS[0]))
            mark = table.mark()
            table.sync()
            shutil.copytree(folder, left, dirs_exist_ok=True)
        try:
            with subject.table(left / "t", mark) as table:
                for row in ROWS[1:]:
                    table.write(dict(row))
        except ConfigError as error:
            raise ContractError(
                f"`sync` must bring the rows to the disk; after a crash it said: {error}"
            ) from error
        subject.expect(left / "t", ROWS)


def a_complete_table_can_be_continued(subject: Subject) -> None:
    """The mark at the end of a closed table is good for more rows, or for none."""
    with _folder() as folder:
        with subject.table(folder / "t") as table:
            for row in ROWS[:2]:
                table.write(dict(row))
            mark = table.mark()
        for rows in ((), ROWS[2:]):
            with subject.table(folder / "t", mark) as table:
                for row in rows:
                    table.write(dict(row))
                mark = table.mark()
        subject.expect(folder / "t", ROWS)


def refuses_a_table_that_is_not_the_one(subject: Subject) -> None:
    """A mark that lies beyond the end of the table, or without a table, is a `ConfigError`."""
    with (
        _folder() as folder,
        common.refused("resuming where there is no table", ConfigError),
        subject.table(folder / "t", 10_000),
    ):
        pass


CHECKS: Final = (
    writes_rows,
    an_empty_table_is_a_table,
    an_error_leaves_what_was_written,
    resumes_at_a_mark,
    what_was_synced_survives_a_crash,
    a_complete_table_can_be_continued,
    refuses_a_table_that_is_not_the_one,
)
