"""The whole plugin surface. Each hook is handed something to register with and returns nothing.

A plugin is a module (or object) whose functions carry `blurgate.hookimpl`; a distribution names it
under the entry-point group `blurgate`. See docs/plugins.md and examples/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from blurgate.interfaces import App, Register

hookspec = pluggy.HookspecMarker("blurgate")
hookimpl = pluggy.HookimplMarker("blurgate")


@hookspec
def register_detectors(register: Register) -> None:
    """Add face detectors: `register(name, factory)` with a `DetectorFactory`."""


@hookspec
def register_scorers(register: Register) -> None:
    """Add blur-degree scorers: `register(name, factory)` with a `ScorerFactory`."""


@hookspec
def register_embedders(register: Register) -> None:
    """Add recognition embedders: `register(name, factory)` with an `EmbedderFactory`."""


@hookspec
def register_sinks(register: Register) -> None:
    """Add table formats: `register(name, factory)` with a `SinkFactory`."""


@hookspec
def register_backbones(register: Register) -> None:
    """Add trainable networks: `register(name, factory)` with a `BackboneFactory`."""


@hookspec
def register_synthesizers(register: Register) -> None:
    """Add blur synthesizers: `register(name, factory)` with a `SynthesizerFactory`."""


@hookspec
def register_losses(register: Register) -> None:
    """Add training losses: `register(name, factory)` with a `LossFactory`."""


@hookspec
def register_commands(app: App) -> None:
    """Add commands to the command line: `app.command()(function)`."""
