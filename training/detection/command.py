"""The part of `blurgate train` that trains a detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import torch
import typer

from blurgate.cli.progress import progress_bar
from blurgate.errors import ConfigError, UnknownNameError
from blurgate.training.detection.card import number
from blurgate.training.detection.config import DetectionConfig
from blurgate.training.detection.train import TrainedDetector, train_detector
from blurgate.training.settings import parse_settings, parse_yaml
from blurgate.training.train import CONFIG, choose_settings

__all__ = ["ARCHITECTURES", "check_detector_options", "is_detector_run", "run_detector_command"]

ARCHITECTURES: Final = ("scrfd",)
_FOREIGN: Final = {
    "backbone": "--plugin",
    "faces": "--faces",
    "align": "--align",
    "detector": "--align-with",
    "embedder": "--embedder",
    "head": "--head",
    "loss": "--loss",
    "viz": "--viz",
    "kinds": "--kinds",
    "int8": "--int8",
}


def is_detector_run(folder: Path) -> bool:
    """Say whether a folder holds a run of `blurgate train --detector`."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    return "widths" in parse_yaml(path.read_text(encoding="utf-8"), str(path))


def check_detector_options(given: Mapping[str, Any]) -> None:
    """Refuse the options of blur models.

    Args:
        given: Key of the configuration -> value, None where it was not given.

    Raises:
        ConfigError: One was given.
    """
    for key, option in _FOREIGN.items():
        if given.get(key) is not None:
            raise ConfigError(
                f"{option} belongs to the training of blur models, not to --detector scrfd (the "
                "detector that aligns --faces is named with --align-with)"
            )


def run_detector_command(
    out: Path,
    given: Mapping[str, Any],
    setting: list[str],
    config: str | None,
    *,
    device: torch.device,
    workers: int,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train a detector as the command line says, and print what came of it.

    Raises:
        UnknownNameError: There is no such architecture.
    """
    name = given.get("detector", ARCHITECTURES[0])
    if name not in ARCHITECTURES:
        raise UnknownNameError("detector architecture", str(name), list(ARCHITECTURES))
    settings = choose_settings(
        DetectionConfig, config, {**parse_settings(setting), **given}, out, resume=resume
    )
    # The network has one thread fewer than there are: the others compose pictures meanwhile.
    torch.set_num_threads(max(1, workers - 1))
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    with progress_bar(None, "steps", quiet=quiet) as bar:
        trained = train_detector(
            settings,
            out,
            device=device,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            on_step=lambda done, total, text: bar(done, f"of {total:,}, {text}"),
        )
    if not quiet:
        _print_summary(trained)


def _print_summary(trained: TrainedDetector) -> None:
    facts, state = trained.card["about"], trained.state
    best = state.best
    typer.echo(
        f"{trained.path}: {facts['bytes'] / 1e6:.2f} MB, {facts['gflops_480x640']} GFLOPs at "
        f"480x640, {facts['latency_ms']['384x640']} ms at 384x640; epoch {state.best_epoch} "
        f"of {state.epoch}: AP {number(best['ap'])}, landmark error "
        f"{number(best['kps_error'])}; try: blurgate filter VIDEO --detector {trained.path}",
        err=True,
    )
