"""The network made of a backbone and a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from blurgate.errors import PluginError, ShapeError, blamed
from blurgate.host import Host, get_host
from blurgate.training.heads import Head, make_head
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.training.config import TrainConfig
    from blurgate.training.interfaces import Backbone

__all__ = ["BlurModel", "build_model", "model_of"]


class BlurModel(nn.Module):
    """A backbone with a head.

    Args:
        backbone: The features.
        head: What is made of them.

    Shape:
        (n, 3, 112, 112) float32 -> the head's raw output, (n, outputs).
    """

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Give the raw output, in float32 under autocast too.

        The head is a sliver of the work, and bfloat16 knows no degree between 0.5 and 0.504.
        """
        features: Tensor = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            output: Tensor = self.head(features.float())
        return output

    def degree(self, images: Tensor) -> Tensor:
        """Give the blur degrees: (n, 3, 112, 112) -> (n,) float32 in [0, 1]."""
        return self.head.degree(self(images))


def build_model(
    backbone: str,
    *,
    head: str = "regression",
    hidden: Sequence[int] | None = None,
    host: Host | None = None,
    options: Mapping[str, Any] | None = None,
) -> BlurModel:
    """Make a network by name; its weights are drawn from torch's global generator.

    Args:
        backbone: Name or alias of a registered backbone.
        head: One of `blurgate.training.heads.HEADS`.
        hidden: Widths of the head's hidden layers instead of its own.
        host: Where to look the backbone up, the process's host unless a test says otherwise.
        options: The backbone's own keyword arguments.

    Raises:
        UnknownNameError: There is no such backbone or head.
        ConfigError: The backbone does not take one of the options.
        PluginError: The plugin did not give an `nn.Module` with `out_features`, or that raises or
            does not give that many features.
        EnvironmentLackError: The `train` extra is not installed.

    >>> build_model("mobilenetv2", head="bins20").head.outputs
    20
    """
    entry = (host or get_host()).registry("backbone")[backbone]
    network = entry.make(**options or {})
    if not isinstance(network, nn.Module) or not isinstance(
        getattr(network, "out_features", None), int
    ):
        raise PluginError(
            f"the backbone {entry.name!r} of {entry.plugin} is not an nn.Module with the attribute "
            "out_features (the number of features it gives)",
            plugin=entry.plugin,
        )
    features = cast("Backbone", network).out_features
    with blamed("backbone", entry.name):
        _try(network, features)
    return BlurModel(network, make_head(head, in_features=features, hidden=hidden))


def _try(network: nn.Module, width: int) -> None:
    """See what a backbone gives; torch's generator and the network stay as they were."""
    was_training = network.training
    network.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        features = network(torch.zeros(2, 3, CROP_SIZE, CROP_SIZE))
    network.train(was_training)
    if tuple(features.shape) != (2, width):
        raise ShapeError(f"{tuple(features.shape)} for 2 pictures, and its out_features is {width}")


def model_of(config: TrainConfig) -> BlurModel:
    """Make the network of a configuration; see `build_model`."""
    return build_model(
        config.backbone,
        head=config.head,
        hidden=config.hidden or None,
        options=config.backbone_options,
    )
