"""Show that `blurgate filter` uses the same memory after an hour of video as after a minute.

    python benchmarks/memory.py --detector DETECTOR.onnx [--minutes 60]

Makes a clip of one moving face (scikit-image's `astronaut`) at 25 frames a second, filters it in a
process of its own, and prints that process's resident memory while it works. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from skimage import data

RATE = 25


def make_clip(path: Path, minutes: float) -> int:
    """Write the clip and give its number of frames."""
    picture = data.astronaut()[:256, 96:416]
    n_frames = int(minutes * 60 * RATE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        moved = []
        for y in range(0, 76, 4):
            view = np.ascontiguousarray(picture[y : y + 180])
            moved.append(av.VideoFrame.from_ndarray(view, format="rgb24"))
        for index in range(n_frames):
            frame = moved[abs(index % 36 - 18)]
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return n_frames


def resident_mb(pid: int) -> float:
    """Give a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Print the memory at twenty moments of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clip, out = Path(scratch) / "clip.mp4", Path(scratch) / "out"
        n_frames = make_clip(clip, arguments.minutes)
        command = [sys.executable, "-P", "-m", "blurgate", "filter", str(clip), "--out", str(out)]
        command += ["--detector", arguments.detector, "--model", "laplacian", "--quiet"]
        command += ["--threshold", "0.4", "--det-size", "96", "--crops", "none"]
        running = subprocess.Popen(command)
        began = time.monotonic()
        samples = []
        while running.poll() is None:
            samples.append((time.monotonic() - began, resident_mb(running.pid)))
            time.sleep(0.2)
        rows = sum(1 for _ in (out / "faces.csv").open()) - 1
    samples = samples[:-1]
    for i in np.linspace(len(samples) // 20, len(samples) - 1, 20).astype(int):
        print(f"{samples[i][0]:8.1f} s {samples[i][1]:8.1f} MB")
    print(f"{n_frames} frames, {rows} faces, exit code {running.returncode}")


if __name__ == "__main__":
    main()
