"""Make the clips of benchmarks/throughput.py: face photos moving over backgrounds.

    python scripts/make_bench_clips.py FACES OUT [--backgrounds FOLDER] [--frames 150] [--seed 0]

Writes OUT/{720p,1080p}-{few,many}-{static,moving}.mp4 (H.264, 30 frames a second) and
OUT/clips.json with where each face was put: per clip and frame the centre x, y and the width in
pixels. FACES is a folder of portraits; of each the middle, an ellipse with a soft edge, is shown.
Moving faces swing, turn and change their size, and some leave the picture and come back; static
ones stay, under the noise of a sensor. Without --backgrounds smooth random colours take their
place. With --photos N there are also N photos of 12 megapixels in OUT/photos-large and N of 640x480
in OUT/photos-small, with one to three large faces each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import av
import cv2
import numpy as np

RATE = 30
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
COUNTS = {"few": (3, 0.30), "many": (10, 0.16)}
"""Faces in a clip, and the median height of a portrait as a share of the picture's."""


def pictures(folder: Path | None) -> list[Path]:
    """List the pictures below a folder."""
    if folder is None:
        return []
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})


def background(paths: list[Path], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Give a background of (h, w) pixels."""
    if not paths:
        small = rng.integers(40, 200, (9, 16, 3), np.uint8)
        return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    image = cv2.imread(str(paths[rng.integers(len(paths))]))
    scale = max(size[0] / image.shape[0], size[1] / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(image[: size[0], : size[1]])


class Actor:
    """A face and its path."""

    def __init__(
        self, path: Path, size: tuple[int, int], share: float, place: int, places: int,
        rng: np.random.Generator, *, moving: bool,
    ) -> None:  # fmt: skip
        self.image = cv2.imread(str(path))
        h, w = self.image.shape[:2]
        y, x = np.mgrid[:h, :w]
        distance = np.hypot((x - w / 2) / (0.42 * w), (y - h / 2) / (0.5 * h))
        self.mask = np.clip((1 - distance) / 0.12, 0, 1).astype(np.float32)
        self.height = share * size[0] * rng.uniform(0.7, 1.3)
        columns = int(np.ceil(np.sqrt(places * 1.8)))
        rows = -(-places // columns)
        cell = place % columns + 0.5, place // columns + 0.5
        self.home = cell[0] / columns * size[1], cell[1] / rows * size[0]
        self.moving = moving
        # Speeds as of people: up to some 20 % of the face's height in a frame at the fastest.
        self.reach = rng.uniform(0.3, 1.0, 2) * self.height
        self.period = rng.uniform(1.5, 5.0, 4)
        self.phase = rng.uniform(0, 2 * np.pi, 4)
        self.leaves = moving and place % 3 == 2

    def place(self, t: float, width: int) -> tuple[float, float, float, float]:
        """Give centre x, y, height and angle at a time in seconds."""
        if not self.moving:
            return *self.home, self.height, 0.0
        swing = np.sin(2 * np.pi * t / self.period + self.phase)
        x, y = np.add(self.home, self.reach * swing[:2])
        if self.leaves:
            x = (x + 90 * t * self.height / 100) % (width + 2 * self.height) - self.height
        return float(x), float(y), self.height * (1 + 0.25 * swing[2]), 12 * swing[3]

    def draw(self, canvas: np.ndarray, t: float) -> tuple[float, float, float]:
        """Draw the face; gives its centre and width."""
        x, y, height, angle = self.place(t, canvas.shape[1])
        h, w = self.image.shape[:2]
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, height / h)
        half = int(height * 0.8) + 2
        left, top = int(x) - half, int(y) - half
        matrix[:, 2] += (x - w / 2 - left, y - h / 2 - top)
        side = 2 * half
        how = cv2.INTER_AREA if height < h else cv2.INTER_LINEAR
        face = cv2.warpAffine(self.image, matrix, (side, side), flags=how)
        mask = cv2.warpAffine(self.mask, matrix, (side, side))[..., None]
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + side, canvas.shape[1]), min(top + side, canvas.shape[0])
        if x1 < x2 and y1 < y2:
            part = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
            under = canvas[y1:y2, x1:x2]
            under[:] = (face[part] * mask[part] + under * (1 - mask[part]) + 0.5).astype(np.uint8)
        return x, y, height * w / h


def make_clip(
    path: Path, faces: list[Path], scenes: list[Path], *, size: tuple[int, int],
    crowd: tuple[int, float], moving: bool, frames: int, seed: int,
) -> list[list[tuple[float, float, float]]]:  # fmt: skip
    """Write one clip and give where its faces are."""
    rng = np.random.default_rng(seed)
    count, share = crowd
    chosen = rng.choice(len(faces), count, replace=len(faces) < count)
    actors = [
        Actor(faces[f], size, share, i, count, rng, moving=moving) for i, f in enumerate(chosen)
    ]
    scene = background(scenes, size, rng)
    noise = [rng.normal(0, 1.5, scene.shape).astype(np.int8) for _ in range(4)]
    placed = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "fast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for index in range(frames):
            canvas = scene.copy()
            placed.append([actor.draw(canvas, index / RATE) for actor in actors])
            canvas = cv2.add(canvas, noise[index % 4], dtype=cv2.CV_8U)
            frame = av.VideoFrame.from_ndarray(canvas, format="bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return placed


def make_photos(
    folder: Path,
    faces: list[Path],
    scenes: list[Path],
    size: tuple[int, int],
    count: int,
    seed: int,
) -> None:
    """Write JPEG photos."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for nth in range(count):
        canvas = background(scenes, size, rng)
        people = 1 + nth % 3
        for i, face in enumerate(rng.choice(len(faces), people, replace=False)):
            Actor(faces[face], size, 0.5, i, people, rng, moving=False).draw(canvas, 0.0)
        noise = rng.normal(0, 2, canvas.shape).astype(np.int8)
        canvas = cv2.add(canvas, noise, dtype=cv2.CV_8U)
        cv2.imwrite(str(folder / f"{nth:03d}.jpg"), canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])


def main() -> None:
    """Make all clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--photos", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faces = pictures(arguments.faces)
    if not faces:
        parser.error(f"{arguments.faces} holds no pictures")
    scenes = pictures(arguments.backgrounds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, size in (("large", (3024, 4032)), ("small", (480, 640))):
        if arguments.photos:
            folder = arguments.out / f"photos-{name}"
            make_photos(folder, faces, scenes, size, arguments.photos, arguments.seed)
            print(folder)
    truth = {}
    for size in SIZES:
        for crowd in COUNTS:
            for motion in ("static", "moving"):
                name = f"{size}-{crowd}-{motion}.mp4"
                truth[name] = make_clip(
                    arguments.out / name, faces, scenes, size=SIZES[size], crowd=COUNTS[crowd],
                    moving=motion == "moving", frames=arguments.frames, seed=arguments.seed,
                )  # fmt: skip
                print(arguments.out / name)
    (arguments.out / "clips.json").write_text(json.dumps(truth))


if __name__ == "__main__":
    main()
