"""Write the option tables of docs/cli.md from the code: python scripts/make_cli_reference.py.

The text around the tables is written by hand; each table stands between two marker comments. A test
fails when the page and the code differ.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from blurgate.cli import make_app

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
TABLE = re.compile(r"<!-- options of ([a-z ]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)


def commands(app: typer.Typer | None = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give (name, function) of every command, those of a group as `models pull`."""
    app = make_app() if app is None else app
    if prefix and app.registered_callback is not None:
        yield prefix.rstrip(), app.registered_callback.callback
    for command in app.registered_commands:
        yield prefix + str(command.name), command.callback
    for group in app.registered_groups:
        yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def table(function: Callable[..., Any]) -> str:
    """Give the Markdown table of a command's arguments and options."""
    lines = ["| option | meaning |", "| --- | --- |"]
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = hints[name]
        if not hasattr(annotation, "__metadata__"):
            continue  # typer's own context
        (info,) = (m for m in annotation.__metadata__ if isinstance(m, ArgumentInfo | OptionInfo))
        lines.append(
            f"| {_name(name, annotation.__origin__, info)} | {_meaning(info, parameter)} |"
        )
    return "\n".join(lines) + "\n"


def _name(name: str, kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return f"`{info.metavar or name.upper()}`"
    # typer keeps the first flag where a default stands outside Annotated.
    first = [info.default] if isinstance(info.default, str) else []
    flags = [*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"]
    text = ", ".join(f"`{flag}`" for flag in flags)
    if kind is bool:
        return text
    if typing.get_origin(kind) is typing.Literal:
        choices = "\\|".join(typing.get_args(kind))
        return f"{text} `{choices}`"
    if isinstance(kind, types.UnionType):
        kind = next(k for k in kind.__args__ if k is not type(None))
    return f"{text} `{(info.metavar or kind.__name__.upper())}`".replace("|", "\\|")


def _meaning(info: ArgumentInfo | OptionInfo, parameter: inspect.Parameter) -> str:
    text = (info.help or "").replace("|", "\\|")
    default = parameter.default
    if default in (None, False, inspect.Parameter.empty) or "[default" in text:
        return text
    return (
        f"{text} [default: {default:g}]"
        if isinstance(default, float)
        else f"{text} [default: {default}]"
    )


def rendered(page: str) -> str:
    """Give the page with every table made anew."""
    tables = {name: table(function) for name, function in commands()}
    return TABLE.sub(lambda m: f"<!-- options of {m[1]} -->\n{tables[m[1]]}<!-- end -->\n", page)


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
