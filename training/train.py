"""What `blurgate train` does: a configuration in, a folder with a model that `filter` takes out.

config.yaml        everything that was chosen
<name>.onnx        the model; <name>.json and <name>.md are its card
best.safetensors, last.safetensors, log.csv: see `blurgate.training.loop`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from blurgate.errors import ConfigError
from blurgate.host import get_host
from blurgate.journal import write_atomically
from blurgate.training import card, loop
from blurgate.training.config import TrainConfig, make_config, read_config
from blurgate.training.export import card_facts, export
from blurgate.training.feeds import open_feed
from blurgate.training.losses import check_head, parse_loss
from blurgate.training.model import build_model
from blurgate.training.pairs import torch_device

__all__ = ["Trained", "choose_device", "choose_settings", "run_training"]

CONFIG: Final = "config.yaml"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run left."""

    path: Path
    """The ONNX file."""
    card: Mapping[str, Any]
    fit: loop.Fit


def choose_device(name: str) -> torch.device:
    """Give the device of a name: auto, cpu, cuda or cuda:N.

    Raises:
        EnvironmentLackError: There is no such GPU.
        ConfigError: The name is no device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch_device(name)


def choose_settings(
    source: str | None, options: Mapping[str, Any], folder: Path, *, resume: bool
) -> TrainConfig:
    """Put a configuration together: a file or preset, then what was given on the command line.

    Args:
        source: A file or preset; None: the defaults, or with `resume` the folder's configuration.
        options: Key -> value.
        folder: The output folder.
        resume: Go on with what is there.

    Raises:
        ConfigError: A key is unknown or a value is wrong.
    """
    if source is None and resume and (folder / CONFIG).is_file():
        source = str((folder / CONFIG).resolve())
    layers = [read_config(source)] if source is not None else []
    config = make_config(*layers, options, where=source or "the command line")
    name = get_host().registry("backbone")[config.backbone].name
    return make_config(config.facts(), {"backbone": name})


def run_training(
    config: TrainConfig,
    folder: Path,
    *,
    device: torch.device,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_step: loop.OnStep = lambda done, total, text: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> Trained | None:
    """Train a model and export it.

    Args:
        config: What, on what, and how.
        folder: Where to.
        device: Where to train; under torchrun one of several.
        workers: Threads that read and make pictures.
        resume: Continue what an interrupted run has left in the folder.
        overwrite: Replace an earlier run.
        on_step: Called after every step.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Returns:
        What it left; None in all processes of a distributed run but the first.

    Raises:
        ConfigError: The folder is in use or holds another run, or settings contradict each other.
        ModelError: Training diverged, or the exported model is not the trained one.
    """
    loss = parse_loss(config.loss)
    torch.manual_seed(config.seed)
    model = build_model(config.backbone, head=config.head, hidden=config.hidden or None)
    check_head(loss, model.head)
    fabric = loop.make_fabric(device, config.precision)
    if fabric.is_global_zero:
        _prepare(folder, config, resume=resume, overwrite=overwrite)
    fabric.barrier()
    feed = open_feed(config, device=str(fabric.device), workers=workers, on_failure=on_failure)
    fit = loop.fit(model, loss, feed, config, folder, fabric=fabric, resume=resume, on_step=on_step)
    if not fabric.is_global_zero:
        return None
    name = _name(config)
    facts = card_facts(
        name,
        threshold=config.threshold,
        licence=config.licence,
        about=card.about(
            config,
            feed.facts,
            fit,
            parameters=sum(p.numel() for p in model.parameters()),
            device=_device_name(fabric.device),
        ),
    )
    path = folder / f"{name}.onnx"
    with closing(feed.val(config.batch)) as batches:
        seen = next(batches).pictures
    difference = export(model, path, facts, pictures=seen)
    return Trained(path, card.write_card(path, facts, difference), fit)


def _name(config: TrainConfig) -> str:
    return config.name or config.backbone


def _prepare(folder: Path, config: TrainConfig, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready, and write the configuration into it."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    begun = (folder / CONFIG).is_file()
    if any(folder.iterdir()) and not (resume or (overwrite and begun)):
        hint = "use --resume to continue it, --overwrite to begin anew, or " if begun else "choose "
        raise ConfigError(f"{folder} is not empty: {hint}another --out")
    if resume and begun:
        # The checkpoint compares everything; before the first epoch there is none.
        if (folder / loop.LAST).is_file():
            return
    elif resume and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds no run of blurgate train to resume; choose another --out"
        )
    if begun:
        old = make_config(read_config(str((folder / CONFIG).resolve())))
        for suffix in (".onnx", ".json", ".md"):
            (folder / f"{_name(old)}{suffix}").unlink(missing_ok=True)
    for name in (loop.LAST, loop.BEST, loop.LOG):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / CONFIG, iter([config.to_yaml()]))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
