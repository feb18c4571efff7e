"""The starting weights that most backbones share."""

from __future__ import annotations

import math

from torch import nn


def he_initialise(network: nn.Module) -> None:
    """Give convolutions normal weights of variance 2 / fan-out, and zero biases.

    He et al., "Delving Deep into Rectifiers" (2015), in the fan-out form, which keeps the size of
    the gradients. The fan-out of a grouped convolution is that of one group (as EfficientNet counts
    it). Batch norms keep torch's scale 1 and shift 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
