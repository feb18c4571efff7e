"""The training loop: `fit(model, loss, feed, config, folder)`.

A run writes into its folder, after every epoch:

    last.safetensors   everything needed to go on: weights, averaged weights, optimiser, history
    best.safetensors   the weights with the lowest validation error so far
    log.csv            one line per epoch; tensorboard/ has the same where it is installed

All that is random in an epoch comes from the seed and the epoch's number. So a run that was
interrupted goes on from its last whole epoch and gives what an undisturbed one gives: to the bit on
a CPU with the same number of threads. On a GPU some sums are added up in varying order.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from blurgate.cards import InputCard
from blurgate.errors import ModelError, blamed
from blurgate.pipeline import prefetch
from blurgate.training import checkpoints
from blurgate.training.board import Board
from blurgate.training.rounding import rounded_activations
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
from blurgate.training.scores import Scores, score
from blurgate.training.varying import varied

if TYPE_CHECKING:
    from blurgate.training.batches import Feed, Pictures
    from blurgate.training.config import TrainConfig
    from blurgate.training.interfaces import Loss
    from blurgate.training.model import BlurModel

__all__ = ["INPUT", "fit", "learning_rate", "make_fabric", "predict", "prepare"]

COLUMNS: Final = (
    "epoch",
    "lr",
    "train_loss",
    "val_mae",
    "val_rmse",
    "val_spearman",
    "seconds",
    "pictures_per_s",
)
INPUT: Final = InputCard()
"""How pictures become the network's input; exported models state it in their card."""

_AHEAD: Final = 2  # batches that are made before they are asked for

OnEpoch = Callable[["BlurModel", "TrainState"], None]
"""Called after an epoch's validation with the network that was validated, in eval mode."""


def make_fabric(device: torch.device, precision: str) -> Fabric:
    """Make the accelerator of a run; under torchrun it is one of several (DDP).

    Args:
        device: cpu, or a GPU; torchrun gives every process its own.
        precision: float32 or bf16.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    torch.backends.cudnn.benchmark = device.type == "cuda"  # every step has the same shapes
    one: Any = [device.index] if device.type == "cuda" and device.index is not None else 1
    fabric = Fabric(
        accelerator=device.type,
        devices=local if world > 1 else one,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def prepare(pictures: Tensor) -> Tensor:
    """Turn (n, 3, h, w) BGR in [0, 255] into the network's input: float32 RGB as `INPUT` says."""
    rgb = pictures.flip(1).float()
    # Channel by channel with plain numbers: bringing tensors to a GPU would wait for it.
    facts = enumerate(zip(INPUT.mean, INPUT.std, strict=True))
    planes = [(rgb[:, channel] - mean) / std for channel, (mean, std) in facts]
    return torch.stack(planes, 1).contiguous(memory_format=torch.channels_last)


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Give the learning rate of a step, counted from 0 over the whole run.

    >>> from blurgate.training.config import TrainConfig
    >>> config = TrainConfig(lr=1.0, schedule="exponential", decay=0.5, epochs=3)
    >>> [learning_rate(config, step, 2) for step in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    if config.schedule == "exponential":
        return config.lr * config.decay ** (step // steps_per_epoch)
    return config.lr * (1 + math.cos(math.pi * step / (config.epochs * steps_per_epoch))) / 2


def predict(
    model: BlurModel, batches: Iterator[Pictures], device: torch.device
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give predicted and true degrees, (n,) float32 each, in float32 whatever the training's."""
    was_training = model.training
    model.eval()
    predicted, true = [], []
    try:
        with torch.inference_mode():
            for pictures, degrees in batches:
                predicted.append(model.degree(prepare(pictures.to(device))).cpu().numpy())
                true.append(degrees.cpu().numpy())
    finally:
        model.train(was_training)
    return np.concatenate(predicted), np.concatenate(true)


def fit(
    model: BlurModel,
    loss: Loss,
    feed: Feed,
    config: TrainConfig,
    folder: Path,
    *,
    fabric: Fabric | None = None,
    resume: bool = False,
    on_step: OnStep = lambda done, total, text: None,
    on_epoch: OnEpoch = lambda model, state: None,
) -> TrainState:
    """Train.

    Args:
        model: Changed in place; holds the best weights at the end.
        loss: For the model's head.
        feed: The data.
        config: Epochs, batch, schedule and so on.
        folder: An existing folder for checkpoints and logs.
        fabric: Where to train; None: on the CPU.
        resume: Go on from the folder's checkpoint, if there is one.
        on_step: Called after every step.
        on_epoch: Called after every epoch, in the first process only; of a run that goes on first
            with the last epoch that is done.

    Returns:
        What came of it.

    Raises:
        ConfigError: The checkpoint belongs to another configuration or other data, or there are too
            few pictures.
        ModelError: The loss or the validation error is no longer a number.
        KeyboardInterrupt: Passed on; a later run can resume.
    """
    fabric = fabric or make_fabric(torch.device("cpu"), config.precision)
    return _Run(model, loss, feed, config, folder, fabric, on_step, on_epoch).go(resume)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: BlurModel,
        loss: Loss,
        feed: Feed,
        config: TrainConfig,
        folder: Path,
        fabric: Fabric,
        on_step: OnStep,
        on_epoch: OnEpoch,
    ) -> None:
        self.model, self.loss, self.feed, self.config = model, loss, feed, config
        self.folder, self.fabric = folder, fabric
        self.on_step, self.on_epoch = on_step, on_epoch
        self.steps = feed.steps(config.batch, world=fabric.world_size)
        self.state = TrainState()
        # Channels last: 1.6 times as fast for MobileNetV2 on a CPU, and what tensor cores want.
        model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.wrapped, self.optimizer = fabric.setup(model, optimizer)
        self.average = deepcopy(model).eval() if config.ema else None
        self.board = Board(folder)

    def go(self, resume: bool) -> TrainState:
        path = self.folder / LAST
        if resume and path.is_file():
            self.state = restore(path, self.model, self.average, self.optimizer, self._facts())
            if self.fabric.is_global_zero:
                self._show()  # the run may have ended between the checkpoint and this
        self.fabric.barrier()
        while not self.state.is_over(self.config.epochs, self.config.patience):
            began = time.perf_counter()
            with rounded_activations(self.model) if self.config.for_int8 else nullcontext():
                mean_loss, pictures = self._train_epoch()
            if self.fabric.is_global_zero:
                self._close_epoch(mean_loss, pictures, began)
            facts = self.fabric.broadcast(self.state.facts())
            self.state = TrainState(**facts)
        self.fabric.barrier()
        self.model.load_state_dict(checkpoints.load(self.folder / BEST)[0])
        return self.state

    def _train_epoch(self) -> tuple[float, int]:
        """Train one epoch; gives the mean loss and the number of pictures, over all processes."""
        if self.config.freeze_norm:
            freeze_norms(self.model)
        config, fabric, epoch = self.config, self.fabric, self.state.epoch
        seeds = np.random.SeedSequence([config.seed, epoch, fabric.global_rank])
        own, variety = (int(seed) for seed in seeds.generate_state(2))
        torch.manual_seed(own)  # for what a backbone may draw, such as dropout
        draws = torch.Generator(fabric.device).manual_seed(variety)
        total = torch.zeros((), device=fabric.device)
        pictures = step = 0
        batches = self.feed.train(
            epoch, config.batch, rank=fabric.global_rank, world=fabric.world_size
        )
        with closing(prefetch(_moved(batches, fabric.device), _AHEAD)) as ready:
            for step, batch in enumerate(ready, 1):
                number = epoch * self.steps + step - 1
                value = self._step(batch, number, draws)
                total += value.detach()
                pictures += len(batch.pictures)
                self.on_step(number + 1, config.epochs * self.steps, self._text())
        reduced = fabric.all_reduce(total / step, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        mean = float(reduced)
        if not math.isfinite(mean):
            raise ModelError(
                f"the loss of epoch {epoch + 1} is not a number: lower --lr, or set clip=1"
            )
        return mean, pictures * fabric.world_size

    def _step(self, batch: Pictures, number: int, draws: torch.Generator) -> Tensor:
        images = prepare(varied(batch.pictures, self.config, draws))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, number, self.steps)
        with blamed("backbone", self.config.backbone):
            output = self.wrapped(images)
        value = self.loss(output, batch.degrees)
        self.fabric.backward(value)
        if self.config.clip:
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=self.config.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            update_average(self.average, self.model, self.config.ema, number)
        return value

    def _close_epoch(self, mean_loss: float, pictures: int, began: float) -> None:
        """Validate, and write what has to be written."""
        seconds = time.perf_counter() - began
        chosen = self._chosen()
        with closing(prefetch(self.feed.val(self.config.batch), _AHEAD)) as ready:
            scores = score(*predict(chosen, ready, self.fabric.device))
        if not math.isfinite(scores.mae):
            raise ModelError("the network's degrees are not numbers: lower --lr, or set clip=1")
        state = self.state
        state.epoch += 1
        state.history.append(self._row(mean_loss, scores, seconds, pictures))
        if not state.best or scores.mae < state.best["mae"]:
            state.best_epoch, state.best = state.epoch, asdict(scores)
        save_epoch(self.folder, state, self.model, self.average, self.optimizer, self._facts())
        self._show()

    def _chosen(self) -> BlurModel:
        """Give the network that is validated."""
        return self.average if self.average is not None else self.model

    def _show(self) -> None:
        """Write the last epoch's row for TensorBoard, and let the caller see its network."""
        chosen = self._chosen()
        self.board.write(self.state.history[-1])
        was_training = chosen.training
        self.on_epoch(chosen.eval(), self.state)
        chosen.train(was_training)

    def _row(
        self, mean_loss: float, scores: Scores, seconds: float, pictures: int
    ) -> dict[str, Any]:
        last_step = self.state.epoch * self.steps - 1
        values = (
            self.state.epoch,
            learning_rate(self.config, last_step, self.steps),
            mean_loss,
            scores.mae,
            scores.rmse,
            scores.spearman,
            seconds,
            pictures / seconds,
        )
        return dict(zip(COLUMNS, values, strict=True))

    def _facts(self) -> dict[str, Any]:
        return {
            "config": self.config.facts(),
            "data": dict(self.feed.facts),
            "processes": self.fabric.world_size,
            **self.state.facts(),
        }

    def _text(self) -> str:
        state = self.state
        text = f"epoch {state.epoch + 1} of {self.config.epochs}"
        if state.history:
            text += f", MAE {state.history[-1]['val_mae']:.4f} (best {state.best['mae']:.4f})"
        return text


def _moved(batches: Iterator[Pictures], device: torch.device) -> Iterator[Pictures]:
    """Bring batches to a device, in the thread that makes them."""
    for batch in batches:
        yield batch._replace(pictures=batch.pictures.to(device), degrees=batch.degrees.to(device))
