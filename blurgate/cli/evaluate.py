"""`blurgate evaluate`: how right scores are, and what they are worth; or how good detectors are."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blurgate.cli import EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blurgate.evaluation.clean import CleanFaces
    from blurgate.evaluation.evaluating import Evaluation, Plan
    from blurgate.interfaces import App, Embedder, Scorer
    from blurgate.training.faces import FaceReader

EXAMPLE = """Examples:

  blurgate evaluate photos --align --model laplacian --out evaluation

blurs the faces of `photos` by families that no training sees and by those of `synth`, compares the
scores with what a recogniser says, and writes evaluation/evaluation.html, results.json and
rows.csv. Folders below `photos` are people; --people 150 takes a sample.

  blurgate evaluate --detector scrfd_2.5g_bnkps annotated --out detectors

compares detectors on annotated pictures instead.
"""

PARTS = ("fidelity", "original", "leaks", "utility")
FOR_DETECTORS = (
    "data", "out", "seed", "det_size", "min_score", "embedder", "detector", "negatives", "as_json",
    "quiet",
)  # fmt: skip
"""Parameters that detectors are compared with, on the CPU and on pictures as they are."""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("evaluate", epilog=EXAMPLE)(evaluate_command)


def evaluate_command(
    context: typer.Context,
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Clean faces (picture, folder, glob), or one folder of `blurgate synth`; for "
            "detectors annotated folders.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write page, figures, JSON and rows here; only an earlier result is replaced.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Scorer, may be repeated [default: the default scorer].",
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(PARTS),
            help="What to measure, may be repeated [default: all].",
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Family of blur, may be repeated [default: see docs/evaluation.md].",
        ),
    ] = None,
    per_face: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures of each face in each family.")
    ] = 1,
    people: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Evaluate a sample of N people.")
    ] = None,
    photos: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take at most N pictures of each person.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Same seed, same numbers.")] = 0,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="mebeauty, utkface, or a regular expression for file names whose parts in "
            "parentheses name groups of people; may be repeated.",
        ),
    ] = None,
    identity: options.Identity = "auto",
    align: options.Align = False,
    align_with: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Detector for --align, which this implies."),
    ] = None,
    det_size: options.DetSize = 640,
    min_score: options.MinScore = 0.5,
    embedder: options.Embedder = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="A second recogniser, that no label comes from, for `fidelity` and `utility`.",
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|all",
            help="Comparisons for `utility`: a list, or all [default: the list in the folder if "
            "there is one].",
        ),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            "--detector",
            metavar="NAME|PATH",
            help="Evaluate this detector, may be repeated, instead of scorers.",
        ),
    ] = None,
    negatives: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="For detectors: pictures without faces."),
    ] = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure scorers or detectors side by side. Are degrees right, and what are they worth?"""
    options.one_thread_each()
    from blurgate.errors import ConfigError

    if detector:
        _check_for_detectors(context)
        from blurgate.evaluation import detection_command
        from blurgate.interfaces import DetectorOptions

        detection_command.run(
            detector,
            data,
            out,
            options=DetectorOptions(det_size, min_score),
            negatives=negatives or [],
            embedder=embedder,
            seed=seed,
            as_json=as_json,
            quiet=quiet,
        )
        return
    if negatives:
        raise ConfigError("--negatives goes with --detector")
    from blurgate.evaluation.output import check_out

    check_out(out)
    from blurgate import zoo
    from blurgate.evaluation import evaluating
    from blurgate.evaluation.families import DEFAULT, make_family
    from blurgate.interfaces import DetectorOptions, Runtime
    from blurgate.training.faces import FaceReader
    from blurgate.training.labels import Labeller

    is_synth = _is_dataset(data)
    parts = tuple(dict.fromkeys(part or (PARTS[:-1] if is_synth else PARTS)))
    if unknown := set(parts) - set(PARTS):
        raise ConfigError(f"--part {min(unknown)}: the parts are {', '.join(PARTS)}")
    plan = evaluating.Plan(
        parts=tuple(name for name in parts if name != "utility"),
        families=tuple(family or DEFAULT),
        per_face=per_face,
        seed=seed,
        groups=tuple(groups or ()),
        strict=bool(part),
    )
    for name in plan.families:
        make_family(name, seed=seed)  # an unknown one is an error before any work
    n_workers = workers or options.usable_cores()
    runtime = Runtime(device)
    wanted: list[str | None] = [*model] if model else [None]
    scorers = [zoo.open_scorer(name, runtime) for name in wanted]
    judging = zoo.open_embedder(judge, runtime) if judge is not None else None
    if is_synth:
        if "utility" in parts:
            raise ConfigError("--part utility needs photos of people and not a synth folder")
        needed = set(plan.parts) - {"fidelity"}
        labeller = Labeller(zoo.open_embedder(embedder, runtime)) if needed else None
        with _bar(quiet) as bar:
            done = evaluating.evaluate_synth(
                Path(data[0]),
                labeller,
                scorers,
                plan,
                judge=Labeller(judging) if judging is not None else None,
                workers=n_workers,
                on_progress=bar,
            )
    else:
        recogniser = zoo.open_embedder(embedder, runtime)
        if "utility" in parts and judging is not None and judging.info == recogniser.info:
            raise ConfigError(
                f"--judge {judge} is the recogniser that labels: name another one, or the parts "
                "besides `utility` with --part"
            )
        detection = DetectorOptions(det_size, min_score)
        finder = zoo.open_detector(align_with, runtime, detection) if align or align_with else None
        done = _on_faces(
            data,
            # Of several people in a photo, the one in the middle is whom it is named after.
            FaceReader(
                detector=finder, detection=repr(detection) if finder else "", pick="central"
            ),
            recogniser,
            scorers,
            plan,
            judge=judging,
            identity=identity,
            people=people,
            photos=photos,
            utility="utility" in parts,
            pairs=pairs,
            workers=n_workers,
            quiet=quiet,
        )
        done.material["aligned_by"] = str(finder.info) if finder is not None else ""
    for line in done.notices():
        warn(line)
    try:
        if out is not None:
            _write(done, out, quiet=quiet)
    finally:  # a full disk must not take the tables too
        if as_json:
            typer.echo(json.dumps(done.facts(), indent=1))
        else:
            from blurgate.evaluation.terminal import text_tables

            typer.echo("\n\n".join(text_tables(done)))
    if done.material.get("skipped"):
        raise typer.Exit(EXIT_SOME_FAILED)


def _check_for_detectors(context: typer.Context) -> None:
    """Refuse options that are for scorers only."""
    from blurgate.errors import ConfigError

    for name in context.params:
        if name not in FOR_DETECTORS and _is_given(context, name):
            raise ConfigError(
                "--detector evaluates detectors: it goes without the scorers' options, "
                f"such as --{name.replace('_', '-')}"
            )


def _is_dataset(data: list[str]) -> bool:
    """Tell a folder of `blurgate synth` from clean faces."""
    from blurgate.errors import ConfigError
    from blurgate.training import layout

    datasets = [folder for folder in data if layout.is_dataset(Path(folder))]
    if datasets and len(data) > 1:
        raise ConfigError(
            f"{datasets[0]} is a folder of blurgate synth: evaluate takes one such folder, and "
            "nothing beside it"
        )
    return bool(datasets)


def _on_faces(
    data: list[str],
    reader: FaceReader,
    recogniser: Embedder,
    scorers: list[Scorer],
    plan: Plan,
    *,
    judge: Embedder | None,
    identity: options.Identity,
    people: int | None,
    photos: int | None,
    utility: bool,
    pairs: str | None,
    workers: int,
    quiet: bool,
) -> Evaluation:
    """Evaluate on clean faces."""
    from blurgate.errors import InputError
    from blurgate.evaluation.clean import choose_faces, read_clean
    from blurgate.evaluation.evaluating import evaluate_faces
    from blurgate.training.labels import Labeller

    faces = choose_faces(data, identity=identity, people=people, photos=photos, seed=plan.seed)
    skipped = 0

    def missed(source: str, error: str) -> None:
        nonlocal skipped
        skipped += 1
        warn(error)

    with _bar(quiet) as bar:
        clean = read_clean(
            faces,
            reader,
            groups=plan.groups,
            workers=workers,
            on_progress=lambda n: bar("faces", n),
            on_failure=missed,
        )
        done = evaluate_faces(
            clean,
            Labeller(recogniser),
            scorers,
            plan,
            judge=Labeller(judge) if judge is not None else None,
            workers=workers,
            on_progress=bar,
        )
        if utility:
            # Of a sample of the faces a list leaves next to nothing.
            listed = pairs or ("all" if people or photos else None)
            try:
                _utility(done, clean, recogniser, judge, listed, data, bar)
            except InputError as error:
                if plan.strict or pairs:
                    raise
                done.left_out.append(f"utility is left out: {error}")
    done.material |= {"pictures": len(faces), "skipped": skipped}
    return done


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    with progress_bar(None, "pictures", quiet=quiet) as bar:
        yield lambda part, done: bar(done, part)


def _utility(
    done: Evaluation,
    clean: CleanFaces,
    embedder: Embedder,
    judge: Embedder | None,
    pairs: str | None,
    data: list[str],
    bar: Callable[[str, int], None],
) -> None:
    """Add what `blurgate.evaluation.utility` measures."""
    from blurgate.evaluation import verification
    from blurgate.evaluation.families import HELD_OUT, make_family
    from blurgate.evaluation.natural import natural_families
    from blurgate.evaluation.utility import evaluate_utility

    seed = done.plan.seed
    listed = Path(pairs) if pairs is not None else verification.find_pairs_file(data)
    comparisons = None
    if pairs != "all" and listed is not None:
        comparisons = verification.read_pairs(listed, clean.faces, seed=seed)
    families = [make_family(name, seed=seed) for name in HELD_OUT]
    done.utility = evaluate_utility(
        done.models,
        clean.faces,
        clean.crops,
        embedder=embedder,
        judge=judge,
        families=[*families, *natural_families(seed)],
        pairs=comparisons,
        seed=seed,
        on_progress=lambda condition: bar(f"utility: {condition}", 0),
    )


def _write(done: Evaluation, out: Path, *, quiet: bool) -> None:
    """Write the result, and say where it is."""
    from blurgate.evaluation.output import write_result

    page, n_figures = write_result(done, out)
    if not quiet:
        beside = (
            f"{n_figures} figures beside it"
            if n_figures
            else 'its charts are in the page only; PNG figures need: pip install "blurgate[plot]"'
        )
        typer.echo(f"{page}, {beside}", err=True)
