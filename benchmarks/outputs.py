"""Time what it saves to leave out the outputs of a blur model that nobody asked for.

    python benchmarks/outputs.py [MODEL...] [--rounds 300]

onnxruntime works out every node of a graph. A model that tells kinds of blur is opened once whole
and once with `degree` alone, as `blurgate filter` opens it without `--blur-kind`. Sessions take
turns, one face and one thread each; printed are medians of the wall clock and their ratio.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

from blurgate import zoo
from blurgate.interfaces import Runtime
from blurgate.runtime import make_session, run
from blurgate.timing import in_turns


def main() -> None:
    """Time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["yolov5n_xx", "yolov5n_xx_relu.int8", "mobilenetv2_0.5"]
    parser.add_argument("models", nargs="*", metavar="MODEL", default=names)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    sessions: dict[tuple[str, str], Any] = {}
    for name in arguments.models:
        file = zoo.resolve("scorer", name)
        if file is None:
            parser.error(f"{name} is no network")
        for how, outputs in (("whole", None), ("degree", ["degree"])):
            sessions[name, how] = make_session(file.path, Runtime("cpu"), outputs)
    images = np.random.default_rng(0).standard_normal((1, 3, 112, 112), np.float32)
    calls = {
        key: partial(run, session, {"images": images}, key[0], ["degree"])
        for key, session in sessions.items()
    }
    taken = in_turns(calls, arguments.rounds)
    print(f"{'model':24}{'whole, ms':>12}{'degree, ms':>12}{'ratio':>8}")
    for name in arguments.models:
        whole, degree = (taken[name, how].median for how in ("whole", "degree"))
        print(f"{name:24}{whole:12.3f}{degree:12.3f}{whole / degree:8.2f}")


if __name__ == "__main__":
    main()
