"""`blurgate score`: the blur degree of every face of every picture, as a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blurgate.cli import EXIT_NOTHING, EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from blurgate.engines import ScorePaths
    from blurgate.interfaces import App
    from blurgate.scoring import ScoreCounts

EXAMPLE = """Example:

  blurgate score ./photos --csv out.csv

Writes one row per face, in the order of the paths; a picture without a face, or one that cannot be
read, has a row that says so.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("score", epilog=EXAMPLE)(score_command)


def score_command(
    context: typer.Context,
    path: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Picture, folder, glob, or - for a list of paths on stdin."
        ),
    ],
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write CSV; - is stdout [default: -].")
    ] = None,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write JSON lines; - is stdout.")
    ] = None,
    parquet: Annotated[str | None, typer.Option(metavar="FILE", help="Write Parquet.")] = None,
    aligned: Annotated[
        bool,
        typer.Option("--aligned", help="The pictures are aligned face crops: score them as is."),
    ] = False,
    detector: options.Detector = None,
    model: options.Model = None,
    det_size: options.DetSize = 640,
    min_score: options.MinScore = 0.5,
    blur_kind: options.BlurKind = False,
    shard: options.Shard = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local, or ray: a cluster, with --parquet as a folder of parts."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Ray cluster, such as auto [default: start one]."),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Ray actors at most [default: all that fit]."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted table.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Score the faces of pictures, from 0 sharp to 1 unusable. One table row per face."""
    from blurgate import zoo
    from blurgate.engines import ScorePaths
    from blurgate.errors import ConfigError
    from blurgate.interfaces import DetectorOptions, Runtime
    from blurgate.io.remote import is_remote
    from blurgate.scoring import list_images, run_score
    from blurgate.sharding import Shard, part_of
    from blurgate.stages import check_kinds

    tables = {"csv": csv, "jsonl": jsonl, "parquet": parquet}
    wanted = [(name, file) for name, file in tables.items() if file is not None] or [("csv", "-")]
    if len(wanted) > 1:
        raise ConfigError("choose one of --csv, --jsonl and --parquet")
    ((table, file),) = wanted
    if engine == "ray":
        if table != "parquet" or shard is not None:
            raise ConfigError(
                "--engine ray writes a folder of Parquet parts and divides the work itself: give "
                "it --parquet DIR and no --shard; blurgate merge DIR makes one table of it"
            )
        if blur_kind:
            raise ConfigError("--blur-kind is for the local engine; divide the work with --shard")
        settings = ScorePaths(
            model=model,
            detector=detector,
            aligned=aligned,
            det_size=det_size,
            min_score=min_score,
            device=device,
            workers=workers or 1,
        )
        _score_with_ray(settings, path, file, address, actors, resume=resume, quiet=quiet)
        return
    if address is not None or actors is not None:
        raise ConfigError("--address and --actors are for --engine ray")
    there = None
    if is_remote(file):
        from blurgate.remote_output import RemoteTable, alone_there

        there = RemoteTable(file, f"--{table}")
    target = None if file == "-" else Path(file) if there is None else there.local
    if resume and target is None:
        raise ConfigError("--resume needs a file to continue; stdout cannot be resumed")
    runtime = Runtime(device)
    detection = DetectorOptions(det_size, min_score)
    scorer = zoo.open_scorer(model, runtime)
    if blur_kind:
        check_kinds(scorer)
    finder = None if aligned else zoo.open_detector(detector, runtime, detection)
    division = Shard.parse(shard) if shard is not None else None
    names = list_images(path, stdin=sys.stdin)
    part = part_of(names, division) if division is not None else None
    mine = names if part is None else part.names

    if there is not None:
        context.with_resource(alone_there(there.address, f"--{table}"))
        there.begin(resume=resume)
        target = there.local
    with progress_bar(len(mine), "pictures", quiet=quiet) as bar:
        counts = run_score(
            scorer,
            finder,
            mine,
            table=table,
            path=target,
            options=detection,
            workers=workers or options.usable_cores(),
            resume=resume,
            part=part,
            kinds=blur_kind,
            on_progress=_shown(bar),
            on_failure=lambda name, error: warn(error or name),
        )
    if there is not None:
        there.publish()
    _end(counts, file, quiet=quiet)


def _score_with_ray(
    score: ScorePaths,
    paths: list[str],
    folder: str,
    address: str | None,
    actors: int | None,
    *,
    resume: bool,
    quiet: bool,
) -> None:
    from blurgate.engines.ray import run_ray
    from blurgate.scoring import list_images

    names = list_images(paths, stdin=sys.stdin)
    with progress_bar(len(names), "pictures", quiet=quiet) as bar:
        counts = run_ray(
            score, names, folder,
            address=address, actors=actors, resume=resume,
            on_progress=_shown(bar), on_failure=lambda name, error: warn(error or name),
        )  # fmt: skip
    _end(counts, folder, quiet=quiet)


def _shown(bar: Callable[[int, str], None]) -> Callable[[ScoreCounts], None]:
    return lambda n: bar(n.done, f"{n.faces} faces, {n.unreadable} unreadable")


def _end(counts: ScoreCounts, target: str, *, quiet: bool) -> None:
    summary = (
        f"{counts.done} pictures: {counts.faces} faces in {counts.ok}, no face in "
        f"{counts.no_face}, {counts.unreadable} unreadable"
    )
    if counts.resumed or (counts.total and not counts.done):
        summary = f"{target} is complete; nothing was left to resume"
    if not quiet:
        typer.echo(summary, err=True)
    if counts.unreadable and counts.unreadable == counts.total:
        raise typer.Exit(EXIT_NOTHING)
    if counts.unreadable:
        raise typer.Exit(EXIT_SOME_FAILED)
