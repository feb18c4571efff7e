"""Registration without the import of torch: a factory that imports its module when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from blurgate.errors import EnvironmentLackError


def lazy(module: str, name: str) -> Callable[..., Any]:
    """Make a factory that stands for `name` of `module` and imports the module when called.

    Args:
        module: Full module name; it may import torch at its top.
        name: The function or class in it.

    Returns:
        A function that takes the keyword arguments of `name` and returns what it returns. It raises
        `EnvironmentLackError` with the pip command where torch is not installed.

    >>> lazy("fractions", "Fraction")(numerator=1, denominator=2)
    Fraction(1, 2)
    """

    def factory(**options: Any) -> Any:
        try:
            found = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise EnvironmentLackError(
                'training needs torch, which is not installed; run: pip install "blurgate[train]"'
            ) from error
        return found(**options)

    return factory
