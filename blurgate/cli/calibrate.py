"""`blurgate calibrate`: choose the threshold for a target, on the user's own faces."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blurgate.cli import EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.evaluation.calibration import Choice, Target
    from blurgate.evaluation.comparing import Comparisons
    from blurgate.evaluation.material import Measured
    from blurgate.interfaces import App, Embedder, Scorer
    from blurgate.profile import Profile

EXAMPLE = """Example:

  blurgate calibrate photos --align --fnmr 0.02 --fmr 0.001 --out gate.json

  blurgate filter video.mp4 --profile gate.json

chooses the highest threshold at which the faces that are kept reach 2 % false non-matches at 0.1 %
false matches, with the recogniser of --embedder. Folders below `photos` are people.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("calibrate", epilog=EXAMPLE)(calibrate_command)


def calibrate_command(
    faces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FACES...]", help="Picture, folder, glob, or - for a list of paths on stdin."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The profile that is written.")] = Path(
        "profile.json"
    ),
    keep_rate: Annotated[
        float | None, typer.Option(metavar="R", help="Target: keep this share of the faces.")
    ] = None,
    max_mean_degree: Annotated[
        float | None,
        typer.Option(
            metavar="D", help="Target: kept faces have at most this mean degree; true if known."
        ),
    ] = None,
    fnmr: Annotated[
        float | None,
        typer.Option(metavar="X", help="Target: this FNMR among kept comparisons, at --fmr."),
    ] = None,
    fnmr_ratio: Annotated[
        float | None,
        typer.Option(metavar="X", help="Target: this share of the FNMR without a gate."),
    ] = None,
    fmr: Annotated[
        float, typer.Option(metavar="Y", help="FMR at which the match threshold is fixed.")
    ] = 0.001,
    match_threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, metavar="T", help="Your match threshold, instead of --fmr."),
    ] = None,
    model: options.Model = None,
    embedder: options.Embedder = None,
    align: options.Align = False,
    detector: options.Detector = None,
    det_size: options.DetSize = 640,
    min_score: options.MinScore = 0.5,
    identity: options.Identity = "auto",
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Comparisons: LFW's pairs.txt, or CSV with a, b, same; else all."
        ),
    ] = None,
    impostors: Annotated[
        int, typer.Option(min=1, metavar="N", help="Comparisons of different people to draw.")
    ] = 50_000,
    pairing: Annotated[
        Literal["photos", "twins"],
        typer.Option(
            help="Compare with another photo of the person, or blurred faces with themselves."
        ),
    ] = "photos",
    other_photo: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="S",
            help="With --pairing twins: your recogniser's median cosine of two clean photos of a "
            "person; cosines of twins count times this.",
        ),
    ] = None,
    blur: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Blur clean faces by this family; may be repeated."),
    ] = None,
    per_image: Annotated[
        int, typer.Option(min=1, metavar="N", help="Blurred pictures per face and family.")
    ] = 1,
    from_synth: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Take a folder of `blurgate synth` instead of FACES."),
    ] = None,
    split: Annotated[
        Literal["val", "train", "all"], typer.Option(help="Which part of --from-synth.")
    ] = "val",
    seed: Annotated[int, typer.Option(metavar="S", help="Same seed, same profile.")] = 0,
    bootstrap: Annotated[
        int, typer.Option(min=50, metavar="N", help="Bootstrap draws for the interval.")
    ] = 1000,
    review: Annotated[
        float | None, typer.Option(metavar="WIDTH", help="Goes into the profile: see filter.")
    ] = None,
    min_face: Annotated[
        float | None, typer.Option(metavar="PX", help="Goes into the profile: see filter.")
    ] = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a profile that is there; another file is not touched."
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose the threshold for a target on faces of your own. Writes a profile for `filter`."""
    options.one_thread_each()
    from blurgate import zoo
    from blurgate.errors import ConfigError
    from blurgate.evaluation import calibration, material
    from blurgate.files import folder_of
    from blurgate.interfaces import DetectorOptions, Runtime
    from blurgate.locking import check_is_folder
    from blurgate.profile import check_replaceable, write_profile
    from blurgate.stages import Rule
    from blurgate.training.faces import FaceReader, list_faces
    from blurgate.types import CROP_SIZE

    target = _target(keep_rate, max_mean_degree, fnmr, fnmr_ratio, fmr, match_threshold)
    if bool(faces) == (from_synth is not None):
        raise ConfigError("name FACES or a folder with --from-synth, one of the two")
    alien = {"--blur": blur, "--pairs": pairs, "--align": align, "--detector": detector}
    for name, value in alien.items():
        if from_synth is not None and value:
            raise ConfigError(f"{name} is for FACES; --from-synth takes what the folder holds")
    if detector is not None and not align:
        raise ConfigError("--detector finds faces in photos: it goes with --align")
    if pairing == "twins" and not blur and from_synth is None:
        raise ConfigError("--pairing twins compares blurred faces: it goes with --blur")
    if other_photo is not None and (pairing != "twins" or not other_photo):
        raise ConfigError("--other-photo is a cosine above 0 that goes with --pairing twins")
    Rule(0.0, review or 0.0, min_face or 0.0)  # wrong numbers are errors before any work
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; --out names the profile's file")
    check_is_folder(out.parent)
    if out.exists():
        if not overwrite:
            raise ConfigError(f"{out} is there already; use --overwrite, or another --out")
        check_replaceable(out)
    failures = 0

    def on_failure(source: str, error: str) -> None:
        nonlocal failures
        failures += 1
        warn(error or source)

    with folder_of(out):
        compares = isinstance(target, calibration.Fnmr)
        runtime = Runtime(device)
        scorer = zoo.open_scorer(model, runtime)
        recogniser = zoo.open_embedder(embedder, runtime) if compares or blur else None
        if from_synth is not None:
            with progress_bar(None, "pictures", quiet=quiet) as bar:
                measured = material.material_of_synth(
                    from_synth,
                    scorer,
                    recogniser,
                    split=None if split == "all" else split,
                    on_progress=lambda done: bar(done, ""),
                )
        else:
            listed = list_faces(faces or [], identity=identity, stdin=sys.stdin)
            detection = DetectorOptions(det_size, min_score)
            finder = zoo.open_detector(detector, runtime, detection) if align else None
            families = material.blur_families(blur or [], seed)
            with progress_bar(len(listed), "faces", quiet=quiet) as bar:
                measured = material.material_of_faces(
                    listed,
                    # Of several people in a photo, the one in the middle is whom it is named after.
                    FaceReader(2 * CROP_SIZE if families else CROP_SIZE, finder, pick="central"),
                    scorer,
                    recogniser,
                    families=families,
                    per_image=per_image,
                    seed=seed,
                    workers=workers or options.usable_cores(),
                    on_progress=lambda done: bar(done, ""),
                    on_failure=on_failure,
                )
        comparisons = None
        if compares:
            comparisons = _compare(measured, pairs, impostors, pairing, other_photo, seed)
        choice = calibration.choose(measured, target, comparisons, replicates=bootstrap, seed=seed)
        for note in choice.notes:
            warn(note)
        facts = dict(measured.facts)
        if comparisons is not None:
            facts["pairs"] = comparisons.source
        profile = _profile(choice, scorer, recogniser, facts, review, min_face, seed)
        write_profile(profile, out)
    if as_json:
        typer.echo(json.dumps(profile.facts(), indent=1))
    if not quiet:
        _print_summary(profile, out)
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def _target(
    keep_rate: float | None,
    max_mean_degree: float | None,
    fnmr: float | None,
    fnmr_ratio: float | None,
    fmr: float,
    match: float | None,
) -> Target:
    from blurgate.errors import ConfigError
    from blurgate.evaluation.calibration import Fnmr, KeepRate, MeanDegree

    named = [v for v in (keep_rate, max_mean_degree, fnmr, fnmr_ratio) if v is not None]
    if len(named) != 1:
        raise ConfigError("name one target: --keep-rate, --max-mean-degree, --fnmr or --fnmr-ratio")
    if keep_rate is not None:
        return KeepRate(keep_rate)
    if max_mean_degree is not None:
        return MeanDegree(max_mean_degree)
    return Fnmr(fmr, fnmr, fnmr_ratio, match)


def _compare(
    measured: Measured,
    file: Path | None,
    impostors: int,
    pairing: Literal["photos", "twins"],
    other_photo: float | None,
    seed: int,
) -> Comparisons:
    from blurgate.evaluation.comparing import compare
    from blurgate.evaluation.verification import make_pairs, read_pairs

    if file is None:
        found = make_pairs(measured.identities, impostors=impostors, seed=seed)
    else:
        found = read_pairs(file, measured.faces, impostors=impostors, seed=seed)
    twins = pairing == "twins"
    return compare(measured, found, twins=twins, other_photo=other_photo or 1.0, seed=seed)


def _profile(
    choice: Choice,
    scorer: Scorer,
    embedder: Embedder | None,
    material: dict[str, object],
    review: float | None,
    min_face: float | None,
    seed: int,
) -> Profile:
    from datetime import UTC, datetime
    from importlib.metadata import version

    from blurgate.evaluation.bootstrap import CONFIDENCE
    from blurgate.profile import Profile
    from blurgate.stages import six_digits

    return Profile(
        model=scorer.info,
        threshold=choice.threshold,
        ci=(six_digits(choice.ci.low), six_digits(choice.ci.high)),
        target=choice.target,
        confidence=CONFIDENCE,
        review=review,
        min_face=min_face,
        reached={name: six_digits(value) for name, value in choice.reached.items()},
        n=choice.n,
        embedder=None if embedder is None else embedder.info,
        material=material,
        seed=seed,
        version=version("blurgate"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _print_summary(profile: Profile, out: Path) -> None:
    reached = profile.reached
    low, high = profile.ci
    n = ", ".join(f"{count:,} {what}" for what, count in profile.n.items() if what != "replicates")
    lines = [
        f"threshold {profile.threshold:g} for {profile.model.name}, "
        f"{profile.confidence:.0%} interval {low:g} to {high:g}",
        f"on {n}",
        f"keeps {reached['kept_faces']:.1%} of the faces, mean degree {reached['mean_degree']:.3f}"
        + (f", mean true degree {reached['mean_label']:.3f}" if "mean_label" in reached else ""),
    ]
    if "fnmr" in reached:
        lines.append(
            f"FNMR {reached['fnmr_without_gate']:.4f} without the gate, {reached['fnmr']:.4f} with "
            f"it, at match threshold {reached['match_threshold']:.4f}; keeps "
            f"{reached['kept_comparisons']:.1%} of the comparisons, whose median cosine is "
            f"{reached['median_similarity']:.3f} without the gate"
        )
    typer.echo("\n".join([*lines, f"profile in {out}"]), err=True)
