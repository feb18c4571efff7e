"""The loop that trains a detector: `fit_detector(network, samples, validation, config, folder)`.

Like `blurgate.training.loop`, whose pieces it shares: a checkpoint after every epoch, the best
epoch's weights, log.csv; all that is random comes from the seed and the epoch's number, so that a
run that was interrupted gives what an undisturbed one gives. One process; on a GPU too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from blurgate.errors import ModelError
from blurgate.evaluation.detection import Found
from blurgate.training import checkpoints
from blurgate.training.board import Board
from blurgate.training.detection.assign import IGNORED
from blurgate.training.detection.config import DetectionConfig
from blurgate.training.detection.feeding import Batch, batches
from blurgate.training.detection.losses import Losses, detection_loss
from blurgate.training.detection.mimic import mimic_loss
from blurgate.training.detection.network import (
    DetectorNet,
    anchors,
    predictions,
    prepare,
    rows_below,
)
from blurgate.training.detection.samples import Sample, Samples
from blurgate.training.detection.scores import DetectionScores, found, score
from blurgate.training.runs import (
    BEST,
    LAST,
    OnStep,
    TrainState,
    freeze_norms,
    restore,
    save_epoch,
    update_average,
)

__all__ = ["fit_detector", "learning_rate", "validate"]

COLUMNS: Final = (
    "epoch",
    "lr",
    "train_loss",
    "train_scores",
    "train_boxes",
    "train_kps",
    "train_mimic",
    "val_ap",
    "val_recall",
    "val_kps_error",
    "seconds",
    "pictures_per_s",
)


def learning_rate(config: DetectionConfig, step: int, steps: int) -> float:
    """Give the learning rate of a step: up in a line, then as the schedule has it.

    Args:
        config: The peak and the steps up.
        step: Counted from 0 over the whole run.
        steps: Of the whole run.

    >>> config = DetectionConfig(lr=1.0, warmup=2)
    >>> [learning_rate(config, step, 6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627]
    """
    warmup = min(config.warmup, steps // 2)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def validate(
    network: DetectorNet, samples: Sequence[Sample], *, batch: int, device: torch.device
) -> DetectionScores:
    """Compare what a network finds in samples, in float32, with what is there."""
    was_training = network.training
    network.eval()
    pairs: list[tuple[Sample, Found]] = []
    try:
        with torch.inference_mode():
            for at in range(0, len(samples), batch):
                some = samples[at : at + batch]
                stacked = torch.from_numpy(np.stack([sample.image for sample in some]))
                images = prepare(stacked.permute(0, 3, 1, 2).to(device))
                listed = anchors(images.shape[2], images.shape[3], device)
                pairs += zip(some, found(predictions(network(images), listed)), strict=True)
    finally:
        network.train(was_training)
    return score(pairs)


def fit_detector(
    network: DetectorNet,
    samples: Samples,
    validation: Sequence[Sample],
    config: DetectionConfig,
    folder: Path,
    *,
    close: Samples | None = None,
    device: torch.device | str = "cpu",
    workers: int = 1,
    facts: Mapping[str, Any] | None = None,
    resume: bool = False,
    on_step: OnStep = lambda done, total, text: None,
) -> TrainState:
    """Train.

    Args:
        network: Changed in place; holds the best weights at the end.
        samples: The training pictures.
        validation: What the best epoch is chosen by.
        config: Epochs, batch and so on.
        folder: An existing folder for checkpoints and logs.
        close: Larger training pictures, for a share of the steps; see `DetectionConfig.close`.
        device: Where to train.
        workers: Processes that compose pictures; see `feeding.batches`.
        facts: About the data, as plain values; a run is resumed only with the same.
        resume: Go on from the folder's checkpoint, if there is one.
        on_step: Called after every step.

    Returns:
        What came of it.

    Raises:
        ConfigError: The checkpoint belongs to another configuration or other data.
        ModelError: The loss is no longer a number.
        KeyboardInterrupt: Passed on; a later run can resume.
    """
    place = torch.device(device)
    run = _Run(
        network, samples, close, validation, config, folder, place, workers, facts or {}, on_step
    )
    return run.go(resume)


class _Run:
    """One call of `fit_detector`."""

    def __init__(
        self,
        network: DetectorNet,
        samples: Samples,
        close: Samples | None,
        validation: Sequence[Sample],
        config: DetectionConfig,
        folder: Path,
        device: torch.device,
        workers: int,
        facts: Mapping[str, Any],
        on_step: OnStep,
    ) -> None:
        self.samples, self.close, self.validation = samples, close, validation
        self.config, self.folder, self.on_step = config, folder, on_step
        self.device, self.workers = device, workers
        self.network = network.to(device).train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.learn_from:
            network.learn_from(config.learn_from)
        self.steps = max(1, len(samples) // config.batch)
        self.state = TrainState()
        self.optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), lr=config.lr)
        self.average = deepcopy(network).eval() if config.ema else None
        self.board = Board(folder)
        self.data = {**facts, "pictures": len(samples), "val_pictures": len(validation)}

    def go(self, resume: bool) -> TrainState:
        path = self.folder / LAST
        if resume and path.is_file():
            self.state = restore(path, self.network, self.average, self.optimizer, self._facts())
            # The run may have ended between the checkpoint and this.
            self.board.write(self.state.history[-1])
        if not self.state.is_over(self.config.epochs, self.config.patience):
            self._train()
        self.network.load_state_dict(checkpoints.load(self.folder / BEST)[0])
        return self.state

    def _train(self) -> None:
        feeding = batches(
            self.samples,
            self.close,
            self.config,
            first=self.state.epoch,
            workers=self.workers,
            pin=self.device.type == "cuda",
        )
        with feeding as ready:
            while not self.state.is_over(self.config.epochs, self.config.patience):
                began = time.perf_counter()
                losses, pictures = self._train_epoch(ready)
                self._close_epoch(losses, pictures, began)

    def _train_epoch(self, ready: Iterator[Batch]) -> tuple[list[float], int]:
        """Train one epoch; gives the mean losses and the number of pictures."""
        if self.config.freeze_norm:
            freeze_norms(self.network)
        total = torch.zeros(5, device=self.device)
        pictures = taught = 0
        for step, batch in enumerate(islice(ready, self.steps), 1):
            number = self.state.epoch * self.steps + step - 1
            total += torch.stack(self._step(batch.to(self.device), number)).detach()
            pictures += len(batch.pictures)
            taught += bool(batch.features)
            self.on_step(number + 1, self.config.epochs * self.steps, self._text())
        total[:4] /= self.steps
        total[4] /= max(taught, 1)
        losses: list[float] = total.tolist()
        if not math.isfinite(losses[0]):
            raise ModelError(
                f"the loss of epoch {self.state.epoch + 1} is not a number: lower --lr"
            )
        return losses, pictures

    def _step(self, batch: Batch, number: int) -> Losses:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, number, config.epochs * self.steps)
        images = prepare(batch.pictures)
        half = config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            features = self.network.features(images)
            raw = self.network.predict(features)
        h, w = images.shape[2:]
        # What does not learn is not asked either: it would thin out the means of the losses.
        still = slice(rows_below(config.learn_from, h, w))
        batch.targets.faces[:, still], batch.targets.scores[:, still] = IGNORED, 0
        said = predictions(raw, anchors(h, w, self.device))
        losses = detection_loss(said, batch.targets, config.loss_weights())
        if batch.features:
            mimicked = mimic_loss(features, batch.features, batch.targets.faces)
            losses = losses._replace(total=losses.total + config.mimic * mimicked, mimic=mimicked)
        losses.total.backward()  # type: ignore[no-untyped-call]
        if config.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            update_average(self.average, self.network, config.ema, number)
        return losses

    def _close_epoch(self, losses: list[float], pictures: int, began: float) -> None:
        """Validate, and write what has to be written."""
        seconds = time.perf_counter() - began
        chosen = self.average if self.average is not None else self.network
        scores = validate(chosen, self.validation, batch=self.config.batch, device=self.device)
        state = self.state
        state.epoch += 1
        last = learning_rate(
            self.config, state.epoch * self.steps - 1, self.config.epochs * self.steps
        )
        values = (
            state.epoch,
            last,
            *losses,
            scores.ap,
            scores.recall,
            scores.kps_error,
            seconds,
            pictures / seconds,
        )
        state.history.append(dict(zip(COLUMNS, values, strict=True)))
        if not state.best or not scores.ap <= state.best["ap"]:
            state.best_epoch, state.best = state.epoch, asdict(scores)
        save_epoch(self.folder, state, self.network, self.average, self.optimizer, self._facts())
        self.board.write(state.history[-1])

    def _facts(self) -> dict[str, Any]:
        return {"config": self.config.facts(), "data": self.data, **self.state.facts()}

    def _text(self) -> str:
        state = self.state
        text = f"epoch {state.epoch + 1} of {self.config.epochs}"
        if state.history:
            text += f", AP {state.history[-1]['val_ap']:.4f} (best {state.best['ap']:.4f})"
        return text


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Part the parameters that learn: norms and biases do not decay."""
    learnt = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in learnt if p.ndim > 1]
    others = [p for p in learnt if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
