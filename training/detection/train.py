"""What `blurgate train --detector` does: annotated pictures in, a detector that `filter` takes out.

config.yaml        everything that was chosen
<name>.onnx        the model; <name>.json and <name>.md are its card
best.safetensors, last.safetensors, log.csv: see `blurgate.training.detection.loop`
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from blurgate.errors import ConfigError
from blurgate.io.text import digest
from blurgate.locking import alone_in
from blurgate.plugins.detectors.scrfd import STRIDES
from blurgate.training.detection.annotations import Annotated, own_parts, read_annotations
from blurgate.training.detection.card import about, validation_facts, write_card
from blurgate.training.detection.compose import Composed
from blurgate.training.detection.config import DetectionConfig
from blurgate.training.detection.default_score import default_score
from blurgate.training.detection.export import card_facts, export_detector
from blurgate.training.detection.feeding import teacher_of
from blurgate.training.detection.loop import fit_detector, validate
from blurgate.training.detection.network import DetectorNet, lower_scores, prepare
from blurgate.training.detection.pictures import backgrounds_in
from blurgate.training.detection.samples import first_epoch
from blurgate.training.exported import check_alike, is_exported, read_weights, settle
from blurgate.training.runs import LAST, OnStep, TrainState, begin_with
from blurgate.training.train import check_folder, prepare_folder

__all__ = ["TrainedDetector", "parts", "train_detector"]

CALIBRATION_PICTURES: Final = 2048
"""Composed pictures on which the exported file's scores are set."""
SETTLE_PICTURES: Final = 64
"""Composed pictures on which the normalisations of an exported detector are measured."""


@dataclass(frozen=True, slots=True)
class TrainedDetector:
    """What a run left."""

    path: Path
    """The ONNX file."""
    card: Mapping[str, Any]
    state: TrainState


def parts(folders: Sequence[str], share: float) -> tuple[list[Annotated], list[Annotated]]:
    """Part annotated pictures into those for training and those for validation.

    A folder with `train` and `val` below it says itself what is what, or with `train` alone that
    nothing is for validation; so does WIDER FACE with its own annotations. What lies in a `train`
    beside a `val` is for training, so that a part of it can be given once more. Of any other, a
    picture's name decides, so that more pictures move none.

    Args:
        folders: Folders or annotation files, as `read_annotations` takes them.
        share: Of the pictures for validation, where the folder does not say.

    Raises:
        InputError: There are no annotations, or damaged ones.
        ConfigError: One of the parts is empty.
    """
    train: list[Annotated] = []
    val: list[Annotated] = []
    for name in folders:
        own = own_parts(Path(name))
        if own is not None:
            train += read_annotations(own[0])
            val += read_annotations(own[1]) if own[1] is not None else []
            continue
        if _is_for_training(Path(name)):
            train += read_annotations(name)
            continue
        for picture in read_annotations(name):
            drawn = int(digest(picture.name), 16) / 2**64
            (val if drawn < share else train).append(picture)
    for part, what in ((train, "training"), (val, "validation")):
        if not part:
            raise ConfigError(
                f"{' and '.join(folders)}: no pictures for {what}; give more, or another --set val"
            )
    return train, val


def train_detector(
    config: DetectionConfig,
    folder: Path,
    *,
    device: torch.device,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_step: OnStep = lambda done, total, text: None,
) -> TrainedDetector:
    """Train a detector and export it.

    Args:
        config: What, on what, and how.
        folder: Where to.
        device: Where to train.
        workers: Processes that compose pictures, and threads for those of the validation.
        resume: Continue what an interrupted run has left in the folder.
        overwrite: Replace an earlier run.
        on_step: Called after every step.

    Raises:
        ConfigError: The folder is in use or holds another run, or there is no data.
        InputError: The data cannot be read.
        ModelError: Training diverged, or the exported model is not the trained one.
    """
    if not config.data:
        raise ConfigError("there is nothing to train on: give --data DIR with annotated pictures")
    check_folder(folder, resume=resume, overwrite=overwrite)
    train, val = parts(config.data, config.val)
    background = backgrounds_in(config.background)
    facts = _data_facts(train, val, background)
    teacher = teacher_of(config)
    if teacher is not None:
        facts["teacher"] = str(teacher.open().info)
    name = config.name or config.detector
    torch.manual_seed(config.seed)
    network = DetectorNet(config.shape())
    begins = bool(config.init) and not (resume and (folder / LAST).is_file())
    if begins:
        check_alike(network, config.init)
        begin_with(network, config.init, _weights)
    samples = Composed(
        train, background, size=config.size, length=config.pictures, seed=config.seed
    )
    if begins and any(map(is_exported, config.init)):
        settle(network, _some(samples))
    # Another seed: the validation pictures are not composed like the first epoch's.
    other = Composed(
        val, background, size=config.size, length=config.val_pictures, seed=config.seed + 1
    )
    with alone_in(folder):
        check_folder(folder, resume=resume, overwrite=overwrite)  # another run may have ended
        prepare_folder(folder, config.to_yaml(), resume=resume)
        validation = list(first_epoch(other, workers))
        state = fit_detector(
            network,
            samples,
            validation,
            config,
            folder,
            close=samples.close(2 * config.size) if config.close else None,
            device=device,
            workers=workers,
            facts=facts,
            resume=resume,
            on_step=on_step,
        )
        told = {"licence": config.licence, "source": config.source}
        # More pictures than after every epoch: few of them hold a false alarm.
        many = Composed(
            val, background, size=config.size, length=CALIBRATION_PICTURES, seed=config.seed + 2
        )
        with TemporaryDirectory() as place:
            unset = Path(place) / f"{name}.onnx"
            export_detector(network, unset, card_facts(name, **told, about={}))
            raw = default_score(unset, many, config.size, workers)
        lower_scores(network, raw)
        network.to(device)
        exported = validate(network, validation, batch=config.batch, device=device)
        card = card_facts(
            name,
            **told,
            about={
                **about(config, facts, state, network, device),
                "validation": validation_facts(exported),
                "score_0.5_was": raw,
            },
        )
        path = folder / f"{name}.onnx"
        some = np.stack([sample.image for sample in validation[:4]])
        seen = torch.from_numpy(some).permute(0, 3, 1, 2)
        difference = export_detector(network, path, card, pictures=seen)
        return TrainedDetector(path, write_card(path, card, difference), state)


def _weights(run: str, network: nn.Module) -> Mapping[str, Tensor]:
    """Read the weights of an earlier run or of a detector; see `read_weights`."""
    return read_weights(run, network, kind="detector", side=STRIDES[-1])


def _some(samples: Composed) -> Tensor:
    """Give what the network sees of the first training pictures."""
    some = [samples.sample(0, i).image for i in range(min(SETTLE_PICTURES, len(samples)))]
    return prepare(torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2))


def _is_for_training(place: Path) -> bool:
    """Tell whether this is a folder `train`, or a file in one, with a `val` beside it."""
    folder = (place.parent if place.is_file() else place).resolve()
    return folder.name == "train" and (folder.parent / "val").is_dir()


def _data_facts(
    train: Sequence[Annotated], val: Sequence[Annotated], background: Sequence[Annotated]
) -> dict[str, Any]:
    """Say what the data is; the digest tells it from any other."""
    listed = hashlib.sha256()
    for part in (train, val, background):
        for picture in part:
            listed.update(picture.name.encode())
            for values in (picture.boxes, picture.kps, picture.ignore):
                listed.update(np.ascontiguousarray(values).tobytes())
        listed.update(b"\n")
    return {
        "train": len(train),
        "val": len(val),
        "background": len(background),
        "faces": int(sum((~picture.ignore).sum() for picture in train)),
        "faces_val": int(sum((~picture.ignore).sum() for picture in val)),
        "sha256": listed.hexdigest(),
    }
