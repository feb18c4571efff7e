"""What training runs of every kind share: how far they are, averages, logs, comparisons."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from blurgate.errors import ConfigError
from blurgate.files import write_atomically
from blurgate.training import checkpoints

__all__ = [
    "BEST",
    "LAST",
    "LOG",
    "OnStep",
    "TrainState",
    "begin_with",
    "checkpoint_of",
    "compare",
    "freeze_norms",
    "restore",
    "run_names",
    "run_weights",
    "save_epoch",
    "update_average",
]

LAST: Final = "last.safetensors"
BEST: Final = "best.safetensors"
LOG: Final = "log.csv"

OnStep = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, a line of text)."""

Reader = Callable[[str, nn.Module], Mapping[str, torch.Tensor]]
"""Gives a whole state dict for a network; called with a name or a path."""


@dataclass(slots=True)
class TrainState:
    """How far a run is, and what came of it."""

    epoch: int = 0
    """Whole epochs that are done."""
    best_epoch: int = 0
    """The epoch, counted from 1, of the best validation; 0 before the first."""
    best: dict[str, Any] = field(default_factory=dict)
    """That epoch's scores, as plain values."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row of log.csv per epoch."""

    def is_over(self, epochs: int, patience: int) -> bool:
        """Say whether all epochs are done, or as many as the patience have brought nothing."""
        return self.epoch >= epochs or 0 < patience <= self.epoch - self.best_epoch

    def facts(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)


def checkpoint_of(run: str) -> Path:
    """Give the checkpoint that a run's folder or a checkpoint's path stands for."""
    path = Path(run)
    return path / BEST if path.is_dir() else path


def run_weights(run: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """Read the weights of an earlier run, averaged ones where it has them.

    Args:
        run: A run's folder, whose best weights are taken, or a checkpoint.
        network: That they are for; not changed.

    Raises:
        WeightsError: There is no such checkpoint.
        ConfigError: It is of a network of another shape.
    """
    file = checkpoint_of(run)
    tensors, _ = checkpoints.load(file)
    for prefix in ("ema", "model"):
        tensors = checkpoints.select(tensors, prefix) or tensors
    own = {name: value.shape for name, value in network.state_dict().items()}
    if {name: value.shape for name, value in tensors.items()} != own:
        raise ConfigError(
            f"{file} does not fit the network: give it the shape that it had in that run"
        )
    return tensors


def begin_with(network: nn.Module, runs: Sequence[str], read: Reader = run_weights) -> None:
    """Take a network's weights from earlier runs.

    Of several the mean is taken, which does well where one run began with another: a model soup
    (Wortsman et al., 2022, arXiv 2203.05482).

    Args:
        network: Changed in place.
        runs: What is read.
        read: Gives a run's weights for the network.

    Raises:
        WeightsError: There is no such run.
        ConfigError: One is of a network of another shape.
    """
    sums: dict[str, torch.Tensor] = {}
    for run in runs:
        tensors = read(run, network)
        for name, value in tensors.items():
            sums[name] = sums[name] + value.double() if name in sums else value.double()
    own = network.state_dict()
    network.load_state_dict({k: (v / len(runs)).to(own[k].dtype) for k, v in sums.items()})


def freeze_norms(network: nn.Module) -> None:
    """Let every batch normalisation keep its statistics, whatever the network is shown.

    What is trained then is the network that will run: a batch's own statistics depend on what else
    is in it. Lasts until the network's mode is set.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def device_name(device: torch.device) -> str:
    """Give what a card calls a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def run_names(runs: Sequence[str]) -> str:
    """Give the names of runs, of their folders or of checkpoints in them, for a card.

    >>> run_names(["runs/first/last.safetensors", "second"])
    'first, second'
    """
    paths = map(Path, runs)
    return ", ".join(p.parent.name if p.suffix == ".safetensors" else p.name for p in paths)


def compare(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Check that a checkpoint's facts are a run's.

    A key that the checkpoint's version did not know yet may be there if it is off.

    Raises:
        ConfigError: One differs.
    """
    for key in {**old, **new}:
        is_new_and_off = key not in old and not new[key]
        if old.get(key) == new.get(key) or is_new_and_off:
            continue
        if key == "sha256":  # of the data; two digests tell people nothing
            why = "its training data has changed since it was begun; use the same data"
        else:
            why = (
                f"it was begun with {key} = {old.get(key)!r}, now it is {new.get(key)!r}; use the "
                "same settings"
            )
        raise ConfigError(f"cannot resume {path.parent}: {why}, --overwrite, or another --out")


def restore(
    path: Path,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    now: Mapping[str, Any],
) -> TrainState:
    """Bring a run to where `checkpoints.save_run` left it.

    Args:
        path: The checkpoint.
        model: Changed in place, as are the average and the optimiser's state.
        average: Averaged weights, if the run has them.
        optimizer: Of the model's parameters.
        now: The facts that would be saved now. All but those of a `TrainState` must be
            the checkpoint's.

    Raises:
        ConfigError: It was begun with other settings or other data.
        WeightsError: There is no such checkpoint.
    """
    tensors, facts = checkpoints.load(path)
    own = TrainState().facts().keys()
    for key in (key for key in now if key not in own):
        old, new = facts[key], now[key]
        nested = isinstance(new, Mapping)
        compare(path, old if nested else {key: old}, new if nested else {key: new})
    model.load_state_dict(checkpoints.select(tensors, "model"))
    if average is not None:
        average.load_state_dict(checkpoints.select(tensors, "ema"))
    checkpoints.restore_optimizer(optimizer, tensors)
    return TrainState(**{key: facts[key] for key in own})


def save_epoch(
    folder: Path,
    state: TrainState,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write what an epoch has left: its weights if they are the best, log.csv, the checkpoint.

    The checkpoint comes last: a run that goes on does not look at an epoch again that is in it.
    What was validated are the averaged weights, if the run has them.
    """
    if state.best_epoch == state.epoch:
        chosen = average if average is not None else model
        checkpoints.save(folder / BEST, chosen.state_dict(), facts)
    write_atomically(folder / LOG, _log_lines(state.history))
    checkpoints.save_run(folder / LAST, model, average, optimizer, facts)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, number: int) -> None:
    """Move averaged weights towards the model's; statistics and counters likewise.

    Early on, the average is over the steps there are: it must not remember the first weights.
    """
    move = get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
        min(decay, (1 + number) / (10 + number))
    )
    pairs = [
        pair
        for kind in (nn.Module.parameters, nn.Module.buffers)
        for pair in zip(kind(average), kind(model), strict=True)
    ]
    floating = [pair for pair in pairs if pair[0].is_floating_point()]
    # All at once: on a GPU a small network's hundreds of tensors take longer than its step.
    move([old for old, _ in floating], [new for _, new in floating], 0)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def _log_lines(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Give the text of log.csv."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[-1]), lineterminator="\n")
    table.writeheader()
    for row in history:
        table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    yield text.getvalue()
