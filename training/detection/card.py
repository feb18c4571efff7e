"""The card of a trained detector, as JSON for programs and as Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from blurgate.training.card import run_facts, table_of, time_ms, write_files
from blurgate.training.detection.config import DetectionConfig
from blurgate.training.detection.network import DetectorNet, count_macs
from blurgate.training.detection.scores import DetectionScores
from blurgate.training.runs import TrainState, device_name

__all__ = ["about", "number", "validation_facts", "write_card"]

RUNS: Final = 30
_FROM_CONFIG: Final = (
    "size",
    "close",
    "pictures",
    "epochs",
    "batch",
    "lr",
    "warmup",
    "weight_decay",
    "ema",
    "box_weight",
    "kps_weight",
    "mimic",
    "freeze_norm",
    "learn_from",
    "precision",
)
_SHAPE: Final = ("stem", "widths", "depths", "neck", "head", "stacked")


def about(
    config: DetectionConfig,
    data: Mapping[str, Any],
    state: TrainState,
    network: DetectorNet,
    device: torch.device,
) -> dict[str, Any]:
    """Give what is known about a detector before its file exists."""
    facts = config.facts()
    return {
        "architecture": config.detector,
        "shape": {key: facts[key] for key in _SHAPE},
        "parameters": sum(p.numel() for p in network.parameters()),
        "gflops_480x640": round(count_macs(network, 480, 640) / 1e9, 3),
        **run_facts(config, _FROM_CONFIG, data, state, device_name(device)),
    }


def validation_facts(scores: DetectionScores) -> dict[str, Any]:
    """Give scores for the card; None what could not be measured, since JSON knows no NaN."""
    return {key: None if math.isnan(value) else value for key, value in asdict(scores).items()}


def number(value: float | None) -> str:
    """Give a score for people.

    >>> number(0.51), number(None), number(float("nan"))
    ('0.5100', 'not measured', 'not measured')
    """
    return "not measured" if value is None or math.isnan(value) else f"{value:.4f}"


def write_card(
    path: Path, card: Mapping[str, Any], difference: float, *, runs: int = RUNS
) -> dict[str, Any]:
    """Write `<stem>.json` and `<stem>.md` beside an ONNX file.

    Args:
        path: The ONNX file; its size and speed are measured.
        card: The card that the file holds.
        difference: Between torch and onnxruntime.
        runs: Calls that are timed; on a machine that is shared more of them tell more.

    Returns:
        The card with what was measured.
    """
    spent = {"384x640": time_ms(path, (1, 3, 384, 640), runs)}
    return write_files(path, card, spent, difference, _markdown)


def _markdown(file: str, card: Mapping[str, Any]) -> Iterator[str]:
    facts = card["about"]
    data, found, speed = facts["data"], facts["validation"], facts["latency_ms"]
    landmarks = number(found["kps_error"])
    if found["kps_error"] is not None:
        landmarks += " of the distance of the eyes"
    rows = {
        "file": f"`{file}`, {facts['bytes'] / 1e6:.3f} MB, {facts['parameters']:,} parameters, "
        f"{facts['gflops_480x640']} GFLOPs at 480 x 640 (multiplications)",
        "architecture": f"{facts['architecture']}; "
        + ", ".join(f"{key} {value}" for key, value in facts["shape"].items()),
        "input": "pictures of any size in multiples of 32, RGB, (pixel - 127.5) / 128",
        "output": "scores, boxes and five landmarks, as the runner `scrfd` reads them",
        "validation": f"AP {number(found['ap'])} at IoU 0.5, recall {number(found['recall'])} at "
        f"score 0.5, landmark error {landmarks}; {found['faces']} faces in composed pictures",
        "latency": f"{speed['384x640']} ms for 384 x 640 ({speed['how']})",
        "training data": f"{data['train']} pictures with {data['faces']} faces, "
        f"{data['background']} without; validation: {data['val']} with {data['faces_val']}",
        "training": f"{facts['epochs_done']} epochs, the best was {facts['best_epoch']}; "
        + ", ".join(f"{k} {v}" for k, v in facts["training"].items() if k != "epochs"),
        **({"begun with": facts["begun_with"]} if "begun_with" in facts else {}),
        **({"teacher": data["teacher"]} if "teacher" in data else {}),
        "seed": facts["seed"],
        "trained on": f"{facts['trained_on']}, {facts['seconds']} s",
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        "commit": facts["commit"] or "unknown",
        "torch against onnxruntime": f"at most {facts['torch_against_onnxruntime']:.2g} apart",
        "licence": card["licence"],
        "source": card["source"],
    }
    yield from table_of(card["name"], rows)
    yield (
        "\nThe licence of a detector also depends on the pictures that it was trained with, and on "
        "the teacher if a model labelled them.\n"
    )
