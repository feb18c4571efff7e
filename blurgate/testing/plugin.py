"""The contract of a plugin module: how it is found, what it costs, what it registers."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import unittest
from importlib import metadata
from typing import Any, Final

from blurgate.errors import PluginError
from blurgate.host import GROUP, KINDS, Host
from blurgate.testing import ContractError, common

_HEAVY: Final = ("av", "cv2", "insightface", "matplotlib", "onnxruntime", "scipy", "torch")
_PLUGIN: Final = "plugin under test"


class Subject:
    """A plugin module, by its name or as an object."""

    def __init__(self, plugin: Any) -> None:
        self.name = plugin if isinstance(plugin, str) else getattr(plugin, "__name__", "")
        self.module = importlib.import_module(plugin) if isinstance(plugin, str) else plugin

    def host(self) -> Host:
        """Give a host with the built-in plugins and this one.

        Raises:
            ContractError: It is not accepted.
        """
        host = Host(outside=False)
        try:
            host.add(self.module, _PLUGIN)
        except Exception as error:
            raise ContractError(f"the host does not take it: {error}") from error
        return host


def hooks_are_those_that_exist(subject: Subject) -> None:
    """Every function with `hookimpl` is a hook of blurgate, with the right arguments."""
    subject.host()


def registers_names_that_are_free(subject: Subject) -> None:
    """It registers at least one plugin or command, under valid names that nobody else has."""
    host = subject.host()
    try:
        for kind in KINDS:
            host.registry(kind)
        commands = [entry for entry in host.commands() if entry.plugin == _PLUGIN]
    except PluginError as error:
        raise ContractError(str(error)) from error
    common.require(not host.broken, "; ".join(broken.error for broken in host.broken))
    mine = [entry for entry in host.entries() if entry.plugin == _PLUGIN]
    common.require(
        mine or commands,
        "it registers nothing at all; every hook carries `blurgate.hookimpl` and registers",
    )
    for entry in mine:
        common.require(
            callable(entry.factory),
            f"the factory of the {entry.kind} {entry.name!r} is not callable",
        )


def is_cheap_to_import(subject: Subject) -> None:
    """Importing it and calling its hooks imports no heavy package: `blurgate --help` does both."""
    if not subject.name or importlib.util.find_spec(subject.name) is None:
        raise unittest.SkipTest("the module cannot be imported by name")
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import {subject.name}\n"
        "from blurgate.host import BUILTIN, KINDS, Host\n"
        "host = Host(dict.fromkeys(BUILTIN, ()), outside=False)\n"
        f"host.add(sys.modules[{subject.name!r}], {_PLUGIN!r})\n"
        "host.commands(), *map(host.registry, KINDS)\n"
        f"print(*sorted({set(_HEAVY)!r} & set(sys.modules)))"
    )
    ran = subprocess.run(  # noqa: S603 - the module is the one that is running in here already
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    common.require(ran.returncode == 0, f"it cannot be imported alone: {ran.stderr.strip()[-300:]}")
    heavy = ran.stdout.split()
    common.require(
        not heavy,
        f"importing {subject.name} and calling its hooks imports {', '.join(heavy)}; import them "
        "in the factory or the command",
    )


def an_installed_distribution_names_it(subject: Subject) -> None:
    """The entry-point group `blurgate` of an installed distribution leads to it."""
    points = [point for point in metadata.entry_points(group=GROUP) if point.module == subject.name]
    common.require(
        points,
        f'no installed distribution has an entry point to {subject.name!r} in group "{GROUP}"',
    )


CHECKS: Final = (
    hooks_are_those_that_exist,
    registers_names_that_are_free,
    is_cheap_to_import,
    an_installed_distribution_names_it,
)
