"""Kernels and images per second of the synthesizers, on one core.

    python benchmarks/kernels.py [--quick]

Everything runs on one thread and is measured in CPU seconds of this process, so that other work on
the machine counts as little as possible; each number is the median of several rounds, after one
round to warm up, with the lowest and the highest beside it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from blurgate.host import get_host
from blurgate.training.blur import Iterated, KernelBlur
from blurgate.training.degrade import Chain
from blurgate.training.streams import Streams

sys.path.insert(0, str(Path(__file__).parent))
import plain_deblurgan

SIDE = 224


def rate(work: Callable[[], object], items: int, rounds: int) -> tuple[float, float, float]:
    """Give items per CPU second: median, lowest, highest."""
    work()
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        rates.append(items / (time.process_time() - start))
    return statistics.median(rates), min(rates), max(rates)


def line(name: str, result: tuple[float, float, float], note: str = "") -> None:
    """Print one row of a table."""
    print(f"  {name:<44}{result[0]:>10.1f}   ({result[1]:.1f} .. {result[2]:.1f}) {note}")


def cpu_name() -> str:
    """Name the processor as well as the system lets us."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for row in info.read_text().splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return platform.processor() or "unknown"


def kernel_table(rounds: int) -> None:
    """Compare the batched kernels with the plain loop, in one run."""
    print("kernels per second")
    np.random.seed(0)  # noqa: NPY002 - the plain loop draws from it
    few = 3 * rounds
    plain = rate(lambda: [plain_deblurgan.random_kernel() for _ in range(few)], few, rounds)
    line("plain loop, four exposures as the original", plain)

    def lean() -> None:
        path = plain_deblurgan.place(plain_deblurgan.walk(plain_deblurgan.random_settings()))
        plain_deblurgan.gather(path, fractions=(1.0,))

    single = rate(lambda: [lean() for _ in range(few)], few, rounds)
    line("plain loop, the one exposure that is used", single)
    for name in ("deblurgan", "linear", "defocus", "gaussian"):
        synthesizer = get_host().registry("synthesizer")[name].factory()
        assert isinstance(synthesizer, KernelBlur)
        for n in (1, 64, 512):
            params = synthesizer.sample(Streams(0, range(n)))

            def make(synthesizer: KernelBlur = synthesizer, params: Any = params) -> None:
                synthesizer.kernels(params)

            result = rate(make, n, rounds)
            note = ""
            if name == "deblurgan":
                note = f"{result[0] / plain[0]:.0f}x, {result[0] / single[0]:.0f}x the lean loop"
            line(f"{name}, batch {n}", result, note)


def image_table(rounds: int, n: int) -> None:
    """Time every synthesizer and the whole chain."""
    crops = (np.random.default_rng(0).random((n, SIDE, SIDE, 3)) * 255).astype(np.uint8)
    crops = np.stack([cv2.GaussianBlur(crop, (0, 0), 2) for crop in crops])
    light = crops.astype(np.float32) / 255
    tensor = torch.from_numpy(light.transpose(0, 3, 1, 2).copy())
    coded = torch.from_numpy(crops.transpose(0, 3, 1, 2).copy())
    level = ((np.arange(n) + 0.5) / n).astype(np.float32)
    streams = Streams(0, range(n))
    print(f"images per second: blur of {SIDE} x {SIDE}, batch {n}, severities 0 to 1")
    entries = [entry.factory() for entry in get_host().registry("synthesizer")]
    for synthesizer in [*entries, Iterated(entries[-1], 2)]:
        params = synthesizer.sample(streams, level)
        name = synthesizer.name + (" x 2" if isinstance(synthesizer, Iterated) else "")
        for kind, images in (("NumPy", light), ("torch", tensor)):

            def blur(s: Any = synthesizer, images: Any = images, params: Any = params) -> None:
                s.apply(images, params, px=SIDE / 112)

            line(f"{name}, {kind}", rate(blur, n, rounds))
    print(f"images per second: the whole chain, {SIDE} -> 112, with clean twin, `random`")
    chain = Chain(entries[-1])
    params = chain.sample(streams, level)
    line("NumPy", rate(lambda: chain.apply(crops, params), n, rounds))
    line("torch", rate(lambda: chain.apply(coded, params), n, rounds))


def main() -> None:
    """Run both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and images")
    quick = parser.parse_args().quick
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(f"{cpu_name()}; {platform.system()} {platform.machine()}; one thread of {os.cpu_count()}")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, OpenCV {cv2.__version__},")
    load = f"; load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"torch {torch.__version__}{load}")
    kernel_table(2 if quick else 5)
    image_table(1 if quick else 5, 32 if quick else 96)


if __name__ == "__main__":
    main()
