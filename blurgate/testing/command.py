"""The contract of a command; see `blurgate.hookspecs.register_commands`."""

from __future__ import annotations

import importlib
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from blurgate.host import BUILTIN, Host
from blurgate.testing import common

if TYPE_CHECKING:
    import typer

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Subject:
    """A plugin module, or its name, that registers commands."""

    def __init__(self, plugin: Any) -> None:
        self.module = importlib.import_module(plugin) if isinstance(plugin, str) else plugin

    @cached_property
    def app(self) -> typer.Typer:
        """An application with the plugin's commands alone."""
        import typer

        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.callback()(lambda: None)  # or a single command would be the application itself
        self.module.register_commands(app=app)
        return app

    @property
    def names(self) -> list[str]:
        """The names of the commands."""
        import typer.main

        group: Any = typer.main.get_command(self.app)
        return sorted(group.commands)

    def run(self, *arguments: str) -> Any:
        """Run the application in this process."""
        from typer.testing import CliRunner

        return CliRunner().invoke(self.app, arguments)


def adds_commands_with_names_of_their_own(subject: Subject) -> None:
    """At least one command; names in lower case, words joined by "-", none of blurgate's."""
    import typer

    common.require(subject.names, "`register_commands(app)` added no command")
    ours = typer.Typer()
    Host(outside=False).register_commands(ours)
    group: Any = typer.main.get_command(ours)
    built_in = getattr(subject.module, "__name__", "") in BUILTIN["command"]
    for name in subject.names:
        common.require(_NAME.fullmatch(name), f"{name!r}: names are lower-case words joined by '-'")
        common.require(
            built_in or name not in group.commands, f"blurgate has a command {name!r} of its own"
        )


def help_says_what_and_shows_an_example(subject: Subject) -> None:
    """`--help` exits with 0, and has a sentence and an example."""
    for name in subject.names:
        result = subject.run(name, "--help")
        common.require(
            result.exit_code == 0, f"{name} --help exits with {result.exit_code}: {result.output}"
        )
        said = [line for line in result.output.splitlines() if line.strip()]
        common.require(
            len(said) > 1 and not said[1].startswith(("Options", "Arguments")),
            f"{name} --help does not say what the command does: give the function a docstring",
        )
        common.require(
            f"blurgate {name}" in result.output,
            f"{name} --help shows no example: app.command(epilog='Example: blurgate {name} ...')",
        )


def an_unknown_option_is_wrong_usage(subject: Subject) -> None:
    """An option that does not exist ends with exit code 2."""
    for name in subject.names:
        result = subject.run(name, "--no-command-has-this")
        common.require(
            result.exit_code == 2, f"{name} with an unknown option exits with {result.exit_code}"
        )


CHECKS: Final = (
    adds_commands_with_names_of_their_own,
    help_says_what_and_shows_an_example,
    an_unknown_option_is_wrong_usage,
)
