"""`blurgate filter`: keep the usable faces of videos and pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blurgate.cli import EXIT_NOTHING, EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.filtering import Outputs, Progress
    from blurgate.gate import Gate
    from blurgate.interfaces import App
    from blurgate.io.sources import Source

EXAMPLE = """Example:

  blurgate filter video.mp4 --threshold 0.4 --out faces

Writes faces/faces.csv with one row per detected face, the kept faces as pictures in faces/kept/,
and faces/summary.json.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("filter", epilog=EXAMPLE)(filter_command)


def filter_command(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Video, picture, folder, glob, camera index, stream address, "
            "or - for a list of paths on stdin.",
        ),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="Reject above this blur degree, 0 to 1 [default: the model card's]."),
    ] = None,
    review: Annotated[
        float, typer.Option(metavar="WIDTH", help="Degrees this near to the threshold: to review/.")
    ] = 0.0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder [default: <stem>.blurgate, here]."),
    ] = None,
    detector: options.Detector = None,
    model: options.Model = None,
    det_size: options.DetSize = 640,
    min_score: options.MinScore = 0.5,
    min_face: Annotated[
        float, typer.Option(metavar="PX", help="Reject faces whose shorter side is below PX.")
    ] = 0.0,
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Look at every N-th frame only.")
    ] = 1,
    crops: Annotated[
        Literal["aligned", "loose", "none"],
        typer.Option(help="Pictures of faces: aligned 112x112, loose around the box, or none."),
    ] = "aligned",
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Write rejected faces too, to rejected/.")
    ] = False,
    table: Annotated[str, typer.Option(help="Format of the table: csv, jsonl or parquet.")] = "csv",
    device: options.Device = "auto",
    workers: options.Workers = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run in the same folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Keep the faces that a recogniser can use, of videos, pictures or streams."""
    from blurgate.errors import ConfigError
    from blurgate.filtering import SUMMARY, Outputs, run_filter
    from blurgate.gate import Gate
    from blurgate.host import get_host
    from blurgate.interfaces import DetectorOptions
    from blurgate.io.sources import expand

    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    get_host().registry("sink")[table]  # an unknown format is an error before anything is written
    listed = [line.rstrip("\n") for line in sys.stdin] if "-" in source else []
    folder = out if out is not None else Path(default_folder(source[0]))
    outputs = Outputs(folder, table, crops, keep_rejected, resume, overwrite)
    found = list(expand(source, stdin=listed))
    gate = Gate(
        threshold,
        review=review,
        min_face=min_face,
        detector=detector,
        scorer=model,
        device=device,
        workers=workers or options.usable_cores(),
        options=DetectorOptions(det_size, min_score),
    )
    if dry_run:
        _print_plan(found, gate, outputs)
        return
    failures = 0

    def on_failure(name: str, error: str) -> None:
        nonlocal failures
        failures += 1
        warn(error or name)

    total = None if quiet or not sys.stderr.isatty() else _total_frames(found)
    with progress_bar(total, "frames", quiet=quiet) as bar:

        def show(progress: Progress) -> None:
            done, now = progress.totals, progress.now
            bar(
                done.frames + now.frames,
                f"{progress.frames_per_s:.0f} frames/s, {done.faces + now.faces} faces, "
                f"{done.kept + now.kept} kept",
            )

        progress = run_filter(
            gate, found, outputs, every=every, on_progress=show, on_failure=on_failure
        )
    if as_json:
        typer.echo((folder / SUMMARY).read_text(encoding="utf-8"), nl=False)
    if not quiet:
        _print_summary(progress, folder)
    if progress.sources_lost == progress.n_sources:
        raise typer.Exit(EXIT_NOTHING)
    if progress.sources_failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def default_folder(source: str) -> str:
    """Give the output folder for a first source: its stem, made safe, with `.blurgate`.

    >>> default_folder("clips/walk.mp4"), default_folder("-"), default_folder("0")
    ('walk.blurgate', 'stdin.blurgate', 'camera0.blurgate')
    """
    if source == "-":
        return "stdin.blurgate"
    if source.isdecimal():
        return f"camera{source}.blurgate"
    tail = re.split(r"[?#]", source)[0] if "://" in source else source
    stem = Path(tail).stem if Path(tail).name not in {"", ".", ".."} else Path(tail).resolve().name
    safe = re.sub(r"[^\w.-]+", "_", stem).strip(".-_")
    return f"{safe or 'faces'}.blurgate"


def _total_frames(sources: list[Source]) -> int | None:
    """Estimate the frames of all sources; None when one of them has no end."""
    from blurgate.io.video import estimate_frames

    total = 0
    for source in sources:
        frames = 1 if source.kind == "image" else estimate_frames(source.name)
        if source.kind == "live" or frames is None:
            return None
        total += frames
    return total


def _print_plan(sources: list[Source], gate: Gate, outputs: Outputs) -> None:
    rule = gate.rule
    kinds = [source.kind for source in sources]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    typer.echo(f"sources    {len(sources)} ({counts})")
    typer.echo(f"detector   {gate.detector.info}, input {gate.options.long_side} px")
    typer.echo(f"model      {gate.scorer.info}")
    typer.echo(
        f"threshold  {rule.threshold:g}, review {rule.review:g}, min face {rule.min_face_px:g} px"
    )
    typer.echo(f"output     {outputs.folder} (faces.{outputs.table}, crops {outputs.crops})")


def _print_summary(progress: Progress, folder: Path) -> None:
    counts = progress.totals
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.reasons.items()))
    lines = [
        f"{progress.n_sources} sources, {counts.frames} frames"
        + (f" ({counts.frames_failed} more could not be read)" if counts.frames_failed else ""),
        f"{counts.faces} faces: {counts.kept} kept, {counts.review} to review, "
        f"{counts.rejected} rejected" + (f" ({reasons})" if reasons else ""),
        f"{progress.elapsed_s:.1f} s, {progress.frames_per_s:.1f} frames/s; results in {folder}",
    ]
    typer.echo("\n".join(lines), err=True)
