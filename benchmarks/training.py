"""How many pictures a second: making them, training on them, and both at once.

    python benchmarks/training.py FACES --embedder arcface.onnx [--align] [--detector scrfd.onnx]
        [--plugin mobilenetv2_0.25] [--device cuda] [--batch 64] [--seconds 20] [--set KEY=VALUE]

FACES are blurred and labelled on the fly, as `blurgate train --faces` does; "both" is that
command's own loop. `--data DIR` measures a folder of `blurgate synth`, and how long 100,000
pictures take. Wall clock; the first part of each measurement warms up and does not count.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from blurgate.training import loop
from blurgate.training.batches import Feed, Pictures
from blurgate.training.bench import rate, training_steps
from blurgate.training.config import TrainConfig, make_config
from blurgate.training.feeds import open_feed
from blurgate.training.loss_sums import parse_loss
from blurgate.training.model import model_of
from blurgate.training.settings import parse_settings
from blurgate.training.train import choose_device


def endless(feed: Feed, batch: int) -> Iterator[Pictures]:
    """Give the batches of epoch after epoch."""
    for epoch in itertools.count():
        yield from feed.train(epoch, batch)


def made(feed: Feed, batch: int) -> Iterator[int]:
    """Make pictures and do nothing with them."""
    for some in endless(feed, batch):
        yield len(some.pictures)


def both(feed: Feed, config: TrainConfig, seconds: float, device: torch.device) -> float:
    """Give the rate of the real loop, from its own steps."""

    class EnoughError(Exception):
        pass

    began: list[tuple[float, int]] = []

    def on_step(done: int, total: int, text: str) -> None:
        if device.type == "cuda" and done % 20 == 0:
            torch.cuda.synchronize(device)
        began.append((time.perf_counter(), done))
        if began[-1][0] - began[0][0] > seconds * 1.25:
            raise EnoughError

    config = replace(config, epochs=1000)
    with tempfile.TemporaryDirectory() as folder:
        fabric = loop.make_fabric(device, config.precision)
        model = model_of(config)
        loss, out = parse_loss(config.loss), Path(folder)
        with suppress(EnoughError):
            loop.fit(model, loss, feed, config, out, fabric=fabric, on_step=on_step)
    start = next(entry for entry in began if entry[0] - began[0][0] > seconds / 4)
    last = began[-1]
    return (last[1] - start[1]) * config.batch / (last[0] - start[0])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", nargs="*")
    parser.add_argument("--data")
    parser.add_argument("--embedder", default="")
    parser.add_argument("--detector", default="")
    parser.add_argument("--align", action="store_true")
    parser.add_argument("--plugin", default="mobilenetv2_0.25")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if bool(arguments.faces) == bool(arguments.data):
        parser.error("give FACES or --data DIR")
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    config = TrainConfig(
        backbone=arguments.plugin,
        data=(arguments.data,) if arguments.data else (),
        faces=tuple(arguments.faces),
        align=arguments.align,
        embedder=arguments.embedder,
        detector=arguments.detector,
        batch=arguments.batch,
        precision=arguments.precision,
        val=0.05,
    )
    config = make_config(config.facts(), parse_settings(arguments.set))
    feed = open_feed(config, device=str(device), workers=arguments.threads)
    data = rate(made(feed, config.batch), arguments.seconds, device)
    some = next(iter(feed.train(0, config.batch)))
    training = rate(training_steps(config, some, device), arguments.seconds, device)
    together = both(feed, config, arguments.seconds, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"{config.backbone}, batch {config.batch}, {config.precision}, {name}, "
        f"{arguments.threads} threads, torch {torch.__version__}\n"
    )
    print("| | pictures/s |\n| --- | --- |")
    print(f"| data alone | {data:,.0f} |\n| training alone | {training:,.0f} |")
    print(f"| both | {together:,.0f} |")
    print(f"\n100,000 pictures: {100_000 / together / 3600:.2f} hours")


if __name__ == "__main__":
    main()
