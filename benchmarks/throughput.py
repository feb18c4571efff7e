"""Compare blurgate's throughput with the loops that people write, and with its limits.

    python benchmarks/throughput.py CLIP... --detector DETECTOR.onnx [--rounds 3] [--out FOLDER]

CLIP is a video, or a folder of pictures. Every loop runs in a process of its own, all loops once
per round and the rounds one after the other, so that what else the machine does falls on all alike;
medians are reported. Prints a table per clip and writes it with a picture to FOLDER
(throughput.json, throughput.png):

    torch            cv2.VideoCapture, insightface FaceAnalysis (SCRFD, 640x640), norm_crop and
                     MobileNetV2 0.25 in torch, face by face, as tutorials have it
    torch-1-thread   the same with torch on one thread
    laplacian        the same with the variance of the Laplacian
    blurdetect       FFmpeg's filter: whole frames, no faces
    fast, exact      blurgate filter as it is, and with --detect-every 1; by number of workers; -nn
                     with the network, the others with the Laplacian; -own with the detector that
                     blurgate ships (--own), where the others have the loops'
    decode, detector the limits: reading alone, the detector's network alone

Two measures stand beside each other: frames per second of the wall clock, and milliseconds of
processor time per frame. On a machine that does other work at the same time only the second can
be compared with other days. The network of the -nn rows is exported on the spot, with random
weights, unless --model names one; rows that need torch or insightface are left out without them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

LOOPS = Path(__file__).with_name("loops.py")
Row = dict[str, float]


def machine() -> dict[str, Any]:
    """Give the facts that the numbers depend on."""
    import av
    import cv2
    import numpy as np
    import onnxruntime

    from blurgate.cli.options import usable_cores

    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": usable_cores(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
        "av": av.__version__,
    }
    if hasattr(os, "getloadavg"):
        facts["load_before"] = [round(value, 1) for value in os.getloadavg()]
    return facts


def export_model(path: Path) -> None:
    """Write MobileNetV2 0.25 with random weights and its card."""
    import torch

    from blurgate.training.export import card_facts, export
    from blurgate.training.model import build_model

    torch.manual_seed(0)
    export(build_model("mobilenetv2_0.25"), path, card_facts("random", threshold=0.4))


def variants(model: str | None, loops: list[str], own: str | None) -> dict[str, list[str]]:
    """Give every row's name and the arguments of its loop."""
    rows: dict[str, list[str]] = {}
    has = {name: importlib.util.find_spec(name) is not None for name in ("torch", "insightface")}
    if has["torch"] and has["insightface"]:
        rows |= {"torch": ["torch"], "torch-1-thread": ["torch-1-thread"]}
    if has["insightface"]:
        rows["laplacian"] = ["laplacian"]
    rows["blurdetect"] = ["blurdetect"]
    for workers in (1, 2):
        for way, every in (("fast", 8), ("exact", 1)):
            given = ["ours", "--workers", str(workers), "--detect-every", str(every)]
            rows[f"{way}-{workers}"] = given
            if model is not None:
                rows[f"{way}-{workers}-nn"] = [*given, "--model", model]
            if own is not None:
                rows[f"{way}-{workers}-own"] = [*given, "--detector", own]
                if model is not None:
                    rows[f"{way}-{workers}-own-nn"] = [*given, "--detector", own, "--model", model]
    for workers in (1, 2):
        rows[f"decode-{workers}"] = ["decode", "--workers", str(workers)]
        rows[f"detector-{workers}"] = ["detector", "--workers", str(workers)]
    return {name: given for name, given in rows.items() if not loops or name in loops}


def measure(clip: Path, detector: Path, rows: dict[str, list[str]], rounds: int) -> dict[str, Row]:
    """Run all loops on one clip, round by round."""
    taken: dict[str, list[Row]] = defaultdict(list)
    for _ in range(rounds):
        for name, given in rows.items():
            if clip.is_dir() and given[0] == "blurdetect":
                continue
            command = [sys.executable, "-P", str(LOOPS), given[0], str(clip)]
            command += ["--detector", str(detector), *given[1:]]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} on {clip} failed:\n{done.stderr}")
            taken[name].append(json.loads(done.stdout.splitlines()[-1]))
    result = {}
    for name, runs in taken.items():
        frames = runs[0]["frames"]
        rates = [frames / run["wall_s"] for run in runs]
        result[name] = {
            "fps": statistics.median(rates),
            "fps_low": min(rates),
            "fps_high": max(rates),
            "cpu_ms": statistics.median(1000 * run["cpu_s"] / frames for run in runs),
            "faces": runs[0]["faces"],
            "frames": frames,
        }
    return result


def table(clip: str, rows: dict[str, Row]) -> list[str]:
    """Give the table of one clip, with what each row is against the loops."""
    against = [name for name in ("torch", "torch-1-thread", "laplacian") if name in rows]
    heads = "".join(f"{'x ' + name:>18}" for name in against)
    lines = [clip, f"  {'loop':<16}{'fps':>8}{'spread':>16}{'cpu ms':>8}{'faces':>7}{heads}"]
    for name, row in rows.items():
        ratios = ""
        for other in against:
            faster = row["fps"] / rows[other]["fps"]
            cheaper = rows[other]["cpu_ms"] / row["cpu_ms"]
            ratios += f"{faster:>8.2f} ({cheaper:5.2f})  "
        spread = f"{row['fps_low']:.1f}..{row['fps_high']:.1f}"
        lines.append(
            f"  {name:<16}{row['fps']:>8.1f}{spread:>16}{row['cpu_ms']:>8.2f}"
            f"{row['faces']:>7.0f}{ratios}"
        )
    lines.append("  ratios: frames per second, and in brackets processor time per frame")
    return lines


def draw(results: dict[str, dict[str, Row]], path: Path) -> None:
    """Draw the processor time per frame of every loop and clip."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(results), figsize=(1 + 4 * len(results), 5), squeeze=False, sharey=True
    )
    for ax, (clip, rows) in zip(axes[0], results.items(), strict=True):
        names = list(rows)[::-1]
        colours = ["#0b7285" if n.startswith(("fast", "exact")) else "#adb5bd" for n in names]
        ax.barh(names, [rows[name]["cpu_ms"] for name in names], color=colours)
        for nth, name in enumerate(names):
            ax.text(rows[name]["cpu_ms"], nth, f" {rows[name]['cpu_ms']:.1f}", va="center")
        ax.set_title(clip, fontsize=9)
        ax.set_xlabel("processor time per frame, ms")
        ax.margins(x=0.18)
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--own", metavar="DETECTOR", help="rows with this detector too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", nargs="*", default=[], help="only these rows")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    facts = machine()
    print(json.dumps(facts))
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = arguments.model
        if model is None and importlib.util.find_spec("torch") is not None:
            model = str(Path(scratch) / "random.onnx")
            export_model(Path(model))
        rows = variants(model, arguments.loops, arguments.own)
        for clip in arguments.clips:
            results[clip.name] = measure(clip, arguments.detector, rows, arguments.rounds)
            print("\n".join(table(clip.name, results[clip.name])), flush=True)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        told = {"machine": facts, "rounds": arguments.rounds, "clips": results}
        (arguments.out / "throughput.json").write_text(json.dumps(told, indent=1) + "\n")
        draw(results, arguments.out / "throughput.png")


if __name__ == "__main__":
    main()
