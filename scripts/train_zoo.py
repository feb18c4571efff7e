"""Train many blur models one after the other on a GPU, in the time there is.

    python scripts/train_zoo.py FACES... --embedder arcface.onnx --plan small --minutes 9 --out RUNS
    python scripts/train_zoo.py --finish RUNS --data TRAINSET [--kinds NAME]

FACES are folders of aligned faces (`scripts/align_faces.py`). All models see the same pictures,
which the first one's training makes (`fresh`); each gets a share of the minutes, and as many epochs
as its own speed, measured beforehand, makes of that. RUNS/<name> is a run of `blurgate train`, and
RUNS/<name>/config.yaml says how to repeat it alone.

--finish exports what was trained, here or elsewhere, to RUNS/<name>/<name>.onnx with its card. It
needs a folder of `blurgate synth` to check the files on, and trains the head for kinds there.
"""

from __future__ import annotations

import argparse
import csv
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from blurgate.training import checkpoints, loop
from blurgate.training.batches import Feed
from blurgate.training.bench import rate, training_steps
from blurgate.training.config import TrainConfig, make_config
from blurgate.training.feeds import FolderFeed, open_feed
from blurgate.training.kinds import fit_kinds
from blurgate.training.loss_sums import parse_loss
from blurgate.training.model import model_of
from blurgate.training.runs import BEST, TrainState, device_name
from blurgate.training.settings import parse_settings, parse_yaml, preset_names, read_config
from blurgate.training.train import CONFIG, export_run

BASE: Final = {
    "identity": "name",
    "val": 0.08,
    "size": 160,
    "one_size": True,
    "harsh": 0.4,
    "even": True,
    "per_face": 6,
    "val_per_face": 8,
    "batch": 512,
    "lr": 0.003,
    "ema": 0.999,
    "clip": 1.0,
    "precision": "bf16",
    "seed": 1,
}
_MEASURED_S: Final = 1.5


class Run(NamedTuple):
    """One training."""

    name: str
    backbone: str
    share: float
    """Of the plan's minutes."""
    options: dict[str, Any]


BINS: Final = {"head": "bins40", "loss": "cmse"}


def _heads(share: float) -> list[Run]:
    """Give the original's heads and losses, which are presets, for ResNet18."""
    runs = []
    for preset in preset_names():
        if preset.startswith("original_resnet18_"):
            config = make_config(read_config(preset, TrainConfig))
            own = {"head": config.head, "loss": config.loss, "ema": 0.99, "lr": 0.002}
            runs.append(Run(preset.removeprefix("original_"), "resnet18", share, own))
    return runs


PLANS: Final = {
    "small": [
        Run("mobilenetv2_0.25", "mobilenetv2_0.25", 0.3, BINS),
        Run("mobilenetv2_0.25_huber", "mobilenetv2_0.25", 0.2, {}),
        Run("mobilenetv2_0.5", "mobilenetv2_0.5", 0.2, BINS),
        Run("yolov5n_xx", "yolov5n_xx", 0.18, BINS),
        Run("squeezenet1_1", "squeezenet1_1", 0.12, BINS | {"lr": 0.002}),
    ],
    "large": [
        Run("edgenext_xx_small", "edgenext_xx_small", 0.2, BINS | {"lr": 0.002}),
        *_heads(0.05),
        Run("resnet34", "resnet34", 0.15, BINS | {"lr": 0.002}),
        Run("efficientnet_lite0", "efficientnet_lite0", 0.14, BINS | {"lr": 0.002}),
        Run("yolov5n_x", "yolov5n_x", 0.11, BINS),
    ],
}
"""What is trained in one go, the most wanted first."""


def train(arguments: argparse.Namespace) -> None:
    """Train a plan's models."""
    device = torch.device(arguments.device)
    began = time.perf_counter()
    given = {"faces": arguments.faces, "embedder": arguments.embedder, "fresh": arguments.fresh}
    base = make_config(BASE, given, parse_settings(arguments.set))
    feed = open_feed(base, device=str(device), workers=arguments.workers)
    end = began + arguments.minutes * 60
    runs = PLANS[arguments.plan]
    print(f"{feed.facts['train']} faces after {time.perf_counter() - began:.1f} s", flush=True)
    # The first pictures are made while nobody learns from them, so that all runs are timed alike.
    for epoch in range(base.fresh):
        for _ in feed.train(epoch, base.batch):
            if time.perf_counter() > end:
                return
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    print(f"pictures made after {time.perf_counter() - began:.1f} s", flush=True)
    for number, run in enumerate(runs):
        left = end - time.perf_counter()
        share = run.share / sum(later.share for later in runs[number:])
        own = {"backbone": run.backbone, "name": run.name}
        config = make_config(base.facts(), run.options, own)
        try:
            some = next(iter(feed.val(config.batch)))
            speed = rate(training_steps(config, some, device), _MEASURED_S, device)
            pictures = feed.steps(config.batch) * config.batch
            epochs = max(int(share * left * speed * arguments.slack / pictures), 1)
            text = f"{run.name}: {speed:.0f} pictures/s, {epochs} epochs, {left:.0f} s left"
            print(text, flush=True)
            if share * left < pictures / speed / 2:
                print(f"{run.name}: no time", flush=True)
                continue
            _fit(replace(config, epochs=epochs), feed, arguments.out / run.name, device)
        except Exception:  # noqa: BLE001 - the others are to be trained all the same
            traceback.print_exc()


def _fit(config: TrainConfig, feed: Feed, folder: Path, device: torch.device) -> None:
    torch.manual_seed(config.seed)
    model = model_of(config)
    fabric = loop.make_fabric(device, config.precision)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    done = loop.fit(model, parse_loss(config.loss), feed, config, folder, fabric=fabric)
    facts = {
        "config": config.facts(),
        "data": dict(feed.facts),
        "device": device_name(device),
        **done.facts(),
    }
    checkpoints.save(folder / BEST, model.state_dict(), facts)
    best, last = done.best, done.history[-1]
    print(
        f"{folder.name}: MAE {best['mae']:.4f}, rho {best['spearman']:.4f}, epoch {done.best_epoch}"
        f" of {done.epoch}, {last['pictures_per_s']:.0f} pictures/s at last",
        flush=True,
    )


def finish(arguments: argparse.Namespace) -> None:
    """Export what was trained."""
    data = [Path(folder) for folder in arguments.data]
    seen = next(iter(FolderFeed(data).val(64))).pictures
    for path in sorted(arguments.finish.glob(f"*/{BEST}")):
        tensors, facts = checkpoints.load(path)
        text = (path.parent / CONFIG).read_text(encoding="utf-8")
        config = make_config(parse_yaml(text, str(path)))
        name = config.name or config.backbone
        if "device" not in facts:
            print(f"{name}: interrupted", flush=True)
        model = model_of(config)
        model.load_state_dict({key: value.float() if value.is_floating_point() else value
                               for key, value in tensors.items()})  # fmt: skip
        state = TrainState(**{key: facts[key] for key in TrainState().facts()})
        kinds = fit_kinds(model, data, seed=config.seed) if name in arguments.kinds else None
        config = replace(config, licence=arguments.licence)
        device = facts.get("device", "GPU")
        out, _ = export_run(
            model.eval(), config, path.parent, facts["data"], state,
            device=device, pictures=seen, kinds=kinds,
        )  # fmt: skip
        print(f"{out}: MAE {state.best['mae']:.4f}, rho {state.best['spearman']:.4f}", flush=True)
    rows = []
    for log in sorted(arguments.finish.glob("*/log.csv")):
        with log.open(newline="", encoding="utf-8") as file:
            epochs = list(csv.DictReader(file))
        best = min(epochs, key=lambda epoch: float(epoch["val_mae"]))
        seconds = sum(float(epoch["seconds"]) for epoch in epochs)
        scores = [f"{float(best[key]):.4f}" for key in ("val_mae", "val_rmse", "val_spearman")]
        rows.append([log.parent.name, *scores, best["epoch"], str(len(epochs)), f"{seconds:.0f}"])
    print("| run | MAE | RMSE | rho | best epoch | epochs | s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main() -> None:
    """Train, or finish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("faces", nargs="*", metavar="FACES")
    add("--embedder", default="")
    add("--plan", choices=sorted(PLANS), default="small")
    add("--minutes", type=float, default=9.0)
    add("--slack", type=float, default=0.92, help="share of a run's time that is for its steps")
    add("--fresh", type=int, default=10)
    add("--device", default="cuda")
    add("--workers", type=int, default=4)
    add("--set", action="append", default=[], metavar="KEY=VALUE")
    add("--out", type=Path)
    add("--finish", type=Path, metavar="RUNS")
    add("--data", nargs="+", default=[], metavar="TRAINSET")
    add("--kinds", action="append", default=[], metavar="NAME")
    add("--licence", default="")
    arguments = parser.parse_args()
    if arguments.finish:
        finish(arguments)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
