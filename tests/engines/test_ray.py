"""On a Ray cluster of this machine: the same rows, also when a worker is killed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(os.name == "nt", reason="POSIX signals"),
]

N = 40
KILLER = '''
"""The marker detector, and a worker's sudden death: once, at the picture "013"."""

import os
import signal
from pathlib import Path

import marker_plugin
from blurgate.hookspecs import hookimpl


class Killer(marker_plugin.MarkerDetector):
    def __call__(self, frames):
        flag = Path(os.environ["KILLED"])
        if any("013" in frame.source for frame in frames) and not flag.exists():
            flag.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(frames)


@hookimpl
def register_detectors(register):
    register("marker", lambda model, runtime, options: Killer())
'''


@pytest.fixture
def pictures(marker, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(N):
        image = np.full((160, 320, 3), 60, np.uint8)
        for face in range(i % 3):
            marker.draw(image, 10 + 150 * face, 20, 120, sharp=i % 2 == 0, seed=i)
        assert cv2.imwrite(str(tmp_path / f"in/{i:03d}.png"), image)
    (tmp_path / "in/004.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return tmp_path


def blurgate(tmp_path, environment, *arguments):
    environment = {"RAY_raylet_start_wait_time_s": "120", **environment}
    code = "import blurgate.engines.ray as r, blurgate.cli as c; r.FILES_PER_PART = 8; c.main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip


def options(tmp_path, *more):
    return ["in", "--detector", "marker", "--model", "laplacian", "--quiet", *more]


def on_ray(tmp_path, environment, *more):
    return blurgate(
        tmp_path, environment, "score",
        *options(tmp_path, "--engine", "ray", "--actors", "2", "--parquet", "parts", *more),
    )  # fmt: skip


def merged(tmp_path, environment, name):
    ran = blurgate(tmp_path, environment, "merge", "parts", "--out", name)
    assert ran.returncode == 0, ran.stderr
    return (tmp_path / name).read_bytes()


def test_a_killed_worker_loses_nothing(pictures, installed, tmp_path):
    environment = installed("marker_plugin")
    ran = blurgate(tmp_path, environment, "score", *options(tmp_path, "--csv", "local.csv"))
    assert ran.returncode == 4, ran.stderr
    local = (tmp_path / "local.csv").read_bytes()
    site = Path(environment["PYTHONPATH"])
    (site / "killer_plugin.py").write_text(KILLER)
    info = site / "marker_plugin-1.0.dist-info/entry_points.txt"
    info.write_text("[blurgate]\nmarker-plugin = killer_plugin\n")
    killing = {**environment, "KILLED": str(tmp_path / "killed")}
    ran = on_ray(tmp_path, killing)
    assert ran.returncode == 4, ran.stderr
    assert (tmp_path / "killed").exists(), "nobody was killed"
    assert "004.png" in ran.stderr
    assert merged(tmp_path, environment, "ray.csv") == local
    # A second run does nothing; one whose parts have gone does those.
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "parts").glob("*.parquet")}
    assert len(times) == 5
    (tmp_path / "parts/part-00000002.parquet").unlink()
    ran = on_ray(tmp_path, killing, "--resume")
    assert ran.returncode == 0, ran.stderr
    again = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "parts").glob("*.parquet")}
    assert {name for name in times if times[name] != again[name]} == {"part-00000002.parquet"}
    assert merged(tmp_path, environment, "again.csv") == local


def test_the_class_in_a_job_of_ones_own(pictures, installed, tmp_path):
    environment = installed("marker_plugin")
    ran = blurgate(tmp_path, environment, "score", *options(tmp_path, "--csv", "local.csv"))
    assert ran.returncode == 4, ran.stderr
    example = Path(__file__).parents[2] / "examples/ray_score.py"
    ran = subprocess.run(
        [sys.executable, "-P", str(example), "in", "own", "--detector", "marker", "--model",
         "laplacian", "--actors", "2"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    code = (
        "import pyarrow.parquet as pq; from pathlib import Path\n"
        "from blurgate.tables import *\n"
        "rows = [r for p in Path('own').glob('*.parquet') for r in pq.read_table(p).to_pylist()]\n"
        "rows.sort(key=lambda row: (row['file'], row['face'] or 0))\n"
        "with open_table('csv', Path('own.csv'), SCORE_COLUMNS, None) as table:\n"
        "    for row in rows: table.write(row)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "own.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()
