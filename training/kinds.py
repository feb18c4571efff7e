"""What kind of blur: a second, tiny head on the early layers of a trained network.

Motion, defocus and low resolution look different long before they are told apart from identity, so
the head reads the first layers only: for every channel the mean, the deviation, and the mean
absolute differences along the rows and the columns, which is where a direction shows. The network
itself stays as it is, and so does every blur degree. Truth is what the synthesizers wrote down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.nn.modules.batchnorm import _BatchNorm

from blurgate.errors import ConfigError
from blurgate.interfaces import Runtime
from blurgate.pipeline import ordered_map
from blurgate.runtime import make_session, run
from blurgate.training import layout
from blurgate.training.loop import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.model import BlurModel

__all__ = [
    "KINDS",
    "KindHead",
    "Kinds",
    "check_learnable",
    "fit_kinds",
    "measure_kinds",
    "read_kinds",
    "taps",
]

KINDS: Final = ("sharp", "motion", "defocus", "lowres")
SHARP_BELOW: Final = 0.1
"""A face that has lost less than this is sharp, whatever was done to it."""
COUNTED_ABOVE: Final = 0.2
"""Accuracy is counted above this degree; below it, kinds hardly differ."""
LEAST_ACCURACY: Final = 0.85
"""A head that is right less often is not exported; nor is one that has not met every kind."""
OUTPUTS: Final = ("kind", "direction")
"""What an exported model calls the answers."""
TAPS: Final = 5
"""Early layers that are read: more were no better."""
HIDDEN: Final = 32
EPOCHS: Final = 25
_SPLITS: Final = ("train", "val")

_ACTIVATIONS: Final = nn.ReLU.__module__
_KIND_OF: Final = {
    "linear": "motion",
    "deblurgan": "motion",
    "defocus": "defocus",
    "gaussian": "defocus",
    "lowres": "lowres",
}


@dataclass(frozen=True, slots=True, eq=False)
class KindRows:
    """Pictures whose kind of blur is known."""

    folder: Path
    files: list[str]
    kind: NDArray[np.int64]
    """(n,) positions in `KINDS`."""
    angle: NDArray[np.float32]
    """(n,) degrees of straight motion, counter-clockwise from the horizontal; NaN for the rest."""
    degree: NDArray[np.float32]
    """(n,) true blur degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """A trained head and how right it is."""

    head: KindHead
    facts: dict[str, Any]
    """For the card: accuracy, confusion over `KINDS` (rows true), median error of the angle; and
    `missing`, the kinds of which there was no picture to learn from or to be validated on."""

    @property
    def good(self) -> bool:
        """Whether it may be shipped."""
        return bool(self.facts["accuracy"] > LEAST_ACCURACY and not self.facts["missing"])


def read_kinds(folder: Path, split: str) -> KindRows:
    """Read one part of a folder of `blurgate synth`; rows of other methods are left out.

    Raises:
        InputError: The folder holds no dataset, or a damaged one.
    """
    files, kinds, angles, degrees = [], [], [], []
    for method in layout.read_settings(folder)["methods"]:
        for row in layout.read_rows(folder, method):
            blur = _single_blur(row)
            kind = _KIND_OF.get(str(blur.get("method", method)))
            if row["split"] != split or kind is None:
                continue
            degree = float(row["label"])
            files.append(row["file"])
            kinds.append(KINDS.index("sharp" if degree < SHARP_BELOW else kind))
            # Of a shake it is the way on which a bent path began.
            straight = blur.get("method", method) == "linear"
            angles.append(float(blur["angle_deg"]) if straight else np.nan)
            degrees.append(degree)
    return KindRows(
        folder,
        files,
        np.array(kinds, np.int64),
        np.array(angles, np.float32),
        np.array(degrees, np.float32),
    )


def _single_blur(row: dict[str, str]) -> dict[str, Any]:
    """Give what was done by the one blur of a row; several at once have no one kind."""
    blur: dict[str, Any] = json.loads(row["parameters"]).get("blur", {})
    return {"method": "several"} if "steps" in blur else blur


def _tapped(backbone: nn.Module) -> list[nn.Module]:
    """Give the layers that are read; a convolution, its normalisation and its activation are one.

    Args:
        backbone: Has its layers in an `nn.Sequential`, its first one.

    Raises:
        ConfigError: The backbone is built otherwise.
    """
    inner = next((m for m in backbone.children() if isinstance(m, nn.Sequential)), None)
    parts = [] if inner is None else list(inner)
    layers = [
        layer
        for layer, after in pairwise([*parts, nn.Identity()])
        if not isinstance(after, _BatchNorm) and type(after).__module__ != _ACTIVATIONS
    ]
    if len(layers) < TAPS:
        raise ConfigError(
            f"the kind of blur needs a backbone with an nn.Sequential of at least {TAPS} layers"
        )
    return layers[:TAPS]


def taps(backbone: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run a backbone and keep what its first layers give.

    Args:
        backbone: Has its layers in an `nn.Sequential`, its first one.
        images: (n, 3, 112, 112).

    Returns:
        The features, and the (n, c, h, w) outputs of the first `TAPS` layers.

    Raises:
        ConfigError: The backbone is built otherwise.
    """
    layers = _tapped(backbone)
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        features = backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return features, seen


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Describe feature maps by four numbers per channel: (n, 4 * channels)."""
    parts = []
    for values in maps:
        mean = values.mean((2, 3))
        spread = (values - mean[:, :, None, None]).square().mean((2, 3)).sqrt()
        across = (values[:, :, :, 1:] - values[:, :, :, :-1]).abs().mean((2, 3))
        down = (values[:, :, 1:] - values[:, :, :-1]).abs().mean((2, 3))
        parts += [mean, spread, across, down]
    return torch.cat(parts, 1)


class KindHead(nn.Module):
    """Tells the kind of blur and, for motion, its direction.

    Args:
        inputs: Numbers that `pooled` gives.

    Shape:
        (n, inputs) -> (n, 4) probabilities in the order of `KINDS`, and (n, 2) the cosine and sine
        of twice the angle, because a line has no front.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.layers = nn.Sequential(
            nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, len(KINDS) + 2)
        )

    def raw(self, described: Tensor) -> Tensor:
        """Give logits of the kinds and the direction, (n, 6)."""
        out: Tensor = self.layers((described - self.mean) / self.deviation)
        return out

    def forward(self, described: Tensor) -> tuple[Tensor, Tensor]:
        """Give probabilities and direction."""
        out = self.raw(described)
        return out[:, : len(KINDS)].softmax(1), out[:, len(KINDS) :]


def check_learnable(backbone: nn.Module, folders: Sequence[Path]) -> None:
    """Refuse what `fit_kinds` could not learn from, before anything is trained.

    Raises:
        ConfigError: The folders hold no pictures of known kinds, or the backbone cannot be tapped.
        InputError: A folder is damaged.
    """
    _tapped(backbone)
    for split in _SPLITS:
        _read_part(folders, split)


def _read_part(folders: Sequence[Path], split: str) -> list[KindRows]:
    """Read one part of folders that hold something to learn from, or to measure on."""
    parts = [read_kinds(folder, split) for folder in folders]
    if not any(part.files for part in parts):
        raise ConfigError(
            f"{' and '.join(map(str, folders))}: no pictures of known kinds of blur; make them "
            "with blurgate synth --blur random"
        )
    return parts


def fit_kinds(
    model: BlurModel, folders: Sequence[Path], *, seed: int = 0, workers: int = 1
) -> Kinds:
    """Train the head on folders of `blurgate synth`, and measure it on their validation parts.

    Args:
        model: Trained; is not changed.
        folders: The data.
        seed: Decides weights and order.
        workers: Threads that read pictures.

    Raises:
        ConfigError, InputError: As from `check_learnable`.
    """
    torch.manual_seed(seed)
    parts = {
        split: [_described(model, rows, workers) for rows in _read_part(folders, split)]
        for split in _SPLITS
    }
    x, kind, angle, _ = _joined(parts["train"])
    val = _joined(parts["val"])
    head = KindHead(x.shape[1])
    head.mean.copy_(x.mean(0))
    head.deviation.copy_(x.std(0) + 1e-5)
    twice = torch.deg2rad(2 * angle)
    wanted = torch.stack([twice.cos(), twice.sin()], 1)
    moved = ~angle.isnan() & (kind == KINDS.index("motion"))
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    head.train()
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(x)), 256):
            out = head.raw(x[rows])
            loss = F.cross_entropy(out[:, : len(KINDS)], kind[rows])
            known = moved[rows]
            if known.any():
                loss = loss + F.mse_loss(out[known, len(KINDS) :], wanted[rows][known])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        schedule.step()
    head.eval()
    seen = set(kind.tolist()) & set(val[1].tolist())
    missing = [name for i, name in enumerate(KINDS) if i not in seen]
    return Kinds(head, {**_measured(head, *val), "missing": missing})


_Part = tuple[Tensor, Tensor, Tensor, Tensor]


def _described(model: BlurModel, rows: KindRows, workers: int) -> _Part:
    """Give what the head reads of pictures, with their kinds, angles and degrees."""
    model.eval()
    with torch.no_grad():
        found = [
            pooled(taps(model.backbone, prepare(pictures))[1]) for pictures in _read(rows, workers)
        ]
    described = torch.cat(found) if found else torch.zeros(0, 0)
    kind, angle, degree = map(torch.from_numpy, (rows.kind, rows.angle, rows.degree))
    return described, kind, angle, degree


def _read(rows: KindRows, workers: int) -> Iterator[Tensor]:
    """Give the pictures of rows, some at a time: (n, 3, 112, 112) uint8."""

    def read(files: Sequence[str]) -> Tensor:
        pictures = np.stack([layout.read_picture(rows.folder / file) for file in files])
        return torch.from_numpy(pictures).permute(0, 3, 1, 2)

    files: Iterator[list[str]] = (rows.files[at : at + 64] for at in range(0, len(rows.files), 64))
    return ordered_map(read, files, workers)


def _joined(parts: Sequence[_Part]) -> _Part:
    x, kind, angle, degree = (
        torch.cat([part[i] for part in parts if len(part[0])] or [torch.zeros(0)]) for i in range(4)
    )
    return x, kind, angle, degree


def _measured(head: KindHead, *part: Tensor) -> dict[str, Any]:
    with torch.inference_mode():
        probability, direction = head(part[0])
    return _right(probability, direction, *part[1:])


def measure_kinds(model: Path, folders: Sequence[Path], *, workers: int = 1) -> dict[str, Any]:
    """Measure an exported model's kinds of blur on the validation parts of folders.

    Args:
        model: An ONNX file with the outputs `kind` and `direction`.
        folders: As for `fit_kinds`.
        workers: Threads that read pictures.

    Returns:
        What `Kinds.facts` holds but `missing`.
    """
    session = make_session(model, Runtime("cpu"))
    name = session.get_inputs()[0].name
    found: list[_Part] = []
    for folder in folders:
        rows = read_kinds(folder, "val")
        numbers = [torch.from_numpy(values) for values in (rows.kind, rows.angle, rows.degree)]
        at = 0
        for pictures in _read(rows, workers):
            out = run(session, {name: prepare(pictures).contiguous().numpy()}, str(model), OUTPUTS)
            kind, angle, degree = (values[at : at + len(pictures)] for values in numbers)
            both = torch.from_numpy(np.concatenate(out, axis=1))
            found.append((both, kind, angle, degree))
            at += len(pictures)
    both, *truth = _joined(found)
    return _right(both[:, : len(KINDS)], both[:, len(KINDS) :], *truth)


def _right(
    probability: Tensor, direction: Tensor, kind: Tensor, angle: Tensor, degree: Tensor
) -> dict[str, Any]:
    """Count right answers; see `Kinds.facts`."""
    found = probability.argmax(1)
    counted = degree > COUNTED_ABOVE
    confusion = torch.zeros(len(KINDS), len(KINDS), dtype=torch.int64)
    for true, got in zip(kind[counted].tolist(), found[counted].tolist(), strict=True):
        confusion[true, got] += 1
    total = int(confusion.sum())
    lines = counted & ~angle.isnan()
    got_angle = torch.rad2deg(torch.atan2(direction[:, 1], direction[:, 0])) / 2
    off = (got_angle - angle + 90) % 180 - 90
    return {
        "names": list(KINDS),
        "counted_above": COUNTED_ABOVE,
        "accuracy": int(confusion.diagonal().sum()) / total if total else 0.0,
        "pictures": total,
        "confusion": confusion.tolist(),
        "angle_median_error_deg": float(off[lines].abs().median()) if lines.any() else None,
    }
