"""Fit the map of the `laplacian` scorer to the labels of a synth folder.

    blurgate synth FACES --align --out data --blur random --per-image 2 --even
    python scripts/fit_laplacian.py data

Prints the V0 and P of `blur_degree = 1 / (1 + (variance / V0) ** P)` that make the mean absolute
error against the labels least, on a grid that is refined three times.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np

from blurgate.plugins.scorers.laplacian import V0, P, variance_of_laplacian


def measured(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give (variances, labels) of every blurred picture of a synth folder."""
    variances, labels = [], []
    for table in sorted(folder.glob("label_*/label/data_label.csv")):
        with table.open(newline="") as lines:
            for row in csv.DictReader(lines):
                variances.append(variance_of_laplacian(cv2.imread(str(folder / row["file"]))))
                labels.append(float(row["label"]))
    return np.array(variances), np.array(labels)


def error(variances: np.ndarray, labels: np.ndarray, v0: float, p: float) -> float:
    """Give the mean absolute error of the map."""
    return float(np.abs(1 / (1 + (variances / v0) ** p) - labels).mean())


def main() -> None:
    """Print the best numbers beside the ones in use."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    variances, labels = measured(parser.parse_args().folder)
    v0, p, width = 20.0, 1.0, 3.0
    for _ in range(4):
        grid = [
            (error(variances, labels, a, b), a, b)
            for a in v0 * np.geomspace(1 / (1 + width), 1 + width, 25)
            for b in p * np.geomspace(1 / (1 + width), 1 + width, 25)
        ]
        best, v0, p = min(grid)
        width /= 4
    print(f"{len(labels)} pictures, labels {labels.min():.3f} to {labels.max():.3f}")
    print(f"best    V0 {v0:.1f}  P {p:.2f}  mean absolute error {best:.4f}")
    print(
        f"in use  V0 {V0:.1f}  P {P:.2f}  mean absolute error {error(variances, labels, V0, P):.4f}"
    )


if __name__ == "__main__":
    main()
