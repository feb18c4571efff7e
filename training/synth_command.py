"""The commands of the training subpackage: `blurgate synth`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blurgate.cli import EXIT_NOTHING, EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from blurgate.interfaces import App
    from blurgate.training.faces import Face
    from blurgate.training.synth import SynthCounts

SYNTH_EXAMPLE = """Example:

  blurgate synth photos --align --blur linear --per-image 10 --out trainset

finds the face of every photo, blurs it ten times, and writes the pictures with their labels.
Folders below `photos` are people; --val 0.2 puts a fifth of them aside.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the commands."""
    app.command("synth", epilog=SYNTH_EXAMPLE)(synth_command)


def synth_command(
    faces: Annotated[
        list[str],
        typer.Argument(
            metavar="FACES...", help="Picture, folder, glob, or - for a list of paths on stdin."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder.")],
    blur: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Synthesizer, may be repeated [default: random]."),
    ] = None,
    per_image: Annotated[
        int,
        typer.Option(min=1, max=10_000, metavar="N", help="Pictures per face and synthesizer."),
    ] = 1,
    iterative: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Blurs, one after the other.")
    ] = 1,
    seed: Annotated[int, typer.Option(metavar="S", help="Same seed, same files.")] = 0,
    even: Annotated[
        bool, typer.Option("--even", help="Draw severities so that labels come out even.")
    ] = False,
    val: Annotated[
        float, typer.Option(metavar="FRACTION", help="Share of the identities for validation.")
    ] = 0.0,
    val_seed: Annotated[
        int | None,
        typer.Option(metavar="S", help="Decides whose identities these are [default: --seed]."),
    ] = None,
    identity: options.Identity = "auto",
    align: Annotated[
        bool,
        typer.Option(
            "--align/--aligned",
            help="Detect and align the largest face of each photo, or take ready square crops.",
        ),
    ] = False,
    detector: options.Detector = None,
    det_size: options.DetSize = 640,
    min_score: options.MinScore = 0.5,
    embedder: options.Embedder = None,
    size: Annotated[
        int,
        typer.Option(min=112, metavar="PX", help="Largest side that is worked on before 112 px."),
    ] = 224,
    no_noise: Annotated[bool, typer.Option("--no-noise", help="Add no sensor noise.")] = False,
    no_compression: Annotated[
        bool, typer.Option("--no-compression", help="Do not compress.")
    ] = False,
    harsh: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the pictures taken in the dark or compressed hard."
        ),
    ] = 0.0,
    gamma: Annotated[
        bool, typer.Option("--gamma", help="Blur sRGB codes instead of linear light.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda or cuda:N; cuda blurs with torch.")
    ] = "auto",
    workers: options.Workers = None,
    resume: options.Resume = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset of an earlier run.")
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the label distributions into the folder (PNG).")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Make training data: faces blurred on purpose, with labels. They say what recognition lost."""
    options.one_thread_each()
    from blurgate import zoo
    from blurgate.errors import NO_ROOM, ConfigError, EnvironmentLackError
    from blurgate.interfaces import DetectorOptions, Runtime
    from blurgate.training.faces import FaceReader, list_faces
    from blurgate.training.labels import Labeller
    from blurgate.training.making import Recipe
    from blurgate.training.synth import run_synth

    if resume and overwrite:
        raise ConfigError("use --resume or --overwrite, not both")
    if detector is not None and not align:
        raise ConfigError("--detector finds faces in photos: it goes with --align")
    if plot:
        from blurgate.training.plots import need_matplotlib, plot_labels

        need_matplotlib()  # before any work
    recipe = Recipe(
        methods=tuple(blur or ["random"]),
        per_image=per_image,
        iterative=iterative,
        seed=seed,
        even=even,
        linear=not gamma,
        noise=not no_noise,
        compression=not no_compression,
        harsh=harsh,
    )
    torch_device = _torch_device(device)
    runtime = Runtime(device)
    labeller = Labeller(zoo.open_embedder(embedder, runtime))
    detection = DetectorOptions(det_size, min_score)
    finder = zoo.open_detector(detector, runtime, detection) if align else None
    reader = FaceReader(size, finder, repr(detection) if align else "")
    who = seed if val_seed is None else val_seed
    found = list_faces(faces, identity=identity, val=val, seed=who, stdin=sys.stdin)

    with progress_bar(len(found), "faces", quiet=quiet) as bar:

        def show(counts: SynthCounts) -> None:
            bar(counts.done, f"{counts.rows} pictures, {counts.n_skipped} skipped")

        try:
            counts = run_synth(
                found,
                recipe,
                out,
                reader=reader,
                labeller=labeller,
                device=torch_device,
                workers=workers or options.usable_cores(),
                resume=resume,
                overwrite=overwrite,
                on_progress=show,
                on_failure=lambda source, error: warn(error),
            )
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise EnvironmentLackError(
                f"{error}; what {out} holds is kept: make room, then continue with --resume"
            ) from error
    if plot:
        plot_labels(out, out)
    if not quiet:
        _print_summary(counts, found, out)
    if not counts.rows:
        raise typer.Exit(EXIT_NOTHING)
    if counts.n_skipped:
        raise typer.Exit(EXIT_SOME_FAILED)


def _torch_device(device: str) -> torch.device | None:
    if device in ("auto", "cpu"):
        return None
    from blurgate.training.pairs import torch_device

    return torch_device(device)


def _print_summary(counts: SynthCounts, found: Sequence[Face], folder: Path) -> None:
    if counts.was_complete:
        typer.echo(f"{folder} is complete; nothing was left to resume", err=True)
    reasons = ", ".join(f"{n} {reason}" for reason, n in counts.skipped.items() if n)
    faces = counts.total - counts.n_skipped
    # Who is told apart is a guess from paths, and decides whether --val keeps people apart.
    people = {face.identity for face in found}
    apart = {face.identity for face in found if face.is_val}
    typer.echo(
        f"{counts.total} pictures of {len(people)} {'person' if len(people) == 1 else 'people'}"
        + (f", {len(apart)} for validation" if apart else "")
        + f": {faces} faces, {counts.n_skipped} skipped"
        + (f" ({reasons})" if reasons else "")
        + f"; {counts.rows} blurred pictures with labels in {folder}"
        + (f", {counts.dropped} more dropped to make the labels even" if counts.dropped else ""),
        err=True,
    )
