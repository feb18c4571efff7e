"""`ScorePaths`: batches of paths in, rows of `blurgate score` out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from blurgate.errors import ConfigError
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.tables import SCORE_COLUMNS

if TYPE_CHECKING:
    from blurgate.interfaces import Detector, Scalar, Scorer
    from blurgate.scoring import FileFaces

_SPARK: Final = {str: "string", int: "bigint", float: "double"}
SPARK_SCHEMA: Final = ", ".join(f"{c.name} {_SPARK[c.type]}" for c in SCORE_COLUMNS)
"""The columns of `blurgate score` as Spark writes a schema."""


@dataclass(frozen=True)
class ScorePaths:
    """Scores batches of pictures by path or fsspec address.

    The object itself is small and can be sent anywhere; the models are loaded in the process that
    first calls it, once per process. The rows are those of `blurgate score` for the same paths, in
    the order of the batch; a path that cannot be read has a row with status `unreadable`, and so
    has a null, whose `file` is empty. Paths may be bytes, as file systems have them.

    Args:
        model: A scorer's name or ONNX file; None for the default. A file must be there on every
            machine, at the same path.
        detector: A detector's name or ONNX file; None for the default.
        aligned: The pictures are face crops on the ArcFace template: nothing is detected.
        det_size: Longer side of the detector input in pixels.
        min_score: Least detector confidence of a face, 0 to 1.
        device: auto, cpu, cuda or cuda:N.
        workers: Threads.
        column: The column of a batch that holds the paths.
    """

    model: str | None = None
    detector: str | None = None
    aligned: bool = False
    det_size: int = 640
    min_score: float = 0.5
    device: str = "auto"
    workers: int = 1
    column: str = "path"

    def __call__(self, batch: Any) -> Any:
        """Score a batch.

        Args:
            batch: A pyarrow Table, a pandas DataFrame, or a mapping of columns, with the paths in
                `column`; other columns are left out.

        Returns:
            The same kind with the columns of `blurgate score`, one row per face and one for a
            picture without any; None (null) where a column has no value. A mapping holds NumPy
            arrays of objects.

        Raises:
            ConfigError: The batch has no such column.
        """
        kind = type(batch).__module__.partition(".")[0]
        if kind == "pyarrow":
            return self.table(self._paths(batch.column_names, batch))
        if kind == "pandas":
            return self._frame(self._paths(batch.columns, batch))
        if not isinstance(batch, Mapping):
            raise ConfigError(f"a batch must hold columns, and this is {type(batch).__name__}")
        import numpy as np

        rows = list(self.rows(self._paths(batch, batch)))
        columns = {}
        for column in SCORE_COLUMNS:
            columns[column.name] = array = np.empty(len(rows), object)
            array[:] = [row[column.name] for row in rows]
        return columns

    def frames(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Score pandas DataFrames one after the other: what Spark's `mapInPandas` calls."""
        for batch in batches:
            yield self(batch)

    def table(self, paths: Iterable[str]) -> Any:
        """Score paths into a pyarrow Table, typed like the Parquet files of `blurgate score`."""
        from blurgate.rowfiles import arrow_table

        return arrow_table(list(self.rows(paths)), SCORE_COLUMNS)

    def rows(self, paths: Iterable[str]) -> Iterator[dict[str, Scalar]]:
        """Give the rows of some pictures, numbers as tables hold them: six significant digits."""
        for file in self.files(paths):
            yield from self.rows_of(file)

    def rows_of(self, file: FileFaces) -> Iterator[dict[str, Scalar]]:
        """Give the rows of one picture."""
        from blurgate.stages import six_digits

        for row in file.rows(detected=not self.aligned):
            yield {k: six_digits(v) if isinstance(v, float) else v for k, v in row.items()}

    def files(self, paths: Iterable[str]) -> Iterator[FileFaces]:
        """Score pictures; what came of each, in order."""
        from blurgate.scoring import score_files

        scorer, detector = self.models()
        return score_files(scorer, detector, paths, workers=self.workers)

    def models(self) -> tuple[Scorer, Detector | None]:
        """Give the scorer and the detector, loaded once per process."""
        options = asdict(self)
        del options["workers"], options["column"]
        return _models(os.getpid(), **options)

    def settings(self) -> dict[str, str]:
        """Give everything that the rows depend on, apart from the paths; loads the models."""
        from blurgate.scoring import score_settings

        options = DetectorOptions(self.det_size, self.min_score)
        return score_settings(*self.models(), options, "parquet")

    def _paths(self, names: Iterable[str], batch: Any) -> list[str]:
        if self.column not in names:
            raise ConfigError(
                f"the batch has no column {self.column!r} but {', '.join(names) or 'none'}; name "
                "the one that holds the paths with column="
            )
        paths = batch[self.column]
        if hasattr(paths, "to_pylist"):  # Arrow's values are objects of its own
            paths = paths.to_pylist()
        return [_text(path) for path in paths]

    def _frame(self, paths: list[str]) -> Any:
        import pandas as pd

        rows = list(self.rows(paths))
        # Objects, because pandas would make 0 of None nothing else than a floating-point NaN.
        return pd.DataFrame(
            {c.name: pd.Series([row[c.name] for row in rows], dtype=object) for c in SCORE_COLUMNS}
        )


def _text(path: Any) -> str:
    """Give a path as text; none for a null, whatever a library has for one."""
    try:
        return str(os.fsdecode(path))
    except TypeError:
        return ""


@cache
def _models(
    process: int,
    model: str | None,
    detector: str | None,
    aligned: bool,
    det_size: int,
    min_score: float,
    device: str,
) -> tuple[Scorer, Detector | None]:
    """Load models; not again in the same process, and anew in one that was forked from it."""
    from blurgate import zoo

    del process
    runtime = Runtime(device)
    scorer = zoo.open_scorer(model, runtime)
    options = DetectorOptions(det_size, min_score)
    return scorer, None if aligned else zoo.open_detector(detector, runtime, options)
