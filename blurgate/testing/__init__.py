"""The contract of every kind of plugin, as checks that an author runs in their own tests.

    import pytest
    from blurgate.testing import checks

    @pytest.mark.parametrize("check", checks("scorer", "darkness"), ids=str)
    def test_contract(check):
        check()

A name is looked up among the installed plugins; a factory can be given instead. Each check is one
sentence of the contract. It raises `ContractError`, which is an AssertionError, when the plugin
breaks the sentence, and `unittest.SkipTest`, which pytest shows as a skip, when a package that the
check needs is not installed. pytest itself is not needed. docs/plugins.md lists the checks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from blurgate.errors import ConfigError

__all__ = ["KINDS", "Check", "ContractError", "checks"]

KINDS: Final = (
    "backbone",
    "command",
    "detector",
    "embedder",
    "loss",
    "plugin",
    "scorer",
    "sink",
    "synthesizer",
)
"""Kinds with a contract; "plugin" is the module that registers the others."""


class ContractError(AssertionError):
    """A plugin does not do what its kind has to do; the message says what, and what it got."""


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence of a contract, about one plugin. Call it."""

    kind: str
    plugin: str
    name: str
    """The sentence, in words joined by "-"."""
    run: Callable[[], None]

    def __call__(self) -> None:
        """Check it.

        Raises:
            ContractError: The plugin breaks it.
            unittest.SkipTest: A package that this check needs is not installed.
        """
        self.run()

    def __str__(self) -> str:
        """Give the plugin and the sentence: what a test is called."""
        return f"{self.plugin}-{self.name}"


def checks(kind: str, plugin: Any, **facts: Any) -> list[Check]:
    """Give the checks of a plugin.

    Args:
        kind: One of `KINDS`.
        plugin: The name it is registered under, or its factory; of the kind "command" the plugin
            module or its name; of the kind "plugin" the module's name, as in the entry point.
        facts: What the kind may be told besides:

            scorer, embedder, detector: `model`, a `ModelFile` for the factory, and `runtime`;
            detector: `pictures`, (H, W, 3) uint8 BGR with at least one upright face each;
            sink: `read`, a function from a path to the rows in it as dicts, None where empty;
            backbone, loss, synthesizer: `options`, keyword arguments for the factory.

    Returns:
        The checks, in the order in which they are worth reading.

    Raises:
        ConfigError: There is no such kind, or it cannot be told one of the facts.

    >>> for check in checks("scorer", "laplacian"):
    ...     check()
    """
    if kind not in KINDS:
        raise ConfigError(f"no contract for the kind {kind!r}; there are {', '.join(KINDS)}")
    module = importlib.import_module(f"{__name__}.{kind}")
    name = plugin if isinstance(plugin, str) else getattr(plugin, "__name__", "plugin")
    try:
        subject = module.Subject(plugin, **facts)
    except TypeError as error:
        raise ConfigError(f"the contract of a {kind} takes no such fact: {error}") from error

    return [
        Check(kind, name, function.__name__.replace("_", "-"), partial(_run, function, subject))
        for function in module.CHECKS
    ]


def _run(function: Callable[[Any], None], subject: Any) -> None:
    """Run a check, or skip it where it cannot run."""
    from blurgate.testing.common import need

    need(*getattr(subject, "packages", ()))
    function(subject)
