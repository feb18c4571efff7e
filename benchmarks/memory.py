"""Show that `blurgate filter` uses the same memory after an hour of video as after a minute.

    python benchmarks/memory.py --detector DETECTOR.onnx [--minutes 60] [--height 180] [--paced]

Makes a clip of one moving face (scikit-image's `astronaut`) at 25 frames a second, filters it in a
process of its own, and prints that process's resident memory while it works: at twenty moments, and
what it is after the first and after the tenth minute of the video. With --paced the video comes
through a pipe at its own pace, as from a camera. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np
from skimage import data

RATE = 25


def make_clip(path: Path, minutes: float, height: int) -> int:
    """Write the clip and give its number of frames."""
    picture = data.astronaut()[:256, 96:416]
    width = height * 16 // 9 // 2 * 2
    n_frames = int(minutes * 60 * RATE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        moved = []
        for y in range(0, 76, 4):
            view = np.ascontiguousarray(picture[y : y + 180])
            whole = av.VideoFrame.from_ndarray(view, format="rgb24")
            moved.append(whole.reformat(width, height, "yuv420p"))
        for index in range(n_frames):
            frame = moved[abs(index % 36 - 18)]
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return n_frames


def feed(pipe: Path, clip: bytes, minutes: float) -> None:
    """Write a clip of one minute into a pipe again and again, 25 frames a second."""
    began, part = time.monotonic(), -(-len(clip) // (60 * RATE))
    with pipe.open("wb") as file:
        for index in range(int(minutes * 60 * RATE)):
            start = index * part % (part * 60 * RATE)
            file.write(clip[start : start + part])
            time.sleep(max(0.0, began + (index + 1) / RATE - time.monotonic()))


def resident_mb(pid: int) -> float:
    """Give a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def rows_of(out: Path) -> int:
    """Count the faces that are in the table by now; there is one in a frame."""
    table = out / "faces.csv"
    if not table.is_file():
        return 0
    with table.open("rb") as file:
        file.seek(max(0, table.stat().st_size - 1000))
        fields = file.read().split(b"\n")[-2:-1]
    number = fields[0].split(b",")[1:2] if fields else []
    return int(number[0]) + 1 if number and number[0].isdigit() else 0


def main() -> None:
    """Print the memory at twenty moments of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--height", type=int, default=180, help="of the clip, in pixels")
    parser.add_argument("--det-size", default="96")
    parser.add_argument("--paced", action="store_true", help="25 frames a second, through a pipe")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # A bare H.264 stream can be joined to itself.
        clip = Path(scratch) / ("clip.h264" if arguments.paced else "clip.mp4")
        out = Path(scratch) / "out"
        length = 1 if arguments.paced else arguments.minutes
        n_frames = make_clip(clip, length, arguments.height)
        if arguments.paced:
            data_of_clip = clip.read_bytes()
            clip = Path(scratch) / "pipe.h264"
            os.mkfifo(clip)
            given = (clip, data_of_clip, arguments.minutes)
            threading.Thread(target=feed, args=given, daemon=True).start()
            n_frames = int(arguments.minutes * n_frames)
        command = [sys.executable, "-P", "-m", "blurgate", "filter", str(clip), "--out", str(out)]
        command += ["--detector", arguments.detector, "--model", "laplacian", "--quiet"]
        command += ["--threshold", "0.4", "--det-size", arguments.det_size, "--crops", "none"]
        running = subprocess.Popen(command)
        began = time.monotonic()
        samples = []
        while running.poll() is None:
            samples.append((time.monotonic() - began, resident_mb(running.pid), rows_of(out)))
            time.sleep(0.2)
        rows = sum(1 for _ in (out / "faces.csv").open()) - 1
    samples = samples[:-1]
    for i in np.linspace(len(samples) // 20, len(samples) - 1, 20).astype(int):
        print(f"{samples[i][0]:8.1f} s {samples[i][1]:8.1f} MB")
    after = {
        minute: next((mb for _, mb, frames in samples if frames >= minute * 60 * RATE), None)
        for minute in (1, 10)
    }
    if None not in after.values():
        change = 100 * (after[10] / after[1] - 1)
        print(f"minute 1: {after[1]:.1f} MB, minute 10: {after[10]:.1f} MB, {change:+.1f} %")
    print(f"{n_frames} frames, {rows} faces, exit code {running.returncode}")


if __name__ == "__main__":
    main()
