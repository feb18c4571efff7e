"""Filter a long generated video and watch memory, threads and open files.

    python scripts/check_load.py --minutes 60 [--rate 25]

One short 720p clip of moving boxes is encoded and repeated by copying its packets, so that making
an hour of it takes seconds. The run must not grow: the highest memory, threads and open files of
the last quarter are compared with those of the second. The result must repeat with the clip.
Needs /proc (Linux).
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PERIOD = 50
SIZE = (720, 1280)
GROWTH_MB = 40
GROWTH_THREADS = 2  # what the end of a run may have, and no hour adds
RUN = """
import os, sys
os.environ["BLURGATE_DISABLED_PLUGINS"] = "*"
sys.path.insert(0, sys.argv.pop(1))
import marker_plugin
from blurgate import cli
from blurgate.host import get_host
get_host().add(marker_plugin, "marker-plugin")
sys.argv[0] = "blurgate"
cli.main()
"""


def draw(index: int) -> np.ndarray:
    """A frame with a green square around noise that moves."""
    image = np.full((*SIZE, 3), 60, np.uint8)
    x, y, side = 100 + 8 * index, 200, 160
    image[y : y + side, x : x + side] = (0, 255, 0)
    noise = np.random.default_rng(index).integers(0, 120, (side - 12, side - 12, 3), np.uint8)
    image[y + 6 : y + side - 6, x + 6 : x + side - 6] = noise
    return image


def make(path: Path, frames: int, rate: int) -> None:
    """Write a video of so many frames, the packets of one clip again and again."""
    clip = path.with_name("clip.mkv")
    with av.open(str(clip), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"bf": "0", "g": "50"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(PERIOD):
            frame = av.VideoFrame.from_ndarray(draw(index), format="bgr24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        target = out.add_stream_from_template(source.streams.video[0])
        for number in range(frames):
            packet = av.Packet(packets[number % PERIOD])
            packet.stream, packet.time_base = target, Fraction(1, rate)
            packet.pts = packet.dts = number
            packet.duration = 1
            packet.is_keyframe = number % PERIOD == 0
            out.mux(packet)


def sample(process: int) -> tuple[float, int, int]:
    """Memory in MB, threads and open files of a process."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in status)
    memory = int(values["VmRSS"].split()[0]) / 1024
    return memory, int(values["Threads"]), len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208


def main() -> int:
    """Run, watch, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=25, help="frames a second")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    frames = round(options.minutes * 60 * options.rate / PERIOD) * PERIOD
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        make(place / "long.mkv", frames, options.rate)
        started = time.monotonic()
        run = subprocess.Popen(
            [
                sys.executable, "-P", "-c", RUN, str(ROOT / "tests/data"),
                "filter", "long.mkv", "--detector", "marker", "--model", "laplacian",
                "--threshold", "0.4", "--crops", "none", "--quiet", "--out", "out",
                "--workers", str(options.workers), "--detect-every", "1",
            ],
            cwd=place,
        )  # fmt: skip
        samples = []
        while run.poll() is None:
            try:
                samples.append(sample(run.pid))
            except (OSError, KeyError):
                break  # it has just ended
            time.sleep(0.5)
        code = run.wait()
        took_s = time.monotonic() - started
        with (place / "out/faces.csv").open(newline="") as file:
            rows = [(r["frame"], r["x1"], r["blur_degree"]) for r in csv.DictReader(file)]
    quarter = max(1, len(samples) // 4)
    second = [max(values) for values in zip(*samples[quarter : 2 * quarter], strict=True)]
    last = [max(values) for values in zip(*samples[-quarter:], strict=True)]
    print(
        f"{frames} frames of 720p ({options.minutes:g} minutes, {options.rate} a second) "
        f"in {took_s:.0f} s, exit {code}"
    )
    names = ("memory in MB", "threads", "open files")
    for name, before, after in zip(names, second, last, strict=True):
        print(f"{name}: {before:.0f} in the second quarter, {after:.0f} in the last")
    one = [row[1:] for row in rows[PERIOD : 2 * PERIOD]]
    end = [row[1:] for row in rows[-PERIOD:]]
    same = len(rows) == frames and one == end
    print(f"{len(rows)} rows, the last clip {'equals' if same else 'DIFFERS FROM'} the second")
    grown = (
        last[0] > second[0] + GROWTH_MB
        or last[1] > second[1] + GROWTH_THREADS
        or last[2] > second[2]
    )
    return int(bool(code) or grown or not same)


if __name__ == "__main__":
    sys.exit(main())
