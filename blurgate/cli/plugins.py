"""`blurgate plugins`: what is registered, by whom, and what was left out and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from blurgate.cli import options, warn
from blurgate.cli.columns import columns
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate plugins --verbose

BLURGATE_DISABLED_PLUGINS=NAME,... leaves outside plugins out; * stands for all of them.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("plugins", epilog=EXAMPLE)(list_plugins)


def list_plugins(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show each plugin's module, file and aliases too.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List every plugin by kind, with its distribution. Tells which are broken or disabled."""
    import json
    from dataclasses import asdict

    from blurgate.host import get_host

    host = get_host()
    found = [
        {
            "kind": entry.kind,
            "name": entry.name,
            "aliases": list(entry.aliases),
            "distribution": entry.distribution,
            "version": entry.version,
            "plugin": entry.plugin,
            **dict(zip(("module", "file"), host.where(entry.plugin), strict=True)),
        }
        for entry in [*host.entries(), *host.commands()]
    ]
    broken = [asdict(plugin) for plugin in dict.fromkeys(host.broken)]
    if as_json:
        disabled = [asdict(plugin) for plugin in host.disabled]
        facts = {"plugins": found, "broken": broken, "disabled": disabled}
        typer.echo(json.dumps(facts, indent=2))
        return
    for line in columns(_table(found, verbose=verbose)):
        typer.echo(line)
    for out in host.disabled:
        typer.echo(f"disabled: {out.plugin} of {out.distribution} {out.version}")
    for plugin in broken:
        typer.echo(
            f"broken: {plugin['plugin']} of {plugin['distribution']} {plugin['version']}: "
            f"{plugin['error']}"
        )
    if broken:
        names = ",".join(dict.fromkeys(plugin["plugin"] for plugin in broken))
        warn(f"warning: broken plugins are left out; to silence: BLURGATE_DISABLED_PLUGINS={names}")


def _table(found: list[dict[str, Any]], *, verbose: bool) -> list[tuple[str, ...]]:
    head: tuple[str, ...] = ("KIND", "NAME", "DISTRIBUTION", "VERSION")
    table = [(*head, "MODULE", "FILE", "ALIASES") if verbose else head]
    for entry in found:
        row = (entry["kind"], entry["name"], entry["distribution"], entry["version"])
        more = (entry["module"], entry["file"], ", ".join(entry["aliases"]))
        table.append((*row, *more) if verbose else row)
    return table
