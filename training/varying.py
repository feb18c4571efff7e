"""Showing every picture a little differently each time, so that none is learnt by heart.

Nothing here sharpens or blurs: pictures are mirrored, moved by whole pixels, and toned. So the
degree of blur stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from blurgate.training.config import TrainConfig

__all__ = ["varied"]


def varied(pictures: Tensor, config: TrainConfig, draws: torch.Generator) -> Tensor:
    """Mirror, move and tone the pictures of a batch, each in its own way.

    Args:
        pictures: (n, 3, h, w) uint8 BGR.
        config: Says what is done: `flip`, `shift` and `tone`.
        draws: Decides everything random; on the device of the pictures.

    Returns:
        (n, 3, h, w) BGR, uint8 or, where they are toned, float32 in [0, 255].
    """
    if config.flip:
        mirrored = torch.rand(len(pictures), generator=draws, device=draws.device) < 0.5
        pictures = torch.where(mirrored.view(-1, 1, 1, 1), pictures.flip(3), pictures)
    if config.shift:
        pictures = _moved(pictures, config.shift, draws)
    if config.tone:
        pictures = _toned(pictures, config.tone, draws)
    return pictures


def _moved(pictures: Tensor, most: int, draws: torch.Generator) -> Tensor:
    """Move each picture by up to `most` pixels both ways; its border is repeated."""
    n, _, h, w = pictures.shape
    device = draws.device
    by = torch.randint(-most, most + 1, (2, n, 1), generator=draws, device=device)
    rows = (torch.arange(h, device=device) + by[0]).clamp(0, h - 1)
    columns = (torch.arange(w, device=device) + by[1]).clamp(0, w - 1)
    each = torch.arange(n, device=device)
    # Indexing puts the indexed axes first: (n, h, w, 3).
    moved = pictures[each[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _toned(pictures: Tensor, most: float, draws: torch.Generator) -> Tensor:
    """Change brightness, contrast and colours: by powers and factors of at most e^most."""

    def factors(channels: int, share: float) -> Tensor:
        drawn = torch.rand((len(pictures), channels, 1, 1), generator=draws, device=draws.device)
        return torch.exp(share * most * (2 * drawn - 1))

    values = (pictures.float() / 255) ** factors(1, 1)
    grey = values.mean(1, keepdim=True)
    values = grey + (values - grey) * factors(1, 2)  # saturation
    middle = values.mean((1, 2, 3), keepdim=True)
    values = middle + (values - middle) * factors(1, 0.5)
    return (values * factors(3, 0.3)).clamp(0, 1) * 255
