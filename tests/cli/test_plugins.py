from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from blurgate import host as host_module
from blurgate.cli import plugins as command
from blurgate.hookspecs import hookimpl
from blurgate.host import BUILTIN, Broken, Disabled, Host


class Plugin:
    @hookimpl
    def register_scorers(self, register):
        register("sharp", object, aliases=("crisp", "clear"))

    @hookimpl
    def register_sinks(self, register):
        register("null", object)

    @hookimpl
    def register_commands(self, app):
        app.command("shout")(run)
        app.command()(read_aloud)


def read_aloud():
    pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(dict.fromkeys(BUILTIN, ()), outside=False)
    host.add(Plugin(), "my_plugin")
    host._origin["my_plugin"] = ("my-dist", "1.2")
    monkeypatch.setattr(host_module, "get_host", lambda: host)
    return host


def run(*arguments: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register_commands(app)
    return CliRunner().invoke(app, ["plugins", *arguments])


def test_the_table(host):
    result = run()
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["KIND", "NAME", "DISTRIBUTION", "VERSION"],
        ["scorer", "sharp", "my-dist", "1.2"],
        ["sink", "null", "my-dist", "1.2"],
        ["command", "read-aloud", "my-dist", "1.2"],
        ["command", "shout", "my-dist", "1.2"],
    ]
    assert result.stderr == ""


def test_verbose_adds_module_file_and_aliases(host):
    lines = run("--verbose").stdout.splitlines()
    assert lines[0].split()[4:] == ["MODULE", "FILE", "ALIASES"]
    assert lines[1].split()[4:] == [__name__, __file__, "crisp,", "clear"]


def test_json(host):
    report = json.loads(run("--json").stdout)
    place = {"plugin": "my_plugin", "module": __name__, "file": __file__}
    mine = {"distribution": "my-dist", "version": "1.2", **place}
    assert report == {
        "plugins": [
            {"kind": "scorer", "name": "sharp", "aliases": ["crisp", "clear"], **mine},
            {"kind": "sink", "name": "null", "aliases": [], **mine},
            {"kind": "command", "name": "read-aloud", "aliases": [], **mine},
            {"kind": "command", "name": "shout", "aliases": [], **mine},
        ],
        "broken": [],
        "disabled": [],
    }


def test_disabled_plugins_are_listed(host):
    host.disabled.append(Disabled("off", "off-dist", "3.0"))
    assert run().stdout.splitlines()[-1] == "disabled: off of off-dist 3.0"
    assert json.loads(run("--json").stdout)["disabled"] == [
        {"plugin": "off", "distribution": "off-dist", "version": "3.0"}
    ]


def test_a_broken_plugin_is_marked_once_and_the_exit_code_stays_0(host):
    host.broken += [Broken("bad", "bad-dist", "0.1", "ImportError: no")] * 3
    result = run()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "broken: bad of bad-dist 0.1: ImportError: no"
    assert result.stdout.count("broken:") == 1
    assert "BLURGATE_DISABLED_PLUGINS=bad" in result.stderr
    report = json.loads(run("--json").stdout)
    assert report["broken"] == [
        {
            "plugin": "bad",
            "distribution": "bad-dist",
            "version": "0.1",
            "error": "ImportError: no",
        }
    ]
    assert len(report["plugins"]) == 4


def test_the_built_in_plugins_are_listed():
    names = {(row["kind"], row["name"]) for row in json.loads(run("--json").stdout)["plugins"]}
    assert {
        ("detector", "scrfd"),
        ("scorer", "laplacian"),
        ("scorer", "onnx"),
        ("embedder", "arcface"),
        ("sink", "csv"),
        ("sink", "jsonl"),
        ("sink", "parquet"),
        ("command", "filter"),
    } <= names
