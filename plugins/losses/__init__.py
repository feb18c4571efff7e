"""Built-in losses. This module only registers them: they are made of torch, listing them is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blurgate.hookspecs import hookimpl
from blurgate.plugins.lazy import lazy

if TYPE_CHECKING:
    from blurgate.interfaces import Register

LOSSES: Final[tuple[tuple[str, str, str], ...]] = (
    ("huber", "regression", "Huber"),
    ("mse", "regression", "MSE"),
    ("l1", "regression", "L1"),
    ("crossentropy", "classification", "CrossEntropy"),
    ("cmse", "classification", "CMSE"),
    ("wmse", "classification", "WMSE"),
)
"""Name, module of this package, class in it."""


@hookimpl
def register_losses(register: Register) -> None:
    """Add the six losses."""
    for name, module, loss in LOSSES:
        register(name, lazy(f"{__name__}.{module}", loss))
