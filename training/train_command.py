"""`blurgate train`: a model from generated data."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from blurgate.cli import options, warn
from blurgate.cli.progress import progress_bar
from blurgate.errors import ConfigError, EnvironmentLackError
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App
    from blurgate.training.train import Trained

EXAMPLE = """Example:

  blurgate train --plugin mobilenetv2 --data trainset --out run

trains on a folder of `blurgate synth --val 0.2`. Then:

  blurgate filter clip.mp4 --model run/mobilenetv2_0.25.onnx
"""

NEEDED: Final = ("torch", "lightning_fabric", "safetensors", "yaml", "onnx", "onnxscript")


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("train", epilog=EXAMPLE)(train_command)


def train_command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder.")],
    plugin: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Backbone: see `blurgate plugins` [mobilenetv2_0.25]."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE|PRESET", help="YAML file, or a preset of docs/training.md."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Train on a folder of `blurgate synth`, with --detector on annotated pictures; "
            "may be repeated.",
        ),
    ] = None,
    faces: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="Train on these faces, blurred on the fly; may be repeated."
        ),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="--faces are photos: detect and align the largest face.")
    ] = False,
    align_with: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Detector that finds the face for --align."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Train a face detector of this architecture (scrfd) instead, on annotated --data.",
        ),
    ] = None,
    background: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Pictures without faces, for --detector."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Recogniser that labels --faces."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="regression, complex, bins20 or bins40 [regression]."),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="SUM", help="Such as 0.7*huber+0.3*l1 [huber].")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs [50].")] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Pictures per step and process [64].")
    ] = None,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Learning rate [0.001].")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="float32, or bf16 for GPUs [float32].")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", help="Same seed, same model [0].")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any key of docs/training.md; may be repeated."
        ),
    ] = None,
    viz: Annotated[
        bool,
        typer.Option("--viz", help="Draw predicted against true degree after every epoch."),
    ] = False,
    kinds: Annotated[
        bool,
        typer.Option("--kinds", help="Also learn to tell motion, defocus and low resolution."),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write an 8-bit twin and what it loses.")
    ] = False,
    device: options.Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Threads; for a detector also processes [default: cores]."
        ),
    ] = None,
    resume: options.Resume = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a blur model and export it to ONNX."""
    if resume and overwrite:
        raise ConfigError("use --resume or --overwrite, not both")
    need_training()
    import torch

    from blurgate.host import get_host
    from blurgate.training.config import TrainConfig
    from blurgate.training.detection.command import (
        check_detector_options,
        is_detector_run,
        run_detector_command,
    )
    from blurgate.training.settings import parse_settings
    from blurgate.training.train import choose_device, choose_settings, run_training

    given: dict[str, Any] = {
        "backbone": plugin,
        "data": [str(folder) for folder in data or []] or None,
        "faces": faces or None,
        "align": align or None,
        "detector": align_with,
        "embedder": embedder,
        "head": head,
        "loss": loss,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "precision": precision,
        "seed": seed,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    threads = workers or options.usable_cores()
    if detector is not None or (resume and config is None and is_detector_run(out)):
        switches = {"viz": viz or None, "kinds": kinds or None, "int8": int8 or None}
        check_detector_options({**chosen, **switches})
        shared = ("data", "epochs", "batch", "lr", "precision", "seed")
        run_detector_command(
            out,
            {key: chosen[key] for key in shared if key in chosen}
            | ({} if detector is None else {"detector": detector})
            | ({"background": [str(folder) for folder in background]} if background else {}),
            setting or [],
            config,
            device=choose_device(device),
            workers=threads,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
        )
        return
    if background:
        raise ConfigError("--background belongs to --detector")
    settings = choose_settings(
        TrainConfig, config, {**parse_settings(setting or []), **chosen}, out, resume=resume
    )
    backbone = get_host().registry("backbone")[settings.backbone].name
    settings = replace(settings, backbone=backbone)
    place = choose_device(device)
    torch.set_num_threads(threads)
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun
    with progress_bar(None, "steps", quiet=quiet or not is_first) as bar:
        trained = run_training(
            settings,
            out,
            device=place,
            workers=threads,
            resume=resume,
            overwrite=overwrite,
            on_step=lambda done, total, text: bar(done, f"of {total:,}, {text}"),
            on_failure=lambda source, error: warn(error),
            viz=viz,
            int8=int8,
            kinds=kinds,
        )
    if trained is not None and not quiet:
        _print_summary(trained)


def need_training() -> None:
    """Check that everything training needs is installed, before it has cost any time.

    Raises:
        EnvironmentLackError: Something is missing; the message holds the pip command.
    """
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise EnvironmentLackError(
                f"training needs {error.name}, which is not installed; run: pip install "
                '"blurgate[train]"'
            ) from error
    from blurgate.runtime import onnxruntime

    onnxruntime()


def _print_summary(trained: Trained) -> None:
    facts, state = trained.card["about"], trained.state
    if trained.kinds is not None:
        told = trained.kinds
        end = "exported" if told.good else "too few, so not exported"
        if missing := told.facts["missing"]:
            end = f"not exported: training or validation has no pictures of {', '.join(missing)}"
        typer.echo(
            f"kind of blur: right for {told.facts['accuracy']:.1%} of {told.facts['pictures']} "
            f"validation pictures; {end}",
            err=True,
        )
    if trained.int8 is not None:
        typer.echo(
            f"{trained.int8.path}: {trained.int8.path.stat().st_size / 1e6:.2f} MB, 8 bits; MAE "
            f"{trained.int8.scores.mae:.4f} ({trained.int8.mae_loss:+.4f})",
            err=True,
        )
    typer.echo(
        f"{trained.path}: {facts['bytes'] / 1e6:.2f} MB, {facts['latency_ms']['batch 1']} ms a "
        f"face; epoch {state.best_epoch} of {state.epoch}: MAE {state.best['mae']:.4f}, "
        f"rank correlation {state.best['spearman']:.4f}; try: blurgate filter VIDEO --model "
        f"{trained.path}",
        err=True,
    )
