"""`blurgate score --engine ray`: a pool of actors on Ray Data, each with its models loaded once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, Final

from blurgate.engines.parts import PartFolder, manifest_of, stretches
from blurgate.engines.paths import ScorePaths
from blurgate.errors import ConfigError, EnvironmentLackError
from blurgate.io.remote import is_remote
from blurgate.io.text import reason
from blurgate.scoring import STATUSES, ScoreCounts
from blurgate.spool import Names

FILES_PER_PART: Final = 256
"""What is done again when a worker dies, and the rows that an actor holds."""


class ScorePart:
    """Scores stretches of the list into part files; what an actor runs.

    Args:
        place: The folder of parts.
        settings: What `ScorePaths.settings` gave on the machine that started the run.
        options: Arguments of `ScorePaths`.
    """

    def __init__(self, place: str, settings: dict[str, str], options: dict[str, Any]) -> None:
        self._folder = PartFolder(place)
        self._settings = settings
        self._score = ScorePaths(**options)
        mine = self._score.settings()
        if mine != settings:
            raise ConfigError(
                "this machine has another version, model or detector than the one that started "
                f"the run: {mine} and {settings}"
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score stretches: {part, paths} in, one row of counts per stretch out."""
        import numpy as np

        rows = [
            self._part(int(index), [_decoded(path) for path in paths])
            for index, paths in zip(batch["part"], batch["paths"], strict=True)
        ]
        done: dict[str, Any] = {
            key: np.array([row[key] for row in rows], np.int64)
            for key in ("part", *STATUSES, "faces")
        }
        done["failures"] = np.array([row["failures"] for row in rows])
        return done

    def _part(self, index: int, names: list[str]) -> dict[str, Any]:
        from blurgate.rowfiles import arrow_table
        from blurgate.tables import SCORE_COLUMNS

        rows: list[dict[str, Any]] = []
        counts: dict[str, Any] = {"part": index, "faces": 0, **dict.fromkeys(STATUSES, 0)}
        failures = []
        for file in self._score.files(names):
            rows += self._score.rows_of(file)
            counts[file.status] += 1
            counts["faces"] += len(file)
            if file.error:
                failures.append(file.error.encode("utf-8", "backslashreplace").decode())
        table = arrow_table(rows, SCORE_COLUMNS)
        self._folder.write_part(index, names, table, self._settings)
        return {**counts, "failures": "\n".join(failures)}


def run_ray(
    score: ScorePaths,
    names: Names,
    place: str,
    *,
    address: str | None = None,
    actors: int | None = None,
    resume: bool = False,
    on_progress: Callable[[ScoreCounts], None] = lambda counts: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> ScoreCounts:
    """Score pictures with Ray into a folder of Parquet parts.

    A worker that dies loses nothing: Ray starts it anew and hands it its stretch again, whose part
    is then written, or written again with the same rows. Ray Data holds the flow back: an actor has
    a few stretches waiting, and nothing but counts comes back.

    Args:
        score: What to do with a path.
        names: Paths that every worker can read (a shared file system, or fsspec addresses), sorted.
        place: The folder of parts, which every worker can write.
        address: Of a running cluster, such as auto or ray://head:10001; None starts one here.
        actors: How many at most; None: what the cluster's processors (or GPUs) give room for.
        resume: Keep the parts that are complete.
        on_progress: Called after every part.
        on_failure: Called with ("", one line) for every picture that cannot be read.

    Returns:
        The counts of this run; those of parts that were complete are not among them.

    Raises:
        EnvironmentLackError: Ray or pyarrow is missing.
        ConfigError: The folder cannot be used.
    """
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise EnvironmentLackError('--engine ray needs Ray; run: pip install "blurgate[ray]"')
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    settings = score.settings()
    folder = PartFolder(place)
    folder.begin(manifest_of(names, FILES_PER_PART, settings), resume=resume)
    counts = ScoreCounts(total=len(names))
    todo = _todo(folder, names, settings, resume=resume)
    first = next(todo, None)
    if first is None:
        return counts
    ours = not ray.is_initialized()
    if ours:
        local = {} if address else {"include_dashboard": False}
        try:
            ray.init(address=address, log_to_driver=False, **local)
        except Exception as error:
            raise EnvironmentLackError(
                f"Ray cannot be reached or started: {reason(error)}; see `ray status`, or score "
                "with --engine local"
            ) from error
    try:
        work = _dataset(ray, score, folder, settings, chain((first,), todo), actors)
        for row in work.iter_rows():
            for status in STATUSES:
                setattr(counts, status, getattr(counts, status) + int(row[status]))
            counts.faces += int(row["faces"])
            for line in filter(None, str(row["failures"]).split("\n")):
                on_failure("", line)
            on_progress(counts)
    finally:
        if ours:
            ray.shutdown()
    return counts


def _todo(
    folder: PartFolder, names: Names, settings: dict[str, str], *, resume: bool
) -> Iterator[tuple[int, list[str]]]:
    for index, stretch in enumerate(stretches(names, FILES_PER_PART)):
        if not (resume and folder.is_done(index, stretch, settings)):
            yield index, stretch


def _dataset(
    ray: Any,
    score: ScorePaths,
    folder: PartFolder,
    settings: dict[str, str],
    todo: Iterator[tuple[int, list[str]]],
    actors: int | None,
) -> Any:
    """Put the list into the cluster's object store, and plan the work on it."""
    import pyarrow as pa
    import ray.data as ray_data

    ray_data.DataContext.get_current().enable_progress_bars = False
    schema = pa.schema([("part", pa.int64()), ("paths", pa.list_(pa.binary()))])
    blocks = [
        ray.put(pa.Table.from_pylist([{"part": index, "paths": _encoded(names)}], schema=schema))
        for index, names in todo
    ]
    on_gpu = score.device.startswith("cuda")
    cluster = ray.cluster_resources()
    room = cluster.get("GPU", 0) if on_gpu else cluster.get("CPU", 1) // score.workers
    most = max(1, min(actors or int(room), len(blocks)))
    needs = {"num_gpus": 1} if on_gpu else {"num_cpus": score.workers}
    place = folder.place if is_remote(folder.place) else str(Path(folder.place).absolute())
    return ray_data.from_arrow_refs(blocks).map_batches(
        ScorePart,
        batch_size=1,
        batch_format="numpy",
        compute=ray_data.ActorPoolStrategy(min_size=1, max_size=most),
        fn_constructor_args=(place, settings, asdict(score)),
        **needs,
    )


def _encoded(names: list[str]) -> list[bytes]:
    return [name.encode("utf-8", "surrogateescape") for name in names]


def _decoded(path: Any) -> str:
    return bytes(path).decode("utf-8", "surrogateescape")
