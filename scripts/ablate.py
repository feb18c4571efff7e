"""Repeat the original's ablations: which head and which loss for one backbone.

    python scripts/ablate.py TRAINSET --out RUNS [--plugin mobilenetv2_0.25] [--epochs 4]

TRAINSET is a folder of `blurgate synth`. Trains the backbone once per row of the table, with
`blurgate train` and otherwise equal settings, into RUNS/<row>, and prints the validation errors of
each run's best epoch as a Markdown table. What is finished in RUNS is not trained again; what was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import Final

ROWS: Final = {
    "simple_huber": ("regression", "huber"),
    "simple_mse": ("regression", "mse"),
    "simple_l1": ("regression", "l1"),
    "complex_huber": ("complex", "huber"),
    "bins20_cmse": ("bins20", "cmse"),
    "bins20_wmse": ("bins20", "wmse"),
    "bins40_cmse": ("bins40", "cmse"),
    "bins40_wmse": ("bins40", "wmse"),
}
"""Row -> head and loss."""


def train(row: str, arguments: argparse.Namespace) -> None:
    """Train one row, unless that is done."""
    head, loss = ROWS[row]
    folder = arguments.out / row
    if list(folder.glob("*.onnx")):
        return
    command = [sys.executable, "-P", "-m", "blurgate", "train", "--plugin", arguments.plugin]
    command += ["--data", str(arguments.trainset), "--epochs", str(arguments.epochs)]
    command += ["--lr", "0.002", "--set", "ema=0.99", "--set", "clip=1", "--seed", "1"]
    command += ["--set", f"head={head}", "--loss", loss, "--device", arguments.device]
    command += ["--workers", str(arguments.workers)]
    subprocess.run([*command, "--resume", "--out", str(folder)], check=True)


def best(folder: Path) -> dict[str, str]:
    """Give the epoch of a run's log with the lowest validation error."""
    with (folder / "log.csv").open(newline="") as file:
        return min(csv.DictReader(file), key=lambda epoch: float(epoch["val_mae"]))


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plugin", default="mobilenetv2_0.25")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="threads; equal ones, equal results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        train(row, arguments)
    print(
        "| head | loss | MAE | RMSE | rho | best epoch |\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    for row, (head, loss) in ROWS.items():
        epoch = best(arguments.out / row)
        errors = " | ".join(
            f"{float(epoch[name]):.4f}" for name in ("val_mae", "val_rmse", "val_spearman")
        )
        print(f"| {head} | {loss} | {errors} | {epoch['epoch']} |")


if __name__ == "__main__":
    main()
