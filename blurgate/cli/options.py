"""Options that several commands share, in one place so that they mean the same everywhere."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from blurgate.training import config

Detector = Annotated[
    str | None,
    typer.Option("--detector", metavar="NAME|PATH", help="Face detector: a model's name or .onnx."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="Blur model: a scorer's name or .onnx."),
]
Embedder = Annotated[
    str | None,
    typer.Option("--embedder", metavar="NAME|PATH", help="Recogniser: a model's name or .onnx."),
]
DetSize = Annotated[
    int, typer.Option("--det-size", min=32, metavar="PX", help="Longer side of the detector input.")
]
MinScore = Annotated[
    float,
    typer.Option("--min-score", min=0, max=1, help="Minimum detector confidence of a face."),
]
Align = Annotated[
    bool,
    typer.Option(
        "--align/--aligned",
        help="Detect and align the face in the middle of each photo, or take ready crops.",
    ),
]
Identity = Annotated[
    config.Identity,
    typer.Option("--identity", help="How to tell who a picture shows: see docs/training-data.md."),
]
BlurKind = Annotated[
    bool,
    typer.Option("--blur-kind", help="Add columns: motion, defocus, lowres or sharp; angle."),
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Take part I of N of the files only, 1 <= I <= N."),
]
DetectEvery = Annotated[
    int,
    typer.Option(
        "--detect-every",
        min=1,
        max=60,
        metavar="N",
        help="Search at least every N-th frame of a video, follow faces in between; 1: all.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Threads; the results do not depend on it [default: cores].",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted run in the same folder.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def usable_cores() -> int:
    """Give how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def one_thread_each() -> None:
    """Let the workers be all the threads there are: libraries that start their own slow them."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read when NumPy is imported
    import cv2

    cv2.setNumThreads(1)
