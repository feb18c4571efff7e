"""Compare every backbone, layer by layer, with the implementation it is named after.

    python scripts/check_backbone_parity.py           compare
    python scripts/check_backbone_parity.py --write   and write tests/data/backbone_shapes.json

Needs blurgate, torch, torchvision and timm, and ultralytics for the YOLOv5n rows, in an environment
of their own: none of them works beside the CPU build of torch that blurgate is developed with. A
reference that is not installed is skipped in a line of its own. For each backbone, with one output:

    shapes    the shapes of the state dict, in order, must be the reference's
    outputs   the reference's weights (`fill` sets them, batch-norm statistics too), copied over in
              that order, must give the same features in eval mode, to the last bit
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blurgate.training.model import build_model

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "data" / "backbone_shapes.json"


@dataclass(frozen=True)
class Reference:
    """Another implementation with one output."""

    package: str
    call: str
    make: Callable[[], nn.Module]
    features: Callable[[Any, Tensor], Tensor]


def torchvision_model(name: str, **options: Any) -> nn.Module:
    import torchvision

    model: nn.Module = getattr(torchvision.models, name)(num_classes=1, **options)
    return model


def timm_model(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, num_classes=1)
    return model


def yolov5n(last_channels: int) -> nn.Module:
    from ultralytics.nn.modules import C3, SPPF, Conv

    pool = SPPF(last_channels, last_channels, 5)
    pool.cv1.act = nn.SiLU()  # v6.0 has it; newer versions leave it out
    body = nn.Sequential(
        Conv(3, 16, 6, 2, 2),
        Conv(16, 32, 3, 2),
        C3(32, 32, 1),
        Conv(32, 64, 3, 2),
        C3(64, 64, 2),
        Conv(64, 128, 3, 2),
        C3(128, 128, 3),
        Conv(128, last_channels, 3, 2),
        C3(last_channels, last_channels, 1),
        pool,
    )
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.03  # as YOLOv5 sets them after building
    return nn.Sequential(body, nn.Flatten(), nn.Linear(last_channels * 16, 1))


def before(layer: str) -> Callable[[Any, Tensor], Tensor]:
    """Give the features as the input of the model's last linear layer."""

    def features(model: Any, images: Tensor) -> Tensor:
        caught: list[Tensor] = []
        hook = model.get_submodule(layer).register_forward_pre_hook(
            lambda _, inputs: caught.append(inputs[0])
        )
        model(images)
        hook.remove()
        return caught[0].flatten(1)

    return features


def squeezenet_features(model: Any, images: Tensor) -> Tensor:
    """Average what torchvision's classifier, a convolution, would average after itself."""
    features: Tensor = model.features(images).mean((2, 3))
    return features


def of_torchvision(name: str, layer: str, **options: Any) -> Reference:
    arguments = ", ".join(["num_classes=1", *(f"{k}={v}" for k, v in options.items())])
    return Reference(
        "torchvision",
        f"{name}({arguments})",
        lambda: torchvision_model(name, **options),
        before(layer) if layer else squeezenet_features,
    )


def of_timm(name: str, layer: str) -> Reference:
    call = f"create_model({name!r}, num_classes=1)"
    return Reference("timm", call, lambda: timm_model(name), before(layer))


def of_ultralytics(last_channels: int) -> Reference:
    call = f"the YOLOv5 v6.0 nano backbone of its modules, last stage {last_channels}"
    return Reference("ultralytics", call, lambda: yolov5n(last_channels), before("2"))


REFERENCES = {
    "resnet18": of_torchvision("resnet18", "fc"),
    "resnet34": of_torchvision("resnet34", "fc"),
    "edgenext_xx_small": of_timm("edgenext_xx_small", "head.fc"),
    "yolov5n_x": of_ultralytics(256),
    "yolov5n_xx": of_ultralytics(128),
    "mobilenetv2_0.25": of_torchvision("mobilenet_v2", "classifier.1", width_mult=0.25),
    "mobilenetv2_0.5": of_torchvision("mobilenet_v2", "classifier.1", width_mult=0.5),
    "efficientnet_lite0": of_timm("efficientnet_lite0", "classifier"),
    "squeezenet1_1": of_torchvision("squeezenet1_1", ""),
}


def uniform(shape: Sequence[int], seed: int) -> Tensor:
    """Give numbers in [0, 1) that look random and do not depend on any library's generator."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(place * 12.9898 + seed) * 43758.5453).frac().abs().reshape(shape).float()


def pictures(n: int = 2) -> Tensor:
    """Give (n, 3, 112, 112) patches of colour under noise."""
    patches = uniform((n, 3, 4, 4), 1).repeat_interleave(28, 2).repeat_interleave(28, 3)
    return 2 * patches + uniform((n, 3, 112, 112), 2) - 1.5


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Set every weight and statistic, so that none of them is the same 0 or 1 on both sides."""
    for index, value in enumerate(model.state_dict().values()):
        if value.dtype != torch.float32:
            continue
        drawn = uniform(value.shape, index)
        if value.ndim > 1:  # keeps the size of the activations about as it is
            value.copy_((2 * drawn - 1) * math.sqrt(6 / value[0].numel()))
        else:
            value.copy_(0.5 + drawn)


def thinned(features: Tensor) -> Tensor:
    """Give a dozen features of each row: enough to tell two networks apart."""
    return features[:, :: features.shape[1] // 12]


@torch.no_grad()
def compare(name: str, reference: Reference, theirs: nn.Module) -> tuple[bool, dict[str, Any]]:
    """Print one row and give whether it is well, and the golden entry."""
    theirs.eval()
    fill(theirs)
    ours = build_model(name).eval()
    weights = list(theirs.state_dict().values())
    shapes = [list(value.shape) for value in weights]
    parameters = sum(value.numel() for value in theirs.parameters())
    own = ours.state_dict()
    # The only layer that may differ: SqueezeNet's last 1x1 convolution is a linear layer here.
    flat = [shape[:2] if shape[:1] == [1] and shape[2:] == [1, 1] else shape for shape in shapes]
    same = flat == [list(value.shape) for value in own.values()]
    images = pictures()
    expected = reference.features(theirs, images)
    difference = math.nan
    if same:
        ours.load_state_dict(
            {key: value.view_as(own[key]) for key, value in zip(own, weights, strict=True)}
        )
        difference = float((ours.backbone(images) - expected).abs().max())
    verdict = "same shapes" if same else "SHAPES DIFFER"
    print(
        f"{name:18} {parameters:>10,} parameters  {len(shapes):>3} tensors  {verdict}  "
        f"largest difference {difference} (mean size {float(expected.abs().mean()):.3g})"
    )
    version = metadata.version(reference.package)
    source = f"{reference.package} {version} {reference.call}"
    features = [[float(f"{value:.6g}") for value in row] for row in thinned(expected).tolist()]
    entry = {"reference": source, "parameters": parameters, "shapes": flat, "features": features}
    return same and difference == 0.0, entry


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help=f"write {GOLDEN.name}")
    write = parser.parse_args().write
    golden: dict[str, Any] = {}
    wrong = []
    for name, reference in REFERENCES.items():
        try:
            theirs = reference.make()
        except (ImportError, OSError, RuntimeError) as error:  # as a torchvision of another torch
            print(f"{name:18} skipped: {reference.package} cannot be used here ({error})")
            continue
        good, golden[name] = compare(name, reference, theirs)
        if not good:
            wrong.append(name)
    if write and len(golden) == len(REFERENCES) and not wrong:
        lines = [f"  {json.dumps(name)}: {json.dumps(golden[name])}" for name in sorted(golden)]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        print(f"wrote {GOLDEN}")
    elif write:
        print("nothing written: a reference is missing or differs")
    if wrong:
        print(f"different: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
