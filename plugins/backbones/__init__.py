"""Built-in backbones: one module per architecture, in plain torch.

This module only registers them, so that `blurgate plugins` can list them without torch. A backbone
turns images, (n, 3, 112, 112) float32, into features, (n, `out_features`); the head that makes a
blur degree of the features is separate (blurgate.training.heads), and so is the choice of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blurgate.hookspecs import hookimpl
from blurgate.plugins.lazy import lazy

if TYPE_CHECKING:
    from blurgate.interfaces import Register

BACKBONES: Final[tuple[tuple[str, str, str, tuple[str, ...]], ...]] = (
    ("resnet18", "resnet", "resnet18", ()),
    ("resnet34", "resnet", "resnet34", ()),
    ("edgenext_xx_small", "edgenext", "EdgeNeXt", ("edgenext",)),
    ("yolov5n_x", "yolov5n", "yolov5n_x", ()),
    ("yolov5n_xx", "yolov5n", "yolov5n_xx", ("yolov5n",)),
    ("yolov5n_xx_relu", "yolov5n", "yolov5n_xx_relu", ()),
    ("mobilenetv2_0.25", "mobilenetv2", "mobilenetv2_025", ("mobilenetv2",)),
    ("mobilenetv2_0.5", "mobilenetv2", "mobilenetv2_05", ()),
    ("efficientnet_lite0", "efficientnet_lite", "efficientnet_lite0", ("efficientnet",)),
    ("squeezenet1_1", "squeezenet", "SqueezeNet", ("squeezenet",)),
)
"""Name, module of this package, function or class in it, aliases."""


@hookimpl
def register_backbones(register: Register) -> None:
    """Add the built-in backbones."""
    for name, module, factory, aliases in BACKBONES:
        register(name, lazy(f"{__name__}.{module}", factory), aliases=aliases)
