"""Networks for `blurgate bench`: the same model in torch, and backbones that nobody has trained.

And how fast one of them trains.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blurgate.benching import Subject
from blurgate.cards import object_in
from blurgate.errors import BlurgateError
from blurgate.host import get_host
from blurgate.interfaces import ModelFile, ModelInfo, Runtime
from blurgate.training.export import card_facts, export
from blurgate.training.loop import make_fabric, prepare
from blurgate.training.loss_sums import parse_loss
from blurgate.training.model import build_model, model_of

if TYPE_CHECKING:
    from blurgate.benching import Call
    from blurgate.training.batches import Pictures
    from blurgate.training.config import TrainConfig
    from blurgate.training.model import BlurModel
    from blurgate.types import U8

__all__ = ["rate", "torch_calls", "training_steps", "untrained"]


def torch_calls(about: Mapping[str, Any], threads: Sequence[int]) -> dict[tuple[str, int], Call]:
    """Give the torch side of a model that was trained here; its weights do not matter for speed.

    Args:
        about: The card's facts; `backbone`, `backbone_options` and `training.head` say what it is.
        threads: Threads of torch, each timed.

    Returns:
        Empty where the card does not name a backbone that is registered here, and for 8-bit twins.
    """
    if "int8" in about:
        return {}
    backbone, head = about.get("backbone"), object_in(about, "training").get("head", "regression")
    try:
        options = object_in(about, "backbone_options")
        model = build_model(str(backbone), head=str(head), options=options)
    except BlurgateError:
        return {}
    return _calls(model, threads)


def untrained(backbone: str, folder: Path, threads: Sequence[int]) -> Subject:
    """Export a backbone with drawn weights and one output, to see what it will cost.

    Args:
        backbone: A registered name or alias.
        folder: Where the ONNX file goes.
        threads: Threads of both runtimes, each timed.

    Raises:
        UnknownNameError: There is no such backbone.
        ModelError: It cannot be exported.
    """
    name = get_host().registry("backbone")[backbone].name
    torch.manual_seed(0)
    model = build_model(name)
    path = folder / f"{name}.onnx"
    facts = card_facts(name, threshold=0.5)
    export(model, path, facts)
    file = ModelFile(path, ModelInfo(name, ""), facts)
    make = get_host().registry("scorer")["onnx"].make
    calls: dict[tuple[str, int], Call] = {
        ("onnxruntime", n): make(file, Runtime("cpu", n)) for n in threads
    }
    about = {"parameters": sum(p.numel() for p in model.parameters())}
    return Subject(name, path.stat().st_size, about, calls | _calls(model, threads))


def _calls(model: BlurModel, threads: Sequence[int]) -> dict[tuple[str, int], Call]:
    model.eval()

    def on(count: int) -> Call:
        def call(crops: U8) -> object:
            torch.set_num_threads(count)
            with torch.inference_mode():
                return model.degree(prepare(torch.from_numpy(crops).permute(0, 3, 1, 2)))

        return call

    return {("torch", count): on(count) for count in threads}


def rate(batches: Iterator[int], seconds: float, device: torch.device) -> float:
    """Give pictures per second of what yields numbers of pictures, after a quarter to warm up."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    warm = now() + seconds / 4
    while time.perf_counter() < warm:
        next(batches)
    began, count = now(), 0
    while time.perf_counter() < began + seconds:
        count += next(batches)
    return count / (now() - began)


def training_steps(config: TrainConfig, some: Pictures, device: torch.device) -> Iterator[int]:
    """Train on one batch again and again; gives its size after every step.

    Args:
        config: Backbone, head, loss and precision.
        some: The batch.
        device: Where to train.
    """
    torch.manual_seed(0)
    fabric = make_fabric(device, config.precision)
    model = model_of(config).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-3))
    loss = parse_loss(config.loss)
    pictures, degrees = some.pictures.to(device), some.degrees.to(device)
    while True:
        fabric.backward(loss(wrapped(prepare(pictures)), degrees))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield len(pictures)
