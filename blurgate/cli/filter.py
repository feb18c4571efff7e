"""`blurgate filter`: keep the usable faces of videos and pictures."""

from __future__ import annotations

import re
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blurgate.cli import EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.cli.summary import print_summary
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.counting import Progress
    from blurgate.gate import Gate
    from blurgate.interfaces import App
    from blurgate.io.live import LiveOptions
    from blurgate.io.sources import Source
    from blurgate.sharding import Shard
    from blurgate.writing import Outputs

_LONGEST_STEM = 200
"""Bytes of a default folder's name without its ending: file systems take 255 in all."""
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\.|$)")
"""Begins what is a device on Windows, whatever follows the dot."""

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
    context: typer.Context,
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
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Threshold and the like from `blurgate calibrate`."),
    ] = None,
    review: Annotated[
        float | None,
        typer.Option(metavar="WIDTH", help="Send faces this near to the threshold to review/."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Output folder [default: <stem>.blurgate, here]."),
    ] = None,
    detector: options.Detector = None,
    model: options.Model = None,
    det_size: options.DetSize = 640,
    min_score: options.MinScore = 0.5,
    min_face: Annotated[
        float | None,
        typer.Option(metavar="PX", help="Reject faces whose shorter side is below PX."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Look at every N-th frame only.")
    ] = 1,
    detect_every: options.DetectEvery = 8,
    shard: options.Shard = None,
    crops: Annotated[
        Literal["aligned", "loose", "none"],
        typer.Option(help="Pictures of faces: aligned 112x112, loose around the box, or none."),
    ] = "aligned",
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Write rejected faces too, to rejected/.")
    ] = False,
    blur_kind: options.BlurKind = False,
    best_shot: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Keep only the N best faces of each person in a video."
        ),
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Draw the faces into a copy, in annotated/.")
    ] = False,
    cut: Annotated[
        bool, typer.Option("--cut", help="Shorten videos to their kept faces, in cut/.")
    ] = False,
    cut_pad: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="What --cut leaves around them.")
    ] = 0.5,
    duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Stop a camera or stream after so many seconds."),
    ] = None,
    reconnects: Annotated[
        int, typer.Option(min=0, metavar="N", help="Attempts to find a lost stream again.")
    ] = 5,
    stream_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Seconds of silence after which a stream counts as lost."
        ),
    ] = 10.0,
    table: Annotated[str, typer.Option(help="Format of the table: csv, jsonl or parquet.")] = "csv",
    device: options.Device = "auto",
    workers: options.Workers = None,
    resume: options.Resume = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")
    ] = False,
    profile_stages: Annotated[
        bool,
        typer.Option("--profile-stages", help="Say on stderr where the time went."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Keep the usable faces of videos, pictures and streams."""
    from blurgate.errors import ConfigError
    from blurgate.filtering import check_run, run_filter
    from blurgate.folders import SUMMARY, check_not_replaced
    from blurgate.gate import Gate
    from blurgate.host import get_host
    from blurgate.interfaces import DetectorOptions
    from blurgate.io.live import LiveOptions
    from blurgate.io.remote import is_remote
    from blurgate.io.sources import expand
    from blurgate.profiling import taking_profile
    from blurgate.sharding import Shard
    from blurgate.writing import Outputs

    if resume and overwrite:
        raise ConfigError("use --resume or --overwrite, not both")
    get_host().registry("sink")[table]  # an unknown format is an error before anything is written
    there = None
    if out is not None and is_remote(out):
        from blurgate.remote_output import RemoteFolder, alone_there

        there = RemoteFolder(out)
    named = default_folder(source[0]) if out is None else out
    folder = Path(named) if there is None else there.local
    outputs = Outputs(
        folder,
        table=table,
        crops=crops,
        keep_rejected=keep_rejected,
        resume=resume,
        overwrite=overwrite,
        best_shot=best_shot or 0,
        annotate=annotate,
        cut=cut,
        cut_pad_s=cut_pad,
    )
    part = Shard.parse(shard) if shard is not None else None
    live = LiveOptions(duration, reconnects, stream_timeout)
    found = list(expand(source, stdin=sys.stdin))
    _check_live(found, outputs, live, part)
    if overwrite:
        check_not_replaced(found, folder)
    if any(one.kind == "live" for one in found):
        signal.signal(signal.SIGINT, live.stopper)
        signal.signal(signal.SIGTERM, live.stopper)
    gate = Gate(
        threshold,
        review=review,
        min_face=min_face,
        profile=profile,
        detector=detector,
        scorer=model,
        device=device,
        workers=workers or options.usable_cores(),
        options=DetectorOptions(det_size, min_score),
        detect_every=detect_every,
        kinds=blur_kind,
    )
    mine = found if part is None else [one for one in found if one.name in part]
    if dry_run:
        if there is not None:
            there.check_usable(resume=resume, overwrite=overwrite)
        if there is None or resume:  # the folder where it is made begins anew otherwise
            check_run(gate, outputs, every=every, shard=part)
        _print_plan(mine, gate, outputs, as_json=as_json)
        return
    if there is not None:
        context.with_resource(alone_there(there.address, "--out"))
        there.begin(resume=resume, overwrite=overwrite)

    def summary_text() -> str:
        return (folder / SUMMARY).read_text(encoding="utf-8") if as_json else ""

    def tell(progress: Progress, facts: str, where: Path | str) -> None:
        if as_json:
            typer.echo(facts, nl=False)
        if not quiet:
            print_summary(progress, where)

    latest: Progress | None = None
    total = None if quiet or not sys.stderr.isatty() else _total_frames(mine)
    with (
        taking_profile() if profile_stages else nullcontext() as measured,
        progress_bar(total, "frames", quiet=quiet) as bar,
    ):

        def show(progress: Progress) -> None:
            nonlocal latest
            latest = progress
            done, now = progress.totals, progress.now
            bar(
                done.frames + now.frames,
                f"{progress.frames_per_s:.0f} frames/s, {done.faces + now.faces} faces, "
                f"{done.kept + now.kept} kept",
            )

        try:
            progress = run_filter(
                gate, found, outputs,
                every=every, shard=part, live=live, on_progress=show,
                on_failure=lambda name, error: warn(error or name),
            )  # fmt: skip
        except KeyboardInterrupt:
            if latest is not None:
                tell(latest, summary_text(), folder)
            raise
    if measured is not None:
        for line in measured.lines(progress.totals.frames - progress.resumed_frames):
            typer.echo(line, err=True)
    facts, where = summary_text(), str(folder)
    if there is not None and not live.stopper.asked:
        there.publish()  # a reader of stdout who has left must not keep it from going up
        where = there.address
    tell(progress, facts, where)
    if live.stopper.asked:
        raise typer.Exit(EXIT_INTERRUPTED)
    if progress.n_sources and progress.sources_lost == progress.n_sources:
        raise typer.Exit(EXIT_NOTHING)
    if progress.sources_failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _check_live(
    sources: list[Source], outputs: Outputs, live: LiveOptions, shard: Shard | None
) -> None:
    """Refuse what cannot be done, before anything is written."""
    from blurgate.errors import ConfigError
    from blurgate.io.remote import is_remote
    from blurgate.io.text import shown

    streams = [source.name for source in sources if source.kind == "live"]
    if live.duration_s is not None and not streams:
        raise ConfigError("--duration is for cameras and streams; there is none among the sources")
    if (outputs.annotate or outputs.cut) and any(is_remote(one.name) for one in sources):
        raise ConfigError("--annotate and --cut need videos that are files of this machine")
    if shard is not None and streams:
        raise ConfigError(f"--shard divides files; {streams[0]} is a camera or stream")
    if outputs.annotate or outputs.cut:
        once = (one.name for one in sources if one.kind == "live" or _is_pipe(one))
        if (first := next(once, None)) is not None:
            raise ConfigError(
                f"--annotate and --cut look at a source twice, which {shown(first)} does not "
                "allow; record it to a file first"
            )
        from blurgate.io.encode import video_encoder
        from blurgate.runtime import PIP_PYAV

        if not video_encoder().startswith(("lib", "h264")):
            warn(
                f"this PyAV has no H.264 encoder; videos are written with {video_encoder()}, "
                f"which browsers do not play ({PIP_PYAV})"
            )


def _is_pipe(source: Source) -> bool:
    return source.kind == "video" and Path(source.name).is_fifo()


def default_folder(source: str) -> str:
    """Give the output folder for a first source: its stem, made safe, with `.blurgate`.

    >>> default_folder("clips/walk.mp4"), default_folder("-"), default_folder("0")
    ('walk.blurgate', 'stdin.blurgate', 'camera0.blurgate')
    """
    if source == "-":
        return "stdin.blurgate"
    if source.isdecimal():
        return f"camera{source}.blurgate"
    tail = source
    if "://" in source:
        from blurgate.io.address import masked

        tail = re.split(r"[?#]", masked(source).replace("***@", ""))[0]
    stem = Path(tail).stem if Path(tail).name not in {"", ".", ".."} else Path(tail).resolve().name
    safe = re.sub(r"[^\w.-]+", "_", stem).strip(".-_")
    safe = safe.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return f"{'_' if _RESERVED.match(safe) else ''}{safe or 'faces'}.blurgate"


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


def _print_plan(sources: list[Source], gate: Gate, outputs: Outputs, *, as_json: bool) -> None:
    rule = gate.rule
    kinds = [source.kind for source in sources]
    if as_json:
        import json
        from dataclasses import asdict

        plan = {
            "sources": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "model": asdict(gate.scorer.info),
            "detector": asdict(gate.detector.info),
            "det_size": gate.options.long_side,
            "threshold": rule.threshold,
            "review": rule.review,
            "min_face": rule.min_face_px,
            "out": str(outputs.folder),
            "table": outputs.table,
            "crops": outputs.crops,
        }
        typer.echo(json.dumps(plan, indent=1))
        return
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    typer.echo(f"sources    {len(sources)}" + (f" ({counts})" if counts else ""))
    typer.echo(f"detector   {gate.detector.info}, input {gate.options.long_side} px")
    typer.echo(f"model      {gate.scorer.info}")
    typer.echo(
        f"threshold  {rule.threshold:g}, review {rule.review:g}, min face {rule.min_face_px:g} px"
    )
    typer.echo(f"output     {outputs.folder} (faces.{outputs.table}, crops {outputs.crops})")
