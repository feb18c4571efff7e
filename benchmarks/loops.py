"""The loops that benchmarks/throughput.py compares; each runs in a process of its own.

    python benchmarks/loops.py NAME SOURCE --detector DETECTOR.onnx [--model MODEL.onnx] ...

Prints one line of JSON: frames, faces, seconds of the wall clock and of the processors, from the
first frame that is asked for to the last result, after everything has been loaded and run once.
The loops are written as tutorials write them, and honest: nothing is done twice or made slow.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Score = Callable[[np.ndarray], float]


def clip_frames(source: Path) -> Iterator[np.ndarray]:
    """Read a video with OpenCV, or the pictures of a folder."""
    if source.is_dir():
        for path in sorted(source.iterdir()):
            yield cv2.imread(str(path))
        return
    capture = cv2.VideoCapture(str(source))
    while True:
        ok, image = capture.read()
        if not ok:
            return
        yield image


def face_analysis(detector: Path) -> Any:
    """Open insightface's FaceAnalysis with a detector alone, at 640x640."""
    import onnxruntime
    from insightface.app import FaceAnalysis

    onnxruntime.set_default_logger_severity(4)
    root = tempfile.TemporaryDirectory()
    folder = Path(root.name) / "models" / "bench"
    folder.mkdir(parents=True)
    (folder / "detector.onnx").write_bytes(detector.read_bytes())
    app = FaceAnalysis("bench", root.name, ["detection"], providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1, det_size=(640, 640))
    app.root = root  # it reads the file again when it meets a new size
    return app


def torch_score(threads: int | None) -> Score:
    """Score a crop with MobileNetV2 0.25 in torch, one at a time; its weights do not matter."""
    import torch

    from blurgate.training.model import build_model

    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build_model("mobilenetv2_0.25").eval()

    def score(crop: np.ndarray) -> float:
        image = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        tensor = torch.from_numpy(image.transpose(2, 0, 1)[None])
        with torch.no_grad():
            return float(model.degree(tensor))

    return score


def laplacian_score(crop: np.ndarray) -> float:
    """Score a crop by the variance of its Laplacian."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())


def naive(source: Path, detector: Path, score: Score) -> Callable[[], tuple[int, int]]:
    """OpenCV, FaceAnalysis, norm_crop, and a score per face."""
    from insightface.utils.face_align import norm_crop

    app = face_analysis(detector)
    score(np.zeros((112, 112, 3), np.uint8))
    app.get(next(clip_frames(source)))

    def loop() -> tuple[int, int]:
        n_frames = n_faces = 0
        for image in clip_frames(source):
            for face in app.get(image):
                score(norm_crop(image, face.kps))
                n_faces += 1
            n_frames += 1
        return n_frames, n_faces

    return loop


def blurdetect(source: Path) -> Callable[[], tuple[int, int]]:
    """FFmpeg's filter: one number per frame, and no faces."""
    import av

    def loop() -> tuple[int, int]:
        n_frames = 0
        with av.open(str(source)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_buffer(template=stream),
                graph.add("blurdetect"),
                graph.add("buffersink"),
            ).configure()
            for frame in container.decode(stream):
                graph.push(frame)
                graph.pull()
                n_frames += 1
        return n_frames, 0

    return loop


def decode_alone(source: Path, workers: int) -> Callable[[], tuple[int, int]]:
    """What blurgate reads, and nothing more."""
    from blurgate.io.sources import expand, read_sources
    from blurgate.types import Frame

    def loop() -> tuple[int, int]:
        items = read_sources(expand([str(source)]), every=1, workers=workers)
        return sum(isinstance(item, Frame) for item in items), 0

    return loop


def detector_alone(source: Path, detector: Path, workers: int) -> Callable[[], tuple[int, int]]:
    """One picture of the source's shape through the detector's network, again and again."""
    from blurgate.geometry import fit_long_side
    from blurgate.interfaces import Runtime
    from blurgate.pipeline import ordered_map
    from blurgate.runtime import make_session, run

    n_frames = 100
    session = make_session(detector, Runtime("cpu"))
    canvas = fit_long_side(next(clip_frames(source)).shape[:2], 640, multiple=32).canvas
    blob = np.random.default_rng(0).standard_normal((1, 3, *canvas)).astype(np.float32)
    name = session.get_inputs()[0].name

    def work(nth: int) -> int:
        del nth
        run(session, {name: blob}, str(detector))
        return 0

    work(0)

    def loop() -> tuple[int, int]:
        return len(list(ordered_map(work, range(n_frames), workers))), 0

    return loop


def ours(
    source: Path, detector: Path, model: str, workers: int, every: int
) -> Callable[[], tuple[int, int]]:
    """`blurgate filter` with its table and without pictures of faces."""
    from blurgate.filtering import run_filter
    from blurgate.gate import Gate
    from blurgate.io.sources import expand
    from blurgate.writing import Outputs

    gate = Gate(
        0.4, detector=str(detector), scorer=model, device="cpu", workers=workers,
        detect_every=every,
    )  # fmt: skip
    gate(next(clip_frames(source)))

    def loop() -> tuple[int, int]:
        with tempfile.TemporaryDirectory() as folder:
            outputs = Outputs(Path(folder), crops="none")
            totals = run_filter(gate, expand([str(source)]), outputs).totals
        return totals.frames, totals.faces

    return loop


def main() -> None:
    """Run one loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("source", type=Path)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--model", default="laplacian")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--detect-every", type=int, default=1)
    arguments = parser.parse_args()
    source, detector = arguments.source, arguments.detector
    makers: dict[str, Callable[[], Callable[[], tuple[int, int]]]] = {
        "torch": lambda: naive(source, detector, torch_score(None)),
        "torch-1-thread": lambda: naive(source, detector, torch_score(1)),
        "laplacian": lambda: naive(source, detector, laplacian_score),
        "blurdetect": lambda: blurdetect(source),
        "decode": lambda: decode_alone(source, arguments.workers),
        "detector": lambda: detector_alone(source, detector, arguments.workers),
        "ours": lambda: ours(
            source, detector, arguments.model, arguments.workers, arguments.detect_every
        ),
    }
    loop = makers[arguments.name]()
    wall, cpu = time.perf_counter(), time.process_time()
    n_frames, n_faces = loop()
    told = {
        "frames": n_frames,
        "faces": n_faces,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
