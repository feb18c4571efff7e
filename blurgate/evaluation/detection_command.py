"""`blurgate evaluate --detector`: detectors side by side on annotated pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from blurgate import zoo
from blurgate.cli import warn
from blurgate.cli.columns import columns
from blurgate.cli.progress import progress_bar
from blurgate.errors import ConfigError, MissingModelError
from blurgate.evaluation import detection, detection_sets
from blurgate.evaluation.detection import Contender
from blurgate.evaluation.detection_gallery import Gallery, png, sheet
from blurgate.evaluation.detection_page import detection_page, set_rows, short_names
from blurgate.evaluation.detection_timing import time_detectors
from blurgate.evaluation.output import (
    DETECTION_PAGE,
    RESULTS,
    check_out,
    remove_earlier,
    sheet_name,
)
from blurgate.files import write_atomically, write_json, written_whole
from blurgate.interfaces import DetectorOptions, Runtime

if TYPE_CHECKING:
    from blurgate.evaluation.detection import Truth
    from blurgate.interfaces import Embedder
    from blurgate.types import U8

WITHOUT_FACES: Final = "without faces"
"""What the set of the negatives is called."""


@dataclass(slots=True)
class Comparison:
    """All that one run of the command found out."""

    detectors: dict[str, str]
    """Name as given -> name@sha256[:12]."""
    options: DetectorOptions
    """Of the run at the default score."""
    sets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Set -> detector -> figures, as `detection.summarise` gives them."""
    galleries: dict[str, Gallery] = field(default_factory=dict)
    timing: dict[str, dict[str, Any]] = field(default_factory=dict)
    embedder: str = ""

    def facts(self) -> dict[str, Any]:
        """Give everything but the pictures, for JSON."""
        return {
            "detectors": self.detectors,
            "embedder": self.embedder,
            "det_size": self.options.long_side,
            "default_score": self.options.min_score,
            "curve_from_score": _low(self.options).min_score,
            "sets": self.sets,
            "timing": self.timing,
        }


def run(
    detectors: Sequence[str],
    data: Sequence[str],
    out: Path | None = None,
    *,
    options: DetectorOptions | None = None,
    negatives: Sequence[str] = (),
    embedder: str | None = None,
    blurs: int = 2,
    seed: int = 0,
    timing: bool = True,
    as_json: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Compare detectors and say so on stdout and in a folder.

    Args:
        detectors: Names or paths.
        data: Annotated folders or files; see `blurgate.training.detection.annotations`. Of a
            folder with parts for training and for validation, the latter.
        out: Folder for results.json, detection.html and a PNG of failures per set and detector.
        options: How detectors search, None: as the gate does; `default_score` is their least score.
        negatives: Folders of pictures without faces.
        embedder: Measures how blurred faces are; None: the default one, and no blurred pictures
            if there is none.
        blurs: Blurred pictures of each annotated one that has landmarks; 0: none.
        seed: Decides the blurs.
        timing: Whether detectors are timed.
        as_json: Print the results as JSON in place of the tables.
        quiet: Show no progress.

    Returns:
        What results.json holds.

    Raises:
        ConfigError: A detector or a set is given twice, or `out` holds anything
            but an earlier result.
        InputError: Annotations or pictures cannot be read.
    """
    from blurgate.training.detection.annotations import part_for_evaluation, read_annotations

    for names, what in ((detectors, "a detector"), (data, "a set of pictures")):
        if len(set(names)) < len(names):
            raise ConfigError(f"{what} is given twice")
    check_out(out)
    options = options or DetectorOptions()
    annotated = {
        _title(where, data): read_annotations(part_for_evaluation(where)) for where in data
    }
    empty = detection_sets.negatives_in(negatives)
    contenders = [_open(name, options) for name in detectors]
    done = Comparison({c.name: str(c.default.info) for c in contenders}, options)
    _check_titles([*annotated, *map(_blurred, annotated), WITHOUT_FACES], done.detectors)
    judge = _embedder(embedder) if blurs else None
    sharp = {
        title: [p for p in pictures if detection_sets.has_landmarks(p)]
        for title, pictures in annotated.items()
        if judge is not None
    }
    total = sum(map(len, annotated.values())) + len(empty)
    total += blurs * sum(map(len, sharp.values()))
    with progress_bar(total, "pictures", quiet=quiet) as bar:
        done_so_far = count(1)

        def step() -> None:
            bar(next(done_so_far), "")

        for title, pictures in annotated.items():
            given = detection_sets.annotated_pictures(pictures)
            _measure(done, title, given, contenders, step)
        for title, pictures in sharp.items():
            if pictures and judge is not None:
                done.embedder = str(judge.info)
                given = detection_sets.blurred_pictures(
                    pictures, judge, per_picture=blurs, seed=seed
                )
                _measure(done, _blurred(title), given, contenders, step, with_curve=False)
        if empty:
            given = detection_sets.negative_pictures(empty)
            _measure(done, WITHOUT_FACES, given, contenders, step, with_curve=False)
    if timing:
        done.timing = time_detectors(contenders, long_side=options.long_side)
    facts = done.facts()
    try:
        if out is not None:
            _write(out, done, facts)
    finally:  # a full disk must not take the tables too
        if as_json:
            typer.echo(json.dumps(facts, indent=1))
        else:
            for title, head, rows in set_rows(facts):
                laid = columns([head, *rows], right=range(1, len(head)))
                typer.echo("\n".join([title, *laid, ""]))
    return facts


def _measure(
    done: Comparison,
    title: str,
    pictures: Iterator[tuple[U8, Truth]],
    contenders: Sequence[Contender],
    step: Callable[[], None],
    *,
    with_curve: bool = True,
) -> None:
    gallery = done.galleries[title] = Gallery()
    results = detection.run_set(
        pictures, contenders, with_curve=with_curve, on_picture=step, on_found=gallery.add
    )
    done.sets[title] = detection.summarise(results)


def _open(name: str, options: DetectorOptions) -> Contender:
    low, default = (
        zoo.open_detector(name, Runtime("cpu"), one) for one in (_low(options), options)
    )
    return Contender(name, low, default)


def _low(options: DetectorOptions) -> DetectorOptions:
    return replace(options, min_score=min(detection.LOW, options.min_score))


def _embedder(name: str | None) -> Embedder | None:
    try:
        return zoo.open_embedder(name, Runtime("cpu"))
    except MissingModelError as error:
        if name is not None:
            raise
        warn(f"no pictures are blurred, because nothing can measure how blurred faces are: {error}")
        return None


def _title(where: str, data: Sequence[str]) -> str:
    """Name a set by its folder, and by the whole path where two would have one name."""
    names = [_short(other) for other in data]
    return _short(where) if names.count(_short(where)) == 1 else where


def _blurred(title: str) -> str:
    return f"{title}, blurred"


def _check_titles(titles: Sequence[str], detectors: Mapping[str, str]) -> None:
    """Refuse sets whose results, or whose pictures of failures, would replace each other's."""
    for short in short_names(detectors).values():
        taken: dict[str, str] = {}
        for title in titles:
            name = sheet_name(title, short)
            other = taken.get(name)
            taken[name] = title
            if other is not None:
                raise ConfigError(
                    f"the sets {other!r} and {title!r} would have one name; rename a folder"
                )


def _short(where: str) -> str:
    path = Path(where)
    return path.name if path.suffix not in (".json", ".txt") else path.parent.name or path.name


def _write(out: Path, done: Comparison, facts: Mapping[str, Any]) -> None:
    page = detection_page(facts, done.galleries)
    out.mkdir(parents=True, exist_ok=True)
    remove_earlier(out)
    write_json(out / RESULTS, facts)
    for title, gallery in done.galleries.items():
        for name, short in short_names(done.detectors).items():
            failures = gallery.failures(name)
            if failures:
                drawn = png(sheet(failures, f"{short} on {title}"))
                with written_whole(out / sheet_name(title, short)) as temporary:
                    temporary.write_bytes(drawn)
    write_atomically(out / DETECTION_PAGE, [page])
