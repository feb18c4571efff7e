"""Checkpoints: tensors and the facts about them in one safetensors file.

A file is there whole or not at all. The facts are JSON in its header. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from blurgate.errors import WeightsError
from blurgate.files import written_whole

__all__ = ["load", "optimizer_tensors", "restore_optimizer", "save", "save_run", "select"]

FACTS: Final = "blurgate"
_OPTIMIZER: Final = "optimizer"


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: Where to; an older file is replaced in one step.
        tensors: Name -> tensor, on any device.
        facts: Plain values.
    """
    # A copy each: safetensors refuses tensors that share memory, and tied weights do.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = serialize(plain, metadata={FACTS: json.dumps(facts)})
    with written_whole(path) as temporary:
        temporary.write_bytes(data)  # save_file would hide what the system says of a full disk


def save_run(
    path: Path,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write all that a run needs to go on: weights, averaged weights, the optimiser's state."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average is not None:
        tensors |= {f"ema.{name}": value for name, value in average.state_dict().items()}
    save(path, tensors | optimizer_tensors(optimizer), facts)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Returns:
        The tensors, on the CPU, and the facts.

    Raises:
        WeightsError: The file is missing, damaged, or no checkpoint of blurgate.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        line = str(error).partition("\n")[0]
        raise WeightsError(
            f"{path} is not a checkpoint of blurgate train: {line}", path=str(path)
        ) from error


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Give the tensors under a prefix, without it.

    >>> list(select({"model.a": torch.zeros(1), "ema.a": torch.zeros(1)}, "ema"))
    ['a']
    """
    start = f"{prefix}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Give an optimiser's state as tensors, named by the number of their parameter."""
    return {
        f"{_OPTIMIZER}.{number}.{key}": torch.as_tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; the parameter groups stay as they are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in select(tensors, _OPTIMIZER).items():
        number, _, key = name.partition(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:  # laid out in memory like it, which is fastest
            value = torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value)
        state.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
