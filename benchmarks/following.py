"""Compare faces that are followed between detections with those of per-frame detection.

    python benchmarks/following.py CLIP... --detector DETECTOR.onnx [--model MODEL] [--every 4 8]

For each clip and each --every: which share of the faces that per-frame detection finds is there
(IoU >= 0.5), how many more there are, how far the landmarks are (mean of the five, in face widths:
median and 95th percentile), how much the blur degree changes (mean), and how many frames were
searched. The last lines are over all clips. `planes` compares per-frame detection on resized planes
with that on resized BGR pictures (docs/decisions/0012) in the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blurgate import zoo
from blurgate.finding import find_faces
from blurgate.geometry import iou
from blurgate.interfaces import Detector, DetectorOptions, Runtime, Scorer
from blurgate.io.video import read_video
from blurgate.stages import score
from blurgate.types import Detections, Frame, ScoredFaces


class Counting:
    """A detector that counts the frames it searches."""

    def __init__(self, detector: Detector) -> None:
        self.info = detector.info
        self.searched = 0
        self._detector = detector

    def __call__(self, frames: Sequence[Frame]) -> list[Detections]:
        """Count and search."""
        self.searched += len(frames)
        return self._detector(frames)


@dataclass
class Comparison:
    """What one way found against per-frame detection."""

    frames: int = 0
    searched: int = 0
    faces: int = 0
    found: int = 0
    more: int = 0
    landmarks: list[float] = field(default_factory=list)
    boxes: list[float] = field(default_factory=list)
    degrees: list[float] = field(default_factory=list)

    def add(self, wanted: ScoredFaces, got: ScoredFaces) -> None:
        """Compare one frame."""
        a, b = wanted.faces.detections, got.faces.detections
        self.frames += 1
        self.faces += len(a)
        self.more += max(0, len(b) - len(a))
        if not len(a) or not len(b):
            return
        overlaps = iou(a.boxes, b.boxes)
        for i, j in enumerate(overlaps.argmax(axis=1)):
            if overlaps[i, j] < 0.5:
                continue
            self.found += 1
            width = float(a.boxes[i, 2] - a.boxes[i, 0])
            distance = np.linalg.norm(a.kps[i] - b.kps[j], axis=1).mean()
            self.landmarks.append(float(distance) / width)
            self.boxes.append(float(np.abs(a.boxes[i] - b.boxes[j]).max()))
            self.degrees.append(abs(float(wanted.blur_degree[i] - got.blur_degree[j])))

    def merge(self, other: Comparison) -> None:
        """Add another clip's numbers."""
        for name in ("frames", "searched", "faces", "found", "more"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("landmarks", "boxes", "degrees"):
            getattr(self, name).extend(getattr(other, name))

    def __str__(self) -> str:
        if not self.landmarks:
            return f"{self.frames} frames, no faces"
        return (
            f"{self.frames} frames {self.faces} faces, found {self.found / self.faces:.4f}, "
            f"more {self.more}, landmarks {np.median(self.landmarks):.4f} "
            f"(p95 {np.percentile(self.landmarks, 95):.4f}), boxes {np.median(self.boxes):.2f} px "
            f"(p95 {np.percentile(self.boxes, 95):.2f}), degree {np.mean(self.degrees):.4f}, "
            f"searched {self.searched / self.frames:.3f}"
        )


def main() -> None:
    """Compare clip by clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--detector", required=True)
    parser.add_argument("--model", default="laplacian")
    parser.add_argument("--every", type=int, nargs="*", default=[8])
    parser.add_argument("--frames", type=int, default=150, help="of each clip, from its beginning")
    arguments = parser.parse_args()
    detector = zoo.open_detector(arguments.detector, Runtime("cpu"), DetectorOptions())
    scorer: Scorer = zoo.open_scorer(arguments.model, Runtime("cpu"))

    def frames(clip: Path, *, as_bgr: bool) -> Iterator[Frame]:
        for item in read_video(str(clip)):
            if not isinstance(item, Frame) or item.index >= arguments.frames:
                return
            yield Frame(item.image, item.source, item.index, item.pts_s) if as_bgr else item

    def scored(source: Iterable[Frame], every: int) -> tuple[list[ScoredFaces], int]:
        counting = Counting(detector)
        items = score(find_faces(source, counting, detect_every=every), scorer)
        return [item for item in items if isinstance(item, ScoredFaces)], counting.searched

    totals = {way: Comparison() for way in ("planes", *map(str, arguments.every))}
    for clip in arguments.clips:
        exact, searched = scored(frames(clip, as_bgr=False), 1)
        for way, total in totals.items():
            got, reference = exact, exact
            if way == "planes":
                reference, _ = scored(frames(clip, as_bgr=True), 1)
            else:
                got, searched = scored(frames(clip, as_bgr=False), int(way))
            comparison = Comparison(searched=searched)
            for a, b in zip(reference, got, strict=True):
                comparison.add(a, b)
            print(f"{clip.name} {way}: {comparison}", flush=True)
            total.merge(comparison)
    for way, total in totals.items():
        print(f"all {way}: {total}")


if __name__ == "__main__":
    main()
