"""Speed and memory of `blurgate synth`.

    python benchmarks/synth.py FACES --embedder arcface.onnx [--detector scrfd.onnx] [--quick]

FACES holds ready face crops, or photos if a detector is named. Every run is a process of its own,
so that its peak of memory is its own; pictures are written to a temporary folder. Wall time is what
counts for whole runs, CPU time for single steps, so that other work on the machine counts little
there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from blurgate import zoo
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.training import layout
from blurgate.training.faces import Face, FaceReader, Skipped, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.making import Recipe
from blurgate.training.pairs import apply_sizes
from blurgate.training.streams import Streams
from blurgate.training.synth import run_synth
from blurgate.types import CROP_SIZE


def models(arguments: argparse.Namespace) -> tuple[FaceReader, Labeller]:
    """Open the models."""
    runtime = Runtime("cpu")
    finder = None
    if arguments.detector:
        finder = zoo.open_detector(arguments.detector, runtime, DetectorOptions())
    labeller = Labeller(zoo.open_embedder(arguments.embedder, runtime))
    return FaceReader(arguments.size, finder), labeller


def faces_for(arguments: argparse.Namespace, count: int) -> list[Face]:
    """Give the first of the faces."""
    found = list_faces([arguments.faces])
    if len(found) < count:
        sys.exit(f"{arguments.faces} holds {len(found)} pictures, {count} are needed")
    return found[:count]


def run_here(arguments: argparse.Namespace) -> None:
    """Do one whole run and print its numbers as JSON."""
    reader, labeller = models(arguments)
    faces = faces_for(arguments, arguments.count)
    cv2.setNumThreads(1)
    recipe = Recipe(("random",), per_image=arguments.per_image)
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), time.process_time()
        counts = run_synth(
            faces,
            recipe,
            Path(folder) / "data",
            reader=reader,
            labeller=labeller,
            workers=arguments.workers,
        )
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
    print(json.dumps({"rows": counts.rows, "wall": wall, "cpu": cpu, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Give this process's peak of memory; nan where the system does not tell."""
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def started(arguments: argparse.Namespace, **options: int) -> subprocess.Popen[str]:
    """Start a whole run in a process of its own."""
    command = [sys.executable, __file__, arguments.faces, "--embedder", arguments.embedder]
    command += ["--detector", arguments.detector] if arguments.detector else []
    command += ["--size", str(arguments.size), "--here"]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a run and give its numbers."""
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(process.returncode)
    numbers: dict[str, float] = json.loads(out.splitlines()[-1])
    return numbers


def whole_runs(arguments: argparse.Namespace, count: int, rounds: int) -> None:
    """Compare threads and processes, each time with the same number of faces in all."""
    print(f"whole runs, {count} faces x 4 pictures, `random`, one embedding per picture and face")
    print(f"  {'how':<28}{'pictures/s':>12}{'labels/s':>10}{'CPU ms/picture':>16}{'peak MB':>9}")
    ways = {"1 worker": (1, 1), "2 workers (threads)": (2, 1), "2 processes": (1, 2)}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (workers, processes) in ways.items():
            runs = [
                started(arguments, workers=workers, per_image=4, count=count // processes)
                for _ in range(processes)
            ]
            done = [result(process) for process in runs]
            rows = sum(run["rows"] for run in done)
            taken[name].append(
                {
                    "rate": rows / max(run["wall"] for run in done),
                    "cpu": sum(run["cpu"] for run in done) / rows * 1000,
                    "peak": sum(run["peak_mb"] for run in done),
                }
            )
    for name, rounds_of in taken.items():
        rate, cpu, peak = (
            statistics.median(run[key] for run in rounds_of) for key in ("rate", "cpu", "peak")
        )
        # Four pictures and one clean twin per face are embedded.
        print(f"  {name:<28}{rate:>12.1f}{rate * 5 / 4:>10.1f}{cpu:>16.1f}{peak:>9.0f}")


def memory(arguments: argparse.Namespace, counts: list[int]) -> None:
    """Show that memory does not grow with the number of pictures."""
    print("peak memory, 2 workers")
    for count in counts:
        run = result(started(arguments, workers=2, per_image=4, count=count))
        print(f"  {run['rows']:>8.0f} pictures {run['peak_mb']:>8.0f} MB")


def steps(arguments: argparse.Namespace, rounds: int) -> None:
    """Time the steps of one picture."""
    reader, labeller = models(arguments)
    cv2.setNumThreads(1)
    faces = faces_for(arguments, 16)
    crops = [crop for face in faces if not isinstance(crop := reader(face.source), Skipped)]
    chain = Recipe(("random",)).chain("random")
    params = chain.sample(Streams(0, range(len(crops))))
    pictures = apply_sizes(chain, crops, params).degraded
    print(f"CPU ms per picture, one thread, batch {len(crops)}, crops up to {arguments.size} px")
    with tempfile.TemporaryDirectory() as folder:

        def write() -> None:
            for i, picture in enumerate(pictures):
                layout.write_picture(Path(folder) / f"{i}.png", picture)

        work: dict[str, Callable[[], object]] = {
            "read" + (", detect and align" if arguments.detector else ""): lambda: [
                reader(face.source) for face in faces
            ],
            "draw parameters": lambda: chain.sample(Streams(0, range(len(crops)))),
            f"blur, noise, compression, {CROP_SIZE} px": lambda: apply_sizes(chain, crops, params),
            "embed": lambda: labeller.embed(pictures),
            "embed, one by one": lambda: [labeller.embed(picture[None]) for picture in pictures],
            "write PNG": write,
        }
        for name, action in work.items():
            action()
            times = []
            for _ in range(rounds):
                start = time.process_time()
                action()
                times.append((time.process_time() - start) / len(crops) * 1000)
            middle = statistics.median(times)
            print(f"  {name:<44}{middle:>8.2f}  ({1000 / max(middle, 1e-6):.0f}/s)")


def main() -> None:
    """Run all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--detector")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and faces")
    parser.add_argument("--here", action="store_true", help="one run, in this process")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--per-image", type=int, default=4)
    parser.add_argument("--count", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.here:
        run_here(arguments)
        return
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, OpenCV {cv2.__version__}")
    steps(arguments, 3 if arguments.quick else 9)
    whole_runs(arguments, 60 if arguments.quick else 120, 1 if arguments.quick else 3)
    memory(arguments, [50, 200] if arguments.quick else [50, 200, 800])


if __name__ == "__main__":
    main()
