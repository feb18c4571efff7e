"""The plugin host: one registry per kind, filled through hooks.

Built-in plugins are listed by module name and loaded exactly as an outside plugin is, kind by kind
and only when the kind is asked for, so that `blurgate --help` imports no array library. Outside
plugins come from the entry-point group `blurgate`. One that is broken is recorded, reported by
`blurgate plugins`, and takes nothing else down.

`BLURGATE_DISABLED_PLUGINS` holds the names of outside plugins that are not to be loaded, separated
by commas; `*` stands for all of them.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final

import pluggy

from blurgate import hookspecs
from blurgate.errors import ConfigError, DuplicateNameError, PluginError, UnknownNameError, blamed

logger = logging.getLogger(__name__)

GROUP: Final = "blurgate"
DISABLED_VARIABLE: Final = "BLURGATE_DISABLED_PLUGINS"

BUILTIN: Final[Mapping[str, tuple[str, ...]]] = {
    "detector": ("blurgate.plugins.detectors.scrfd",),
    "scorer": (
        "blurgate.plugins.scorers.laplacian",
        "blurgate.plugins.scorers.tenengrad",
        "blurgate.plugins.scorers.blurdetect",
        "blurgate.plugins.scorers.onnx",
    ),
    "embedder": ("blurgate.plugins.embedders.arcface",),
    "sink": (
        "blurgate.plugins.sinks.csv",
        "blurgate.plugins.sinks.jsonl",
        "blurgate.plugins.sinks.parquet",
    ),
    "backbone": ("blurgate.plugins.backbones",),
    "synthesizer": (
        "blurgate.plugins.synthesizers.deblurgan",
        "blurgate.plugins.synthesizers.defocus",
        "blurgate.plugins.synthesizers.gaussian",
        "blurgate.plugins.synthesizers.linear",
        "blurgate.plugins.synthesizers.lowres",
        "blurgate.plugins.synthesizers.random",
    ),
    "loss": ("blurgate.plugins.losses",),
    "command": (
        "blurgate.cli.filter",
        "blurgate.cli.score",
        "blurgate.cli.merge",
        "blurgate.training.synth_command",
        "blurgate.training.train_command",
        "blurgate.cli.bench",
        "blurgate.cli.evaluate",
        "blurgate.cli.calibrate",
        "blurgate.cli.report",
        "blurgate.cli.models",
        "blurgate.cli.plugins",
        "blurgate.cli.doctor",
    ),
}
"""Kind -> modules."""

HOOKS: Final[Mapping[str, str]] = {
    kind: f"register_{kind}es" if kind.endswith("s") else f"register_{kind}s" for kind in BUILTIN
}
"""Kind -> the hook through which its plugins register."""

KINDS: Final = tuple(kind for kind in BUILTIN if kind != "command")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered plugin."""

    kind: str
    name: str
    factory: Any
    plugin: str
    """The module or entry point that registered it."""
    distribution: str
    version: str
    aliases: tuple[str, ...] = ()

    def make(self, *arguments: Any, **options: Any) -> Any:
        """Call the factory.

        Args:
            arguments: What the factories of the kind take.
            options: What the user chose for this one.

        Raises:
            ConfigError: It does not take the options.
            PluginError: It raised what is no error of blurgate.
        """
        with blamed(self.kind, self.name):
            try:
                return self.factory(*arguments, **options)
            except TypeError as error:
                if not options:
                    raise
                message = f"the {self.kind} {self.name!r} cannot be made: {error}"
                raise ConfigError(message) from error


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded or whose hook raised."""

    plugin: str
    distribution: str
    version: str
    error: str


@dataclass(frozen=True, slots=True)
class Disabled:
    """An outside plugin that the environment variable leaves out."""

    plugin: str
    distribution: str
    version: str


class Registry:
    """Name -> plugin for one kind. A failed `add` leaves it unchanged."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            PluginError: A name has characters that a name may not have.
            DuplicateNameError: A name or alias is taken.
        """
        for name in (entry.name, *entry.aliases):
            if not _NAME.fullmatch(name):
                raise PluginError(
                    f"{entry.plugin} registers the {self.kind} {name!r}; names are lower-case "
                    "letters, digits, '.', '_' and '-', and begin with a letter or digit",
                    plugin=entry.plugin,
                )
            if name in self._entries or name in self._aliases:
                taken = self._entries[self._aliases.get(name, name)]
                raise DuplicateNameError(
                    f"the {self.kind} {name!r} of {entry.plugin} is already registered by "
                    f"{taken.plugin}; disable one with {DISABLED_VARIABLE}",
                    plugin=entry.plugin,
                )
        self._entries[entry.name] = entry
        self._aliases.update(dict.fromkeys(entry.aliases, entry.name))

    def drop(self, plugin: str) -> None:
        """Take out everything of a plugin."""
        self._entries = {n: e for n, e in self._entries.items() if e.plugin != plugin}
        self._aliases = {a: n for a, n in self._aliases.items() if n in self._entries}

    def __getitem__(self, name: str) -> Entry:
        """Look a name or alias up.

        Raises:
            UnknownNameError: Nobody registered the name.
        """
        try:
            return self._entries[self._aliases.get(name, name)]
        except KeyError:
            raise UnknownNameError(self.kind, name, [*self._entries, *self._aliases]) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[Entry]:
        """Entries in the order of their names."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))


class Host:
    """Loads plugins and holds what they register.

    Args:
        builtin: Kind -> module names, the table above unless a test says otherwise.
        outside: Whether to load the entry points of installed distributions.
    """

    def __init__(
        self, builtin: Mapping[str, Sequence[str]] = BUILTIN, *, outside: bool = True
    ) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._builtin = builtin
        self._origin: dict[str, tuple[str, str]] = {}
        self._registries: dict[str, Registry] = {}
        self._left_out: set[str] = set()
        self.broken: list[Broken] = []
        self.disabled: list[Disabled] = []
        if outside:
            self._load_outside()

    def registry(self, kind: str) -> Registry:
        """Give the registry of a kind, loading its built-in plugins on the first call."""
        if kind not in self._registries:
            self._load_builtin(kind)
            registry = Registry(kind)
            for name in self._names():
                self._fill(registry, name)
            self._registries[kind] = registry
        return self._registries[kind]

    def register_commands(self, app: Any) -> Registry:
        """Let every plugin add its commands to a typer application; give what they are called.

        An entry's factory is the command's function.
        """
        self._load_builtin("command")
        registry = Registry("command")
        for name in self._names():
            self._fill_commands(registry, name, app)
        return registry

    def commands(self) -> list[Entry]:
        """Give the commands of every plugin, by name."""
        import typer

        return list(self.register_commands(typer.Typer()))

    def where(self, plugin: str) -> tuple[str, str]:
        """Give a plugin's module and the file that it was loaded from, empty where unknown."""
        found = self._manager.get_plugin(plugin)
        name = getattr(found, "__name__", None) or type(found).__module__
        module = sys.modules.get(name)
        return name, getattr(found, "__file__", None) or getattr(module, "__file__", None) or ""

    def entries(self) -> list[Entry]:
        """Give everything that is registered, by kind and name."""
        registries = [self.registry(kind) for kind in KINDS]  # all: the last may leave a plugin out
        return [entry for registry in registries for entry in registry]

    def add(self, plugin: object, name: str) -> None:
        """Register a plugin object by hand, as tests and notebooks do; registries are rebuilt."""
        self._register(plugin, name, "", "")
        self._begin_anew()

    def remove(self, name: str) -> None:
        """Take a plugin out again."""
        self._manager.unregister(name=name)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._registries.clear()
        self._left_out.clear()

    def _names(self) -> list[str]:
        """Give the plugins that are asked, the built-in ones first: nobody takes their names."""
        names = [name for name, _ in self._manager.list_name_plugin()]
        in_use = (name for name in names if name not in self._left_out)
        return sorted(in_use, key=lambda name: self._origin[name][0] != "blurgate")

    def _load_builtin(self, kind: str) -> None:
        version = metadata.version("blurgate")
        for module in self._builtin[kind]:
            if not self._manager.has_plugin(module):
                # A built-in that does not import is our own fault: let it raise.
                self._register(importlib.import_module(module), module, "blurgate", version)

    def _load_outside(self) -> None:
        disabled = {n.strip() for n in os.environ.get(DISABLED_VARIABLE, "").split(",")}
        # In the order of their names: of two that claim one name the same one always has it.
        for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
            origin = ("unknown", "unknown")
            if point.dist is not None:
                origin = (point.dist.name, point.dist.version)
            if {point.name, "*"} & disabled:
                logger.info("plugin %s is disabled by %s", point.name, DISABLED_VARIABLE)
                self.disabled.append(Disabled(point.name, *origin))
                continue
            try:
                self._register(point.load(), point.name, *origin)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, we go on
                self._report(point.name, origin, error)

    def _register(self, plugin: object, name: str, distribution: str, version: str) -> None:
        known = self._manager.has_plugin(name)
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()  # a misspelt hook is an error, not silence
        except (pluggy.PluginValidationError, ValueError):
            # pluggy before 1.7 keeps a plugin whose hook has wrong arguments.
            if not known and self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise
        self._origin[name] = (distribution, version)

    def _fill(self, registry: Registry, plugin: str) -> None:
        distribution, version = self._origin[plugin]

        def register(name: str, factory: Any, /, *, aliases: Sequence[str] = ()) -> None:
            registry.add(
                Entry(registry.kind, name, factory, plugin, distribution, version, tuple(aliases))
            )

        self._attempt(
            registry, plugin, lambda: self._hook(plugin, registry.kind)(register=register)
        )

    def _fill_commands(self, registry: Registry, plugin: str, app: Any) -> None:
        added = (app.registered_commands, app.registered_groups)
        before = [len(items) for items in added]
        options = app.registered_callback

        def work() -> None:
            self._hook(plugin, registry.kind)(app=app)
            new = [items[n:] for items, n in zip(added, before, strict=True)]
            for name, function in _named_commands(*new):
                registry.add(Entry("command", name, function, plugin, *self._origin[plugin]))

        if not self._attempt(registry, plugin, work):
            for items, n in zip(added, before, strict=True):
                del items[n:]
            app.registered_callback = options

    def _hook(self, plugin: str, kind: str) -> Callable[..., object]:
        """Give a hook of one plugin alone, so that its error is its own."""
        others = [other for name, other in self._manager.list_name_plugin() if name != plugin]
        return self._manager.subset_hook_caller(HOOKS[kind], remove_plugins=others)

    def _attempt(self, registry: Registry, plugin: str, work: Callable[[], object]) -> bool:
        """Let a plugin register; one of others that raises is left out, with all that it has."""
        origin = self._origin[plugin]
        try:
            work()
        except (Exception, SystemExit) as error:
            if origin[0] == "blurgate":
                raise
            self._report(plugin, origin, error)
            self._left_out.add(plugin)
            for one in (registry, *self._registries.values()):
                one.drop(plugin)
            return False
        return True

    def _report(self, plugin: str, origin: tuple[str, str], error: BaseException) -> None:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning("plugin %s is broken and left out: %s", plugin, line)
        self.broken.append(Broken(plugin, *origin, line))


def _named_commands(commands: Sequence[Any], groups: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Name the commands of an application as typer will; a group without a name adds its own."""
    from typer.main import get_command_name, solve_typer_info_defaults

    for command in commands:
        yield command.name or get_command_name(command.callback.__name__), command.callback
    for group in map(solve_typer_info_defaults, groups):
        if group.name:
            yield group.name, group.callback
        elif (inner := group.typer_instance) is not None:
            yield from _named_commands(inner.registered_commands, inner.registered_groups)


@cache
def get_host() -> Host:
    """Give the host of this process."""
    return Host()
