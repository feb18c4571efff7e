from __future__ import annotations

import importlib
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pluggy
import pytest
import typer

from blurgate import hookspecs
from blurgate.errors import DuplicateNameError, PluginError, UnknownNameError
from blurgate.hookspecs import hookimpl
from blurgate.host import BUILTIN, DISABLED_VARIABLE, HOOKS, KINDS, Entry, Host, Registry, get_host

NOTHING = dict.fromkeys(BUILTIN, ())


def entry(name: str, *aliases: str, plugin: str = "p") -> Entry:
    return Entry("scorer", name, object, plugin, "dist", "1.0", aliases)


# --- registry ---


def test_a_registry_finds_names_and_aliases_in_order():
    registry = Registry("scorer")
    second, first = entry("b", "bee"), entry("a")
    registry.add(second)
    registry.add(first)
    assert list(registry) == [first, second]
    assert registry["b"] is registry["bee"] is second
    assert "bee" in registry
    assert "c" not in registry


def test_an_unknown_name_lists_near_ones():
    registry = Registry("scorer")
    registry.add(entry("laplacian", "lap"))
    with pytest.raises(
        UnknownNameError, match=r"no scorer is called 'laplacien'; did you mean 'lap"
    ):
        registry["laplacien"]
    with pytest.raises(UnknownNameError, match=r"known: lap, laplacian") as caught:
        registry["zzz"]
    assert (caught.value.kind, caught.value.name, caught.value.near) == ("scorer", "zzz", ())
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownNameError, match="known: none"):
        Registry("sink")["csv"]


@pytest.mark.parametrize(
    "late", [entry("a", plugin="q"), entry("x", "a"), entry("bee"), entry("x", "bee"), entry("b")]
)
def test_a_taken_name_is_an_error_and_changes_nothing(late):
    registry = Registry("scorer")
    registry.add(entry("a"))
    registry.add(entry("b", "bee"))
    with pytest.raises(
        DuplicateNameError, match=rf"already registered by p; .*{DISABLED_VARIABLE}"
    ):
        registry.add(late)
    assert [e.name for e in registry] == ["a", "b"]
    assert "x" not in registry
    assert registry["bee"].name == "b"


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a/b", ".a", "ä", "a\n"])
def test_a_name_of_other_characters_is_refused(name):
    with pytest.raises(PluginError, match="names are lower-case letters"):
        Registry("scorer").add(entry(name))
    with pytest.raises(PluginError, match="names are lower-case letters"):
        Registry("scorer").add(entry("good", name))


# --- the hooks ---


def test_every_kind_has_its_hook_and_every_hook_its_kind():
    specs = {name for name in dir(hookspecs) if name.startswith("register_")}
    assert set(HOOKS.values()) == specs
    assert HOOKS["loss"] == "register_losses"
    assert set(KINDS) == set(BUILTIN) - {"command"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_hook_fills_its_registry(kind):
    def hook(register):
        register("mine", object, aliases=("other",))

    plugin = type("Plugin", (), {HOOKS[kind]: staticmethod(hookimpl(hook))})()
    host = Host(NOTHING, outside=False)
    host.add(plugin, "by-hand")
    assert host.registry(kind)["other"] == Entry(
        kind, "mine", object, "by-hand", "", "", ("other",)
    )
    assert [e.kind for e in host.entries()] == [kind]
    host.remove("by-hand")
    assert host.entries() == []


def test_the_command_hook_is_handed_the_application():
    seen = []

    class Plugin:
        @hookimpl
        def register_commands(self, app):
            seen.append(app)

    host = Host(NOTHING, outside=False)
    host.add(Plugin(), "by-hand")
    app = typer.Typer()
    host.register_commands(app)
    assert seen == [app]


def test_every_built_in_module_can_be_imported_and_registers_something():
    host = Host(outside=False)
    for kind, modules in BUILTIN.items():
        for module in modules:
            found = importlib.import_module(module)
            hooks = [name for name in HOOKS.values() if hasattr(found, name)]
            assert HOOKS[kind] in hooks, f"{module} has no {HOOKS[kind]}"
        if kind != "command":
            assert {e.plugin for e in host.registry(kind)} >= set(modules)
    assert {e.distribution for e in host.entries()} == {"blurgate"}
    assert host.broken == []


def test_a_kind_is_loaded_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    loaded = []
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: loaded.append(name) or real(name))
    host = Host(outside=False)
    assert loaded == []
    host.registry("sink")
    assert set(loaded) == set(BUILTIN["sink"])


def test_a_broken_built_in_is_our_own_fault_and_raises():
    host = Host(NOTHING | {"scorer": ("blurgate.no_such_module",)}, outside=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        host.registry("scorer")


def test_a_misspelt_hook_is_an_error():
    class Plugin:
        @hookimpl
        def register_detectorz(self, register): ...

    host = Host(NOTHING, outside=False)
    with pytest.raises(pluggy.PluginValidationError, match="register_detectorz"):
        host.add(Plugin(), "by-hand")
    assert host.entries() == []  # and the host is none the worse


def test_the_process_has_one_host():
    assert get_host() is get_host()


# --- outside plugins: real installed distributions ---

GOOD = """
from blurgate.hookspecs import hookimpl

@hookimpl
def register_scorers(register):
    register("outside", object)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Install a distribution with one plugin into a folder of its own; gives the plugin's name."""
    monkeypatch.delenv(DISABLED_VARIABLE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()

    def call(source: str | None, name: str = "", target: str = "") -> str:
        module = f"outside_{uuid.uuid4().hex}"  # a fresh one: sys.modules must not hold it
        name = name or module
        if source is not None:
            (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[blurgate]\n{name} = {target or module}\n")
        importlib.invalidate_caches()
        return name

    return call


def mine(host: Host) -> dict[str, tuple[str, str]]:
    """Outside entries and broken plugins of the temporary distributions alone."""
    found = {e.name: (e.plugin, e.version) for e in host.entries()}
    return {name: origin for name, origin in found.items() if origin[0].startswith("outside_")}


def broken(host: Host) -> list[tuple[str, str, str]]:
    return [
        (b.plugin, b.version, b.error) for b in host.broken if b.distribution.startswith("outside_")
    ]


def test_an_installed_plugin_is_found_by_its_entry_point(install):
    name = install(GOOD)
    host = Host(NOTHING)
    assert mine(host) == {"outside": (name, "1.5")}
    assert host.registry("scorer")["outside"].distribution == name
    assert broken(host) == []


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_package_of_anyone", "ModuleNotFoundError: No module named 'no_such"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: "),
        (None, "ModuleNotFoundError: No module named 'outside_"),
        (GOOD.replace("register_scorers", "register_scorerz"), "PluginValidationError: "),
        (GOOD.replace("(register)", "(registre)"), "PluginValidationError: "),
        (GOOD.replace('"outside"', '"Out Side"'), "PluginError: "),
        (GOOD.replace('register("outside", object)', "1 / 0"), "ZeroDivisionError: division"),
        (GOOD.replace("object", "object, aliasses=()"), "TypeError: "),
        ("import sys\nsys.exit(7)", "SystemExit: 7"),
        (
            "import sys\n" + GOOD.replace('register("outside", object)', "sys.exit(7)"),
            "SystemExit: 7",
        ),
        (
            GOOD.replace('register("outside", object)', 'raise OSError("two\\nlines")'),
            "OSError: two lines",
        ),
    ],
)
def test_a_broken_plugin_is_reported_and_takes_nothing_down(install, source, error, caplog):
    bad = install(source)
    good = install(GOOD.replace('"outside"', '"healthy"'))
    host = Host(NOTHING)
    assert mine(host) == {"healthy": (good, "1.5")}
    assert broken(host)
    assert {(plugin, version) for plugin, version, _ in broken(host)} == {(bad, "1.5")}
    assert all(line.startswith(error) for _, _, line in broken(host))
    assert all("\n" not in line for _, _, line in broken(host))
    (record,) = caplog.records
    assert record.message.startswith(f"plugin {bad} is broken and left out: {error}")
    assert "\n" not in record.message
    host.register_commands(typer.Typer())


BOTH = """
from blurgate.hookspecs import hookimpl

@hookimpl
def register_scorers(register):
    register("NAME", object, aliases=("NAME-too",))
    register("same", object)

@hookimpl
def register_sinks(register):
    register("NAME", object)

@hookimpl
def register_losses(register):
    register("NAME", object)

@hookimpl
def register_commands(app):
    app.command("NAME")(lambda: None)
"""


def test_of_what_is_left_out_nothing_stays(install):
    """Neither what it registered before the name that was taken, nor its other hooks."""
    second = install(BOTH.replace("NAME", "second"), name="outside_2")
    first = install(BOTH.replace("NAME", "first"), name="outside_1")
    host = Host(NOTHING)
    assert [e.name for e in host.registry("sink")] == ["first", "second"]
    found = [(e.kind, e.name) for e in (*host.entries(), *host.commands())]
    assert [(kind, name) for kind, name in found if kind not in {"scorer", "command"}] == [
        ("sink", "first"),
        ("loss", "first"),
    ]
    assert [name for kind, name in found if kind == "scorer"] == ["first", "same"]
    assert [name for kind, name in found if kind == "command"] == ["first"]
    assert "second" not in host.registry("sink")
    assert "second-too" not in host.registry("scorer")
    assert broken(host) == [
        (
            second,
            "1.5",
            f"DuplicateNameError: the scorer 'same' of {second} is already registered by {first}; "
            f"disable one with {DISABLED_VARIABLE}",
        )
    ]


COMMANDS = """
import typer
from blurgate.hookspecs import hookimpl

@hookimpl
def register_commands(app):
    app.command("fresh-SELF")(lambda: None)
    NEXT
"""


@pytest.mark.parametrize(
    "claim",
    [
        'app.command("filter")(lambda: None)',
        "def Filter(): pass\n    app.command()(Filter)",
        'app.add_typer(typer.Typer(), name="filter")',
        'app.add_typer(typer.Typer(name="filter"))',
        'more = typer.Typer()\n    more.command("filter")(lambda: None)\n    app.add_typer(more)',
        'app.command("first")(lambda: None)',
        'app.command("fresh-2")(lambda: None)',
        "1 / 0",
    ],
)
def test_a_taken_command_is_reported_and_nothing_of_its_plugin_stays(install, claim):
    bad = install(COMMANDS.replace("SELF", "2").replace("NEXT", claim), name="outside_2")
    good = COMMANDS.replace("SELF", "1").replace("NEXT", 'app.command("first")(lambda: None)')
    install(good, name="outside_1")
    host = Host(NOTHING | {"command": ("blurgate.cli.filter",)})
    app = typer.Typer()
    host.register_commands(app)
    assert sorted(str(c.name) for c in app.registered_commands) == ["filter", "first", "fresh-1"]
    assert app.registered_groups == []
    assert [e.name for e in host.commands()] == ["filter", "first", "fresh-1"]
    ((plugin, _, error),) = broken(host)
    assert plugin == bad
    if claim != "1 / 0":
        assert error.startswith("DuplicateNameError: the command 'f")
        assert f"of {bad} is already registered by " in error


def test_an_entry_point_that_names_nothing_is_reported(install):
    name = install(GOOD)
    other = install(None, target=f"{name}:absent")
    assert [plugin for plugin, _, _ in broken(Host(NOTHING))] == [other]


def test_the_second_of_two_equal_names_is_left_out(install):
    install(GOOD, name="outside_twin")
    install(GOOD, name="outside_twin")
    host = Host(NOTHING)
    assert list(mine(host)) == ["outside"]
    assert [plugin for plugin, _, _ in broken(host)] == ["outside_twin"]


def test_an_outside_plugin_cannot_take_a_built_in_name(install):
    name = install(GOOD.replace('"outside"', '"laplacian"'))
    host = Host(NOTHING | {"scorer": ("blurgate.plugins.scorers.laplacian",)})
    registry = host.registry("scorer")
    owners = {registry["laplacian"].distribution, *(b.distribution for b in host.broken)}
    assert "blurgate" in owners
    assert name in owners


@pytest.mark.parametrize(
    ("value", "kept"),
    [("{bad}", True), (" {bad} , other", True), ("*", False), ("{bad},{good}", False)],
)
def test_the_variable_leaves_plugins_out(install, monkeypatch: pytest.MonkeyPatch, value, kept):
    bad = install("1 / 0")
    good = install(GOOD)
    monkeypatch.setenv(DISABLED_VARIABLE, value.format(bad=bad, good=good))
    host = Host(NOTHING)
    assert broken(host) == []
    assert ("outside" in mine(host)) is kept


def test_a_host_for_tests_loads_no_outside_plugins(install):
    install(GOOD)
    assert mine(Host(NOTHING, outside=False)) == {}


def test_a_broken_command_plugin_does_not_keep_the_options_of_the_program():
    class Broken:
        @hookimpl
        def register_commands(self, app):
            app.callback()(lambda: None)
            raise KeyError("late")

    host, app = Host(outside=False), typer.Typer()
    app.callback()(print)
    host.add(Broken(), "broken")
    host.register_commands(app)
    assert app.registered_callback.callback is print
