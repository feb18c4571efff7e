"""Compare `blurgate filter` with insightface and ffprobe, clip by clip.

    python scripts/check_clips.py CLIP... --detector scrfd_2.5g_bnkps.onnx [--sheet sheet.png]

Each clip goes through `blurgate filter`. On 50 frames, evenly spread, the boxes of faces.csv are
compared with insightface's own SCRFD on the same weights and canvas (longer side 640, the shorter
rounded up to 32, on frames that OpenCV decodes and that are halved as blurgate halves large ones),
and the frame and time columns with ffprobe's presentation times. Needs the `insightface` extra and
the ffprobe program. Closer looks at small faces, which insightface does not take, are switched off.
Faces that blurgate's second pass found where the first found nothing are counted apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from insightface.model_zoo.scrfd import SCRFD

from blurgate.geometry import iou

N_SAMPLES = 50
WITHOUT_LOOKS = """
from blurgate.plugins.detectors import looks
looks.CLOSER_BELOW = 0
from blurgate.cli import program
program()
"""


def times(clip: Path) -> list[float]:
    """Give the presentation time of every frame, as ffprobe has it."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries"]
    command += ["frame=best_effort_timestamp_time", "-of", "json", str(clip)]
    done = subprocess.run(command, check=True, capture_output=True)
    return [float(f["best_effort_timestamp_time"]) for f in json.loads(done.stdout)["frames"]]


def frames(clip: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    """Give some frames, as OpenCV decodes them."""
    capture = cv2.VideoCapture(str(clip))
    found = {}
    for index in range(max(wanted) + 1):
        read, image = capture.read()
        if read and index in wanted:
            found[index] = image
    return found


def canvas(image: np.ndarray) -> tuple[int, int]:
    """Give the (width, height) of the detector's input for a picture."""
    h, w = image.shape[:2]
    scaled = [int(side * 640 / max(h, w)) for side in (w, h)]
    return (-(-scaled[0] // 32) * 32, -(-scaled[1] // 32) * 32)


def check(clip: Path, detector: Path, folder: Path) -> dict[str, float]:
    """Run one clip and compare."""
    command = [sys.executable, "-P", "-c", WITHOUT_LOOKS, "filter", str(clip), "--out", str(folder)]
    command += ["--detector", str(detector), "--threshold", "0.4", "--quiet", "--detect-every", "1"]
    subprocess.run(command, check=True)
    with (folder / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    probed = times(clip)
    summary = json.loads((folder / "summary.json").read_text())
    late = [abs(float(row["time_s"]) - probed[int(row["frame"])]) for row in rows]
    # Six significant digits are what the table holds.
    wrong_times = sum(
        d > 1e-5 * max(1, probed[int(r["frame"])]) for d, r in zip(late, rows, strict=True)
    )
    sample = {int(i) for i in np.linspace(0, len(probed) - 1, N_SAMPLES)}
    theirs = SCRFD(str(detector))
    theirs.prepare(-1)
    result = {
        "frames": len(probed),
        "frames read": summary["totals"]["frames"],
        "wrong times": wrong_times,
        "faces": 0,
        "IoU >= 0.95": 0,
        "extra": 0,
        "second pass": 0,
        "least IoU": 1.0,
    }
    for index, image in frames(clip, sample).items():
        small = image
        while max(small.shape) >= 2 * 640:
            small = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        boxes, _ = theirs.detect(small, input_size=canvas(image))
        boxes[:, :4] *= image.shape[1] / small.shape[1]
        ours = [
            [float(r[c]) for c in ("x1", "y1", "x2", "y2")]
            for r in rows
            if int(r["frame"]) == index
        ]
        overlap = iou(boxes[:, :4], np.array(ours).reshape(-1, 4))
        best = overlap.max(axis=1, initial=0).tolist()
        result["faces"] += len(boxes)
        result["IoU >= 0.95"] += sum(b >= 0.95 for b in best)
        result["least IoU"] = min([result["least IoU"], *best])
        result["second pass" if len(boxes) == 0 else "extra"] += max(0, len(ours) - len(boxes))
    return result


def sheet(folders: list[Path], path: Path) -> None:
    """Draw 16 kept faces of every clip, one line each."""
    lines = []
    for folder in folders:
        kept = sorted((folder / "kept").iterdir())
        picked = [kept[int(i)] for i in np.linspace(0, len(kept) - 1, 16)]
        lines.append(np.hstack([cv2.imread(str(p)) for p in picked]))
    cv2.imwrite(str(path), np.vstack(lines))


def main() -> None:
    """Print one line per clip and a total; leave with 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--detector", required=True, type=Path)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for clip in arguments.clips:
            folders.append(Path(scratch) / clip.stem)
            result = check(clip, arguments.detector, folders[-1])
            print(clip.name, json.dumps(result), flush=True)
            good &= result["frames"] == result["frames read"] and not result["wrong times"]
            good &= result["IoU >= 0.95"] >= 0.98 * result["faces"]
        if arguments.sheet:
            sheet(folders, arguments.sheet)
    print("all promises kept" if good else "NOT EQUAL")
    sys.exit(not good)


if __name__ == "__main__":
    main()
