"""Cost per million faces on this machine, and what to expect from more machines.

    python benchmarks/scale.py [--pictures 400] [--model NAME] [--detector NAME]

Makes photos of one face (scikit-image's `astronaut`, 512 px, moved and re-encoded, so that no two
are the same), scores them with 1 and with 2 workers, and fits the model

    time = start + list + n / rate + merge

start: until the first picture, models included; list: finding and sorting the names, which every
machine does for all of them; merge: joining the tables. Start is measured by a run over one
picture. The model's rate comes from half of the pictures; it is then checked against all of them,
and two workers against twice that rate. Parts are drawn by a checksum, so that the largest of m
parts of n files is taken as n/m + 3 sqrt(n/m). Prints the figures of docs/scale.md.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from skimage import data

MACHINES = (1, 10, 1000)


def make_pictures(folder: Path, n: int) -> None:
    """Write photos of one face, each moved and noised by its number."""
    image = np.ascontiguousarray(data.astronaut()[..., ::-1])
    for i in range(n):
        drawn = np.random.default_rng(i)
        shift = np.array([[1, 0, drawn.integers(-40, 40)], [0, 1, drawn.integers(-10, 40)]], float)
        moved = cv2.warpAffine(image, shift, (512, 512), borderMode=cv2.BORDER_REFLECT)
        noisy = np.clip(moved + drawn.normal(0, 3, moved.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])


def timed_score(source: Path, out: Path, workers: int, more: list[str]) -> float:
    """Score into a table in a process of its own; give its wall time."""
    command = [sys.executable, "-P", "-m", "blurgate", "score", str(source), "--csv", str(out)]
    began = time.perf_counter()
    subprocess.run([*command, "--workers", str(workers), "--quiet", *more], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure, fit, check and predict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=3, help="The best of so many runs counts.")
    parser.add_argument("--list-s", type=float, default=0.0, help="Of bookkeeping.py, per million.")
    parser.add_argument("--merge-s", type=float, default=0.0, help="Likewise.")
    parser.add_argument("--model")
    parser.add_argument("--detector")
    arguments = parser.parse_args()
    more = ["--model", arguments.model] if arguments.model else []
    more += ["--detector", arguments.detector] if arguments.detector else []
    n = arguments.pictures
    with tempfile.TemporaryDirectory() as scratch:
        everything, half = Path(scratch) / "all", Path(scratch) / "half"
        everything.mkdir()
        half.mkdir()
        make_pictures(everything, n)
        make_pictures(half, n // 2)
        out = Path(scratch) / "o.csv"

        def best(source: Path, workers: int) -> float:
            runs = (timed_score(source, out, workers, more) for _ in range(arguments.repeat))
            return min(runs)

        start_s = best(half / "000000.jpg", 1)
        rate = (n // 2 - 1) / (best(half, 1) - start_s)
        one_s, two_s = best(everything, 1), best(everything, 2)
    print(f"start {start_s:.2f} s, one worker {rate:.1f} pictures/s")
    for workers, measured in ((1, one_s), (2, two_s)):
        expected = start_s + n / (rate * workers)
        off = measured / expected - 1
        print(f"{workers} worker(s), {n} pictures: {measured:.1f} s, the model says "
              f"{expected:.1f} s ({off:+.0%})")  # fmt: skip
    both = n / (two_s - start_s)
    print(f"a million on this machine with 2 workers: {1e6 / both / 3600:.1f} h, "
          f"{2e6 / both / 3600:.1f} core hours")  # fmt: skip
    for machines in MACHINES:
        share = 1e6 / machines
        largest = share + (3 * math.sqrt(share) if machines > 1 else 0)
        total_s = start_s + arguments.list_s + largest / both + arguments.merge_s
        print(f"{machines:5} machines: {total_s / 60:8.1f} min per million")


if __name__ == "__main__":
    main()
