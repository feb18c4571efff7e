"""Memory and time of what `blurgate score` does beside reading, finding and scoring.

    python benchmarks/bookkeeping.py [--files 1000000] [--parts 2]

A list of paths goes through the command's own steps: the list is sorted and divided, each part is
scored into a table with a journal, half of the last part is thrown away as by a crash and resumed,
and the parts are merged. The pictures are not there: each gets one made-up face, so that what is
measured is the bookkeeping. Prints one line per step: seconds, and the memory that it added at
most (Linux; peak resident memory of a process of its own, minus that of the same process with 1,000
files).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def made_up(
    scorer: object, detector: object, names: object, *, workers: int = 1, **others: object
) -> Iterator[object]:
    """Stand in for `score_files`: one face per path."""
    from blurgate.scoring import FileFaces
    from blurgate.stages import Rule, route_one
    from blurgate.types import Detections, FaceBatch, Frame, ScoredFaces

    image = np.zeros((112, 112, 3), np.uint8)
    for name in names:  # type: ignore[attr-defined]
        found = Detections(
            Frame(image, name, 0, None),
            np.array([[1, 2, 30, 40]], np.float32),
            np.ones(1, np.float32),
            np.zeros((1, 5, 2), np.float32),
        )
        scored = ScoredFaces(FaceBatch(found, image[None]), np.full(1, 0.25, np.float32), "none")
        yield FileFaces(name, "ok", route_one(scored, Rule(1.0)))


def paths(n: int) -> Iterator[str]:
    """Give paths in no order."""
    for i in range(n):
        yield f"photos/{i * 7919 % n:07d}/portrait-of-someone-{i:07d}.jpg"


def step(name: str, folder: Path, n: int, parts: int) -> None:
    """Do one step; what it needs lies in the folder."""
    from blurgate import scoring, zoo
    from blurgate.interfaces import Runtime
    from blurgate.merging import merge_tables
    from blurgate.scoring import run_score
    from blurgate.sharding import Shard, part_of
    from blurgate.spool import sorted_names

    scoring.score_files = made_up  # type: ignore[assignment]
    scorer = zoo.open_scorer("laplacian", Runtime("cpu"))
    tables = [folder / f"{i}.csv" for i in range(1, parts + 1)]
    if name == "merge":
        merge_tables(tables, folder / "all.csv")
        return
    names = sorted_names(paths(n))
    if name == "list":
        return
    for i, table in enumerate(tables, 1):
        part = part_of(names, Shard(i, parts))
        if name == "score":
            run_score(scorer, None, part.names, table="csv", path=table, part=part)
        elif i == parts:
            _crash(scorer, part, table)
            run_score(scorer, None, part.names, table="csv", path=table, part=part, resume=True)


def _crash(scorer: object, part: object, table: Path) -> None:
    """Score half of a part and die."""
    from blurgate.scoring import ScoreCounts, run_score

    half = len(part.names) // 2  # type: ignore[attr-defined]

    def die(counts: ScoreCounts) -> None:
        if counts.done == half:
            raise KeyboardInterrupt

    try:
        run_score(scorer, None, part.names, table="csv", path=table, part=part, on_progress=die)  # type: ignore[arg-type, attr-defined]
    except KeyboardInterrupt:
        return


def measured(name: str, folder: Path, n: int, parts: int) -> tuple[float, float]:
    """Do a step in a process of its own; give seconds and its peak resident memory in MB."""
    command = [sys.executable, "-P", __file__, "--step", name, "--folder", str(folder)]
    command += ["--files", str(n), "--parts", str(parts)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    return found["seconds"], found["peak_mb"]


def main() -> None:
    """Print a line per step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        import resource

        began = time.perf_counter()
        step(arguments.step, arguments.folder, arguments.files, arguments.parts)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": peak_mb}))
        return
    print(f"{arguments.files:,} paths in {arguments.parts} parts, {os.cpu_count()} cores")
    for name in ("list", "score", "resume", "merge"):
        with tempfile.TemporaryDirectory() as small:
            if name in ("merge", "resume"):
                measured("score", Path(small), 1000, arguments.parts)
            _, base_mb = measured(name, Path(small), 1000, arguments.parts)
        if name == "list":
            scratch = tempfile.TemporaryDirectory()
        seconds, peak_mb = measured(name, Path(scratch.name), arguments.files, arguments.parts)
        print(f"{name:8} {seconds:7.1f} s  +{max(0.0, peak_mb - base_mb):6.1f} MB of {base_mb:.0f}")
    scratch.cleanup()


if __name__ == "__main__":
    main()
