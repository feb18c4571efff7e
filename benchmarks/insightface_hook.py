"""What the insightface hook costs and saves: python benchmarks/insightface_hook.py --weights DIR.

DIR holds an SCRFD and an ArcFace as .onnx files, which are loaded as an insightface pack. The
picture is insightface's own photo of six people, of whom some are blurred here. Everything runs on
one thread and the variants in turn; printed is the median processor time of `app.get`, which what
else the machine does hardly touches.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blurgate.hooks.insightface import attach, detach

VARIANTS = ("plain", "keep", "mark", "drop")


def main() -> None:
    """Measure with none, half and all of the faces blurred."""
    cv2.setNumThreads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--detector", default="scrfd_500m_bnkps.onnx")
    parser.add_argument("--recogniser", default="arcface.onnx")
    parser.add_argument("--model", default="laplacian", help="blur scorer: name or .onnx")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app, photo = load(Path(root), arguments)
        print(f"{'blurred':>8} {'variant':>8} {'ms':>7} {'faces':>6} {'embedded':>9} {'saved':>7}")
        boxes = [face.bbox for face in app.get(photo)]
        for share in (0.0, 0.5, 1.0):
            picture = blurred(photo, boxes[: round(share * len(boxes))])
            report(share, measure(app, picture, arguments))


def load(root: Path, arguments: argparse.Namespace) -> tuple[Any, np.ndarray[Any, Any]]:
    """Open insightface on two weight files, and its own photo."""
    pack = root / "models" / "pack"
    pack.mkdir(parents=True)
    for name in (arguments.detector, arguments.recogniser):
        (pack / name).write_bytes((arguments.weights / name).read_bytes())
    with contextlib.redirect_stdout(io.StringIO()):
        from insightface.app import FaceAnalysis
        from insightface.data import get_image

        from blurgate.runtime import onnxruntime

        options = onnxruntime().SessionOptions()
        options.intra_op_num_threads = 1
        cpu = {"providers": ["CPUExecutionProvider"], "sess_options": options}
        app = FaceAnalysis(name="pack", root=str(root), **cpu)
        app.prepare(ctx_id=-1, det_size=(640, 640))
    return app, get_image("t1")


def blurred(photo: np.ndarray[Any, Any], boxes: list[Any]) -> np.ndarray[Any, Any]:
    """Blur some faces, so far that the detector still finds them."""
    out = photo.copy()
    soft = cv2.GaussianBlur(photo, (0, 0), 5)
    for box in boxes:
        x1, y1, x2, y2 = (max(int(v), 0) for v in (*(box[:2] - 40), *(box[2:] + 40)))
        out[y1:y2, x1:x2] = soft[y1:y2, x1:x2]
    return out


def measure(
    app: Any, picture: np.ndarray[Any, Any], arguments: argparse.Namespace
) -> dict[str, tuple[float, int, int]]:
    """Give the median time of `app.get` in ms, faces and embeddings of every variant."""
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    found: dict[str, tuple[int, int]] = {}
    for round_ in range(arguments.rounds + 1):
        for variant in VARIANTS:
            if variant != "plain":
                attach(app, 0.4, rejected=variant, model=arguments.model)
            started = time.process_time()
            faces = app.get(picture)
            taken = time.process_time() - started
            if variant != "plain":
                detach(app)
            if round_:  # the first is for warming up
                times[variant].append(taken * 1e3)
            found[variant] = len(faces), sum(face.embedding is not None for face in faces)
    return {v: (statistics.median(times[v]), *found[v]) for v in VARIANTS}


def report(share: float, measured: dict[str, tuple[float, int, int]]) -> None:
    """Print one line per variant."""
    plain = measured["plain"][0]
    for variant, (ms, faces, embedded) in measured.items():
        saved = f"{100 * (plain - ms) / plain:+.0f}%"
        print(f"{share:8.0%} {variant:>8} {ms:7.1f} {faces:6} {embedded:9} {saved:>7}")


if __name__ == "__main__":
    main()
