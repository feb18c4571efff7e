"""What `blurgate train` does: a configuration in, a folder with a model that `filter` takes out.

config.yaml        everything that was chosen
<name>.onnx        the model; <name>.json and <name>.md are its card
best.safetensors, last.safetensors, log.csv: see `blurgate.training.loop`
viz/               curves of every epoch, if asked for: see `blurgate.training.viz`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch import Tensor

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.files import is_unused, write_atomically
from blurgate.interfaces import Runtime
from blurgate.locking import alone_in, check_is_folder
from blurgate.training import card, loop
from blurgate.training.config import TrainConfig
from blurgate.training.earlier import learnt_before
from blurgate.training.export import card_facts, export
from blurgate.training.exported import check_alike, is_exported, read_weights, settle
from blurgate.training.feeds import open_feed
from blurgate.training.kinds import KINDS, Kinds, check_learnable, fit_kinds, measure_kinds
from blurgate.training.labels import Labeller
from blurgate.training.loss_sums import check_head, parse_loss
from blurgate.training.model import model_of
from blurgate.training.pairs import torch_device
from blurgate.training.quantize import measure, note, quantize
from blurgate.training.runs import BEST, LAST, LOG, OnStep, TrainState, begin_with, device_name
from blurgate.training.settings import Config, fill, parse_yaml, read_config
from blurgate.training.viz import PEOPLE, Curves

if TYPE_CHECKING:
    from blurgate.training.batches import Feed
    from blurgate.training.model import BlurModel
    from blurgate.training.scores import Scores
    from blurgate.types import F32, U8

__all__ = [
    "Trained",
    "check_folder",
    "choose_device",
    "choose_settings",
    "export_run",
    "prepare_folder",
    "run_training",
]

C = TypeVar("C", bound=Config)

CONFIG: Final = "config.yaml"
_OF_EVERY_RUN: Final = {"epochs", "batch", "lr", "weight_decay", "patience", "precision", "seed"}
"""Settings that every run has, of a blur model or of a detector."""
VIZ: Final = "viz"
INT8_PICTURES: Final = 512
"""Training pictures from which the ranges of an 8-bit twin are taken, if an epoch has as many."""
SETTLE_PICTURES: Final = 512
"""Training pictures from which the normalisations of an exported model are measured."""


@dataclass(frozen=True, slots=True)
class Twin:
    """The 8-bit twin of a model."""

    path: Path
    scores: Scores
    """Its errors on the validation part."""
    mae_loss: float
    """By how much its MAE is above that of the model itself, both run by onnxruntime."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run left."""

    path: Path
    """The ONNX file."""
    card: Mapping[str, Any]
    state: TrainState
    int8: Twin | None = None
    kinds: Kinds | None = None


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
    kind: type[C], source: str | None, options: Mapping[str, Any], folder: Path, *, resume: bool
) -> C:
    """Put a configuration together: a file or preset, then what was given on the command line.

    Args:
        kind: Of a blur model or of a detector.
        source: A file or preset; None: the defaults, or with `resume` the folder's configuration.
        options: Key -> value.
        folder: The output folder.
        resume: Go on with what is there.

    Raises:
        ConfigError: A key is unknown or a value is wrong.
    """
    if source is None and resume and (folder / CONFIG).is_file():
        source = str((folder / CONFIG).resolve())
    layers = [read_config(source, kind)] if source is not None else []
    return fill(kind, [*layers, options], source or "the command line")


def run_training(
    config: TrainConfig,
    folder: Path,
    *,
    device: torch.device,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_step: OnStep = lambda done, total, text: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
    viz: bool = False,
    int8: bool = False,
    kinds: bool = False,
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
        on_failure: Called with (path, one line) for every picture that is skipped, and for every
            run in `init` that has learnt from people who are put aside here.
        viz: Draw curves of predicted against true degree after every epoch, in viz/.
        int8: Also write an 8-bit twin, and measure what it loses.
        kinds: Also learn the kind of blur; see `blurgate.training.kinds`.

    Returns:
        What it left; None in all processes of a distributed run but the first.

    Raises:
        ConfigError: The folder is in use or holds another run, or settings contradict each other.
        ModelError: Training diverged, or the exported model is not the trained one.
    """
    if kinds and not config.data:
        raise ConfigError("--kinds learns from a folder of blurgate synth: use --data")
    loss = parse_loss(config.loss)
    torch.manual_seed(config.seed)
    model = model_of(config)
    if kinds:
        check_learnable(model.backbone, list(map(Path, config.data)))
    check_head(loss, model.head)
    begins = bool(config.init) and not (resume and (folder / LAST).is_file())
    if begins:
        check_alike(model, config.init)
        begin_with(model, config.init, read_weights)
    fabric = loop.make_fabric(device, config.precision)
    if fabric.is_global_zero:
        check_folder(folder, resume=resume, overwrite=overwrite)
    feed = open_feed(config, device=str(fabric.device), workers=workers, on_failure=on_failure)
    if begins and fabric.is_global_zero:
        for run in config.init:
            if line := learnt_before(run, config, feed.facts):
                on_failure(run, line)
    if begins and any(map(is_exported, config.init)):
        settle(model, _some(feed, config.batch))
    drawn = _drawer(config, feed, folder, fabric.device) if viz and fabric.is_global_zero else None
    with alone_in(folder) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            # Once more: another run may have ended meanwhile.
            check_folder(folder, resume=resume, overwrite=overwrite)
            prepare_folder(folder, config.to_yaml(), resume=resume)
        fabric.barrier()
        state = loop.fit(
            model,
            loss,
            feed,
            config,
            folder,
            fabric=fabric,
            resume=resume,
            on_step=on_step,
            on_epoch=drawn or (lambda model, state: None),
        )
        if not fabric.is_global_zero:
            return None
        told = _kinds(model, config, workers) if kinds else None
        with closing(feed.val(config.batch)) as batches:
            seen = next(batches).pictures
        path, written = export_run(
            model, config, folder, feed.facts, state, device=device_name(fabric.device),
            pictures=seen, kinds=told,
        )  # fmt: skip
        has_kinds = told is not None and told.good
        twin = _quantized(path, feed, config, workers, has_kinds) if int8 else None
        return Trained(path, written, state, twin, told)


def export_run(
    model: BlurModel,
    config: TrainConfig,
    folder: Path,
    data: Mapping[str, Any],
    state: TrainState,
    *,
    device: str,
    pictures: Tensor,
    kinds: Kinds | None = None,
) -> tuple[Path, Mapping[str, Any]]:
    """Write a trained network and its card.

    Args:
        model: With its best weights.
        config: How it was trained.
        folder: Where to.
        data: The feed's facts.
        state: What came of it.
        device: What it was trained on, for the card.
        pictures: (n, 3, 112, 112) uint8 BGR on which the file is compared with torch.
        kinds: The head for kinds of blur, if there is one; it is exported if it is good.

    Returns:
        The ONNX file and its card.

    Raises:
        ModelError: The exported model is not the trained one.
    """
    name = _name(config)
    parameters = sum(p.numel() for p in model.parameters())
    about = card.about(config, data, state, parameters=parameters, device=device)
    good = kinds if kinds is not None and kinds.good else None
    facts = card_facts(
        name,
        threshold=config.threshold,
        licence=config.licence,
        kinds=KINDS if good else (),
        about=about if kinds is None else {**about, "kinds": kinds.facts},
    )
    path = folder / f"{name}.onnx"
    head = good.head if good else None
    difference = export(model, path, facts, pictures=pictures, kinds=head)
    return path, card.write_card(path, facts, difference)


def _kinds(model: BlurModel, config: TrainConfig, workers: int) -> Kinds:
    """Train the head for kinds of blur; only folders say what was done to a picture."""
    model.cpu().float()
    folders = [Path(folder) for folder in config.data]
    return fit_kinds(model, folders, seed=config.seed, workers=workers)


def _quantized(path: Path, feed: Feed, config: TrainConfig, workers: int, kinds: bool) -> Twin:
    """Write the 8-bit twin beside a model, and its card with its own errors."""
    out = path.with_suffix(".int8.onnx")
    with closing(feed.train(0, config.batch)) as batches:
        used = quantize(path, out, islice(batches, math.ceil(INT8_PICTURES / config.batch)))
    whole, found = (measure(file, feed.val(config.batch)) for file in (path, out))
    twin = Twin(out, found, found.mae - whole.mae)
    facts: dict[str, Any] = {
        "validation": asdict(found),
        "int8": {"mae_loss": twin.mae_loss, "pictures": used},
    }
    if kinds:
        facts["kinds"] = measure_kinds(out, list(map(Path, config.data)), workers=workers)
    card.write_card(out, note(out, facts))
    return twin


def _drawer(config: TrainConfig, feed: Feed, folder: Path, device: torch.device) -> loop.OnEpoch:
    """Make the curves' pictures, and give what draws a network's curves on them."""
    embedder = zoo.open_embedder(config.embedder or None, Runtime("cpu"))
    made = feed.facts.get("embedder") or {}
    if made.get("sha256") != embedder.info.sha256:
        raise ConfigError(
            f"--viz needs the embedder that labelled the data, {made.get('name')}, and got "
            f"{embedder.info}; name its file: --embedder FILE"
        )
    curves = Curves(feed.clean_val(PEOPLE), Labeller(embedder), seed=config.seed)

    def draw(model: BlurModel, state: TrainState) -> None:
        def degree(pictures: U8) -> F32:
            tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(device)
            with torch.inference_mode():
                found: F32 = model.degree(loop.prepare(tensor)).cpu().numpy()
            return found

        path = folder / VIZ / f"epoch_{state.epoch:03d}.png"
        curves.draw(degree, f"{_name(config)}, epoch {state.epoch}", path)

    return draw


def _some(feed: Feed, batch: int) -> Tensor:
    """Give what the network sees of the first training pictures."""
    with closing(feed.train(0, batch)) as batches:
        some = islice(batches, math.ceil(SETTLE_PICTURES / batch))
        return loop.prepare(torch.cat([found.pictures.cpu() for found in some]))


def _name(config: TrainConfig) -> str:
    return config.name or config.backbone


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a run may not write into; nothing is changed.

    Args:
        folder: Where the run writes; may not exist yet.
        resume: Continue what an interrupted run has left in the folder.
        overwrite: Replace an earlier run, of a scorer or a detector.

    Raises:
        ConfigError: The folder is in use, or there is nothing to resume in it.
    """
    check_is_folder(folder)
    if not folder.exists():
        return
    begun = _holds_run(folder)
    if is_unused(folder, CONFIG) or (begun and (resume or overwrite)):
        return
    if resume:
        raise ConfigError(
            f"{folder} holds no run of blurgate train to resume; choose another --out"
        )
    hint = "use --resume to continue it, --overwrite to begin anew, or " if begun else "choose "
    raise ConfigError(f"{folder} is not empty: {hint}another --out")


def _holds_run(folder: Path) -> bool:
    """Tell whether a folder holds an earlier run: others call files config.yaml too.

    A run writes down every setting, which nobody does by hand.
    """
    path = folder / CONFIG
    try:
        facts = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError, ConfigError):
        return False
    return facts.keys() >= _OF_EVERY_RUN


def prepare_folder(folder: Path, text: str, *, resume: bool) -> None:
    """Make a run's folder ready, and write the configuration into it.

    To be called once the data is open: a run that fails before leaves the folder as it was.

    Args:
        folder: Where the run writes, as `check_folder` allows.
        text: The configuration as YAML.
        resume: Continue what an interrupted run has left in the folder.
    """
    # The checkpoint compares everything; before the first epoch there is none.
    if resume and (folder / CONFIG).is_file() and (folder / LAST).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CONFIG).is_file():
        old = parse_yaml((folder / CONFIG).read_text(encoding="utf-8"), str(folder / CONFIG))
        name = next((old[key] for key in ("name", "backbone", "detector") if old.get(key)), None)
        for stem in (str(name), f"{name}.int8"):
            for suffix in (".onnx", ".json", ".md"):
                path = folder / f"{stem}{suffix}"
                if path.parent == folder:  # the name may have been edited into a path
                    path.unlink(missing_ok=True)
        for path in (folder / VIZ).glob("epoch_*.png"):
            path.unlink()
    for name in (LAST, BEST, LOG):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / CONFIG, [text])
