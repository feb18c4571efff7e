"""`blurgate models`: list, fetch and verify models."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from blurgate.cli import options, warn
from blurgate.cli.columns import columns, size_text
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.catalogue import Pack
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate models pull buffalo_sc

fetches a face detector and a recogniser; `blurgate models --json` lists what there is.
"""
PULL_EXAMPLE = """Example:

  blurgate models pull buffalo_sc --yes

  blurgate models pull scrfd_2.5g_bnkps --from downloads/scrfd_2.5g_bnkps.onnx
"""
VERIFY_EXAMPLE = """Example:

  blurgate models verify
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command and its subcommands."""
    models = typer.Typer(rich_markup_mode=None)
    models.callback(invoke_without_command=True, epilog=EXAMPLE)(list_models)
    models.command("pull", epilog=PULL_EXAMPLE)(pull_models)
    models.command("verify", epilog=VERIFY_EXAMPLE)(verify_models)
    app.add_typer(models, name="models")


def list_models(context: typer.Context, as_json: options.Json = False) -> None:
    """List models, fetch them (pull) and check their files (verify)."""
    if context.invoked_subcommand is not None:
        return
    import json
    from dataclasses import asdict

    from blurgate import catalogue, zoo

    rows = zoo.models()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = [("NAME", "KIND", "ORIGIN", "HERE", "DEFAULT", "SIZE", "THRESHOLD", "LICENCE")]
    for row in rows:
        here, default = "yes" if row.present else "no", "yes" if row.default else ""
        size = size_text(row.bytes) if row.bytes != 0 else "-"
        threshold = "" if row.threshold is None else f"{row.threshold:g}"
        table.append((row.name, row.kind, row.origin, here, default, size, threshold, row.licence))
    for line in columns(table):
        typer.echo(line)
    typer.echo(f"\nmodel folder: {catalogue.models_folder()}", err=True)


def pull_models(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Packs or models, such as buffalo_sc.")
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="ADDRESS|FILE", help="Mirror or file to take it from."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Accept the licence without a question.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch third-party models into the model folder, after showing size and licence."""
    from blurgate import packs
    from blurgate.cli.progress import progress_bar
    from blurgate.errors import ConfigError

    chosen = list({pack.name: pack for pack in map(packs.pack_called, names)}.values())
    if source is not None and len(chosen) > 1:
        raise ConfigError("--from goes with one NAME")
    missing = []
    for pack in chosen:
        if packs.is_installed(pack):
            typer.echo(f"{pack.name} is already here", err=True)
        elif not pack.url and source is None:
            packs.pull(pack)  # says that it needs --from, before anything is asked
        else:
            missing.append(pack)
    for pack in missing:
        _describe(pack, source)
    if missing and not yes:
        _confirm(names, source)
    for pack in missing:
        with progress_bar(pack.bytes, "bytes", quiet=quiet) as bar:
            installed = packs.pull(
                pack, source, lambda done, total: bar(done, f"of {size_text(total)}")
            )
        for model in installed:
            note = "recorded at this first pull" if model.recorded else "as promised"
            typer.echo(f"{model.name}  {model.path}  sha256 {model.sha256} ({note})")


def _describe(pack: Pack, source: str | None) -> None:
    """Say on stderr what a pull would fetch and under which licence."""
    from blurgate import catalogue
    from blurgate.download import public_form

    models = catalogue.models_in(pack)
    where = public_form(source or pack.url)
    typer.echo(f"{pack.name}: {size_text(pack.bytes)} from {where}", err=True)
    for model in models:
        typer.echo(f"  {model.kind} {model.name}, {size_text(model.bytes)}", err=True)
    for licence in sorted({model.licence for model in models}):
        typer.echo(f"  licence: {licence}", err=True)
    if not pack.sha256:
        typer.echo("  checksum: none is public; this pull's is recorded and enforced", err=True)
    if pack.note:
        typer.echo(f"  note: {pack.note}", err=True)
    typer.echo(f"  goes to {catalogue.models_folder()}", err=True)


def _confirm(names: list[str], source: str | None) -> None:
    from blurgate.download import public_form
    from blurgate.errors import ConfigError

    if not sys.stdin.isatty():
        origin = "" if source is None else f" --from {source}"
        if source is not None and public_form(source) != source:  # it may hold a password
            origin = " --from ADDRESS"
        raise ConfigError(
            "without a terminal nobody can be asked to accept the licence; to accept it, run: "
            f"blurgate models pull {' '.join(names)}{origin} --yes"
        )
    if not typer.confirm("Accept the licence and fetch?", err=True):
        raise ConfigError("the licence was not accepted; nothing was fetched")


def verify_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Models or packs [default: all that are here]."),
    ] = None,
) -> None:
    """Recompute the SHA-256 of model files and compare with what was promised."""
    from blurgate import zoo
    from blurgate.errors import ChecksumError, MissingModelError

    wrong = []
    for found in zoo.verify(names or ()):
        typer.echo(f"{found.state:<10}  {found.name}  {found.path}")
        if found.state == "unrecorded":
            warn(f"warning: nobody has promised the checksum of {found.path}: {found.detail}")
        elif found.state != "ok":
            wrong.append(found)
    if wrong:
        kind = MissingModelError if wrong[0].state == "missing" else ChecksumError
        told = ((f"{found.name}: {found.state}", found.detail, found.mend) for found in wrong)
        raise kind("; ".join(part for parts in told for part in parts if part))
