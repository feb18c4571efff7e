"""Time how long blurgate takes to start: its help, and the first result of a picture.

    python benchmarks/startup.py [--detector DETECTOR] [--rounds 9]

Each is a process of its own, from its start to its end, so that the first result counts the start
of Python, all imports, opening both models, reading, detecting, scoring and writing. The rounds go
through all of them in turn; printed are the median and the spread of the wall clock, and the median
of the processor time. The picture is scikit-image's `astronaut`, the detector the default one.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
from skimage import data

IN_PYTHON = """
import sys, av, blurgate
detector = sys.argv[2] if len(sys.argv) > 2 else None
gate = blurgate.Gate(0.4, detector=detector)
with av.open(sys.argv[1]) as container:
    image = next(container.decode(video=0)).to_ndarray(format="bgr24")
assert len(gate(image)) == 1
"""


def commands(folder: Path, detector: list[str]) -> dict[str, list[str]]:
    """Give each row's command, and make the files that they read."""
    picture, clip = folder / "a.png", folder / "a.mp4"
    image = av.VideoFrame.from_ndarray(data.astronaut(), format="rgb24")
    for path, codec, pixels in ((picture, "png", "rgb24"), (clip, "libx264", "yuv420p")):
        form = "image2" if path is picture else None
        with av.open(str(path), "w", format=form, options={"update": "1"} if form else {}) as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 512, 512, pixels
            out.mux(stream.encode(image.reformat(format=pixels)))
            out.mux(stream.encode(None))
    run = [sys.executable, "-P", "-m", "blurgate"]
    named = ["--detector", *detector] if detector else []
    given = ["--out", str(folder / "out"), "--overwrite", "--quiet", *named]
    return {
        "blurgate --help": [*run, "--help"],
        "blurgate filter --help": [*run, "filter", "--help"],
        "blurgate filter, a picture": [*run, "filter", str(picture), *given],
        "blurgate filter, a video": [*run, "filter", str(clip), *given],
        "Gate in Python": [sys.executable, "-P", "-c", IN_PYTHON, str(clip), *detector],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    walls: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        todo = commands(Path(scratch), [arguments.detector] if arguments.detector else [])
        for _ in range(arguments.rounds + 1):  # the first fills the disk's cache
            for name, command in todo.items():
                began, used = time.perf_counter(), os.times()
                done = subprocess.run(command, capture_output=True, text=True)
                wall, now = time.perf_counter() - began, os.times()
                if done.returncode:
                    raise SystemExit(f"{name} failed:\n{done.stderr}")
                cpu = now.children_user - used.children_user
                cpu += now.children_system - used.children_system
                walls.setdefault(name, []).append(wall)
                cpus.setdefault(name, []).append(cpu)
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{'':<28}{'seconds':>9}{'spread':>14}{'processor':>11}")
    for name, all_taken in walls.items():
        taken = all_taken[1:]
        spread = f"{min(taken):.2f}..{max(taken):.2f}"
        median, cpu = statistics.median(taken), statistics.median(cpus[name][1:])
        print(f"{name:<28}{median:>9.2f}{spread:>14}{cpu:>11.2f}")


if __name__ == "__main__":
    main()
