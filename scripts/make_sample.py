"""Make examples/sample.mp4: a short clip of one face, sharp, shaken, out of focus, and sharp again.

    python scripts/make_sample.py [--out examples/sample.mp4]

The picture is scikit-image's `astronaut` (Eileen Collins, by NASA, public domain), which lies in
that package. A virtual camera looks at it: it holds still, zooms in, swings sideways fast, loses
focus, and comes to rest. Motion blur is what a camera does: many positions within one exposure,
averaged in linear light. Needs scikit-image and blurgate's own dependencies; no network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

SIZE = (640, 360)
RATE = 25
SECONDS = 4
EXPOSURE = 0.5  # share of the time between two frames during which the shutter is open
SUBFRAMES = 24
FACE = (222.0, 118.0)  # centre of the face in the picture, px


def camera(t: float) -> tuple[float, float, float, float]:
    """Give the view at time t: centre x, y (picture px), zoom, and defocus (sigma in clip px)."""
    zoom = 1.6 + 0.3 * float(np.clip((t - 0.6) / 0.8, 0, 1))
    swing = 34 * np.sin(2 * np.pi * 2.2 * (t - 1.5)) if 1.5 <= t < 2.4 else 0.0
    focus = 7 * float(np.exp(-(((t - 3.0) / 0.28) ** 2)))
    return FACE[0] + 6 * np.sin(t) + swing, FACE[1] + 12 + 0.3 * swing, zoom, focus


def look(picture: np.ndarray, t: float) -> np.ndarray:
    """Render the view at one moment; picture and view are linear light, float32."""
    x, y, zoom, focus = camera(t)
    w, h = SIZE
    view = np.array([[zoom, 0, w / 2 - zoom * x], [0, zoom, h / 2 - zoom * y]], np.float32)
    seen = cv2.warpAffine(picture, view, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return cv2.GaussianBlur(seen, (0, 0), focus) if focus > 0.3 else seen


def main() -> None:
    """Write the clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("examples/sample.mp4"))
    out = parser.parse_args().out
    linear = (data.astronaut().astype(np.float32) / 255) ** 2.2
    rng = np.random.default_rng(0)
    with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the encoder's output must not depend on the machine's cores
        for index in range(RATE * SECONDS):
            times = (index + EXPOSURE * np.arange(SUBFRAMES) / SUBFRAMES) / RATE
            exposed = np.mean([look(linear, float(t)) for t in times], axis=0)
            noisy = exposed + rng.normal(0, 0.002, exposed.shape)
            srgb = np.clip(noisy, 0, 1) ** (1 / 2.2)
            pixels = np.rint(srgb * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
