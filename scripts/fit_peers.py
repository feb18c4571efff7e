"""Fit the maps of the classical scorers to the labels of a synth folder.

    blurgate synth FACES --align --out data --blur random --per-image 2 --even
    python scripts/fit_peers.py data

For `laplacian`, `tenengrad` and `blurdetect` this prints the two numbers of their map to a blur
degree that make the mean absolute error against the labels least, on a grid that is refined three
times, beside the ones in use. The maps are monotone: they move no picture past another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from blurgate.plugins.scorers import blurdetect, laplacian, tenengrad
from blurgate.training.dataset import Dataset

BATCH = 64


def measured(data: Dataset) -> dict[str, np.ndarray]:
    """Give each scorer's sharpness of every blurred picture of a synth folder, from 0."""
    parts: dict[str, list[np.ndarray]] = {"laplacian": [], "tenengrad": [], "blurdetect": []}
    for at in range(0, len(data), BATCH):
        crops = data.pictures(range(at, min(at + BATCH, len(data))))
        parts["laplacian"].append([laplacian.variance_of_laplacian(c) for c in crops])
        parts["tenengrad"].append([tenengrad.mean_squared_gradient(c) for c in crops])
        parts["blurdetect"].append(1 / blurdetect.edge_widths(crops).astype(np.float64))
    return {name: np.concatenate(values) for name, values in parts.items()}


def error(sharpness: np.ndarray, labels: np.ndarray, middle: float, power: float) -> float:
    """Give the mean absolute error of a map."""
    return float(np.abs(1 / (1 + (sharpness / middle) ** power) - labels).mean())


def fitted(sharpness: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Give (error, middle, power) of the best map."""
    middle, power, width = float(np.median(sharpness)), 1.5, 4.0
    for _ in range(4):
        best, middle, power = min(
            (error(sharpness, labels, a, b), a, b)
            for a in middle * np.geomspace(1 / (1 + width), 1 + width, 25)
            for b in power * np.geomspace(1 / (1 + width), 1 + width, 25)
        )
        width /= 4
    return best, middle, power


def main() -> None:
    """Print the best numbers beside the ones in use."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    data = Dataset(parser.parse_args().folder)
    labels = data.labels.astype(np.float64)
    print(f"{len(labels)} pictures, labels {labels.min():.3f} to {labels.max():.3f}")
    in_use = {
        "laplacian": (laplacian.V0, laplacian.P),
        "tenengrad": (tenengrad.E0, tenengrad.P),
        "blurdetect": (blurdetect.W0, blurdetect.P),
    }
    for name, sharpness in measured(data).items():
        # blurdetect's number is a width: its sharpness is the inverse.
        turn = (lambda v: 1 / v) if name == "blurdetect" else float
        best, middle, power = fitted(sharpness, labels)
        print(f"{name:<10} best {turn(middle):9.2f} {power:5.2f}  error {best:.4f}", end="   ")
        middle, power = in_use[name]
        used = error(sharpness, labels, turn(middle), power)
        print(f"in use {middle:9.2f} {power:5.2f}  error {used:.4f}")


if __name__ == "__main__":
    main()
