"""What a run left behind, read back: a folder of `filter` or `synth`, or a table of faces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.folders import SUMMARY, settings_in
from blurgate.io.text import reason, shown
from blurgate.journal import JOURNAL, Entry, parsed_line, parsed_settings
from blurgate.rowfiles import FORMATS, Row, column_names, read_rows, rows_path
from blurgate.stages import Rule
from blurgate.tables import FACES_COLUMNS, SCORE_COLUMNS
from blurgate.types import Decision, Reason

Kind: TypeAlias = Literal["filter", "score", "synth"]

MOST_FACES: Final = 500_000
"""A page holds every face, so that its counts are exact; browsers cope with this many."""
START: Final = 0.4
"""Where the slider starts when the results name no threshold."""
DECISIONS: Final[tuple[str, ...]] = get_args(Decision)
REASONS: Final[tuple[str, ...]] = get_args(Reason)
_DATASET: Final = "dataset.json"
_DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What comes of values that no run of ours writes."""


@dataclass(slots=True)
class SourceNote:
    """How one source ended."""

    name: str
    status: str
    """ok, partial, failed, incomplete; of a scored picture ok, no_face or unreadable."""
    frames: int | None = None
    frames_failed: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Face:
    """One row of a table; None where the table has no such number."""

    source: int
    """Position in `Results.sources`."""
    frame: int | None
    time_s: float | None
    face: int | None
    track: int | None
    box: tuple[float, float, float, float] | None
    det_score: float | None
    face_px: float | None
    blur_degree: float
    decision: str
    """keep, review or reject as the run decided; empty where nothing was decided."""
    reason: str
    crop: str
    """The picture's path relative to `Results.folder`; empty where there is none."""


@dataclass(slots=True)
class Results:
    """Everything that a page shows, but the pictures."""

    kind: Kind
    path: Path
    """What was read: a folder or a table."""
    folder: Path
    """Where the pictures of faces are, and beside which a page goes."""
    sources: list[SourceNote] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    """In the order of the table."""
    rule: Rule | None = None
    """How the run decided; None where nothing was decided."""
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def default_page(self) -> Path:
        """Where the page goes unless the user says otherwise."""
        if self.path.is_dir():
            return self.path / "report.html"
        return self.path.with_name(f"{self.path.stem}.report.html")


def read_results(path: Path) -> Results:
    """Read results, whichever they are.

    Args:
        path: A folder of `blurgate filter` or `blurgate synth`, or a table of faces: csv, jsonl or
            parquet, told apart by what is in it.

    Returns:
        The results; what is odd about them is among the `warnings`.

    Raises:
        InputError: There are no results at the path.
        DecodeError: A table is damaged; the message names the line.
        ConfigError: There are more faces than a page can hold.
        EnvironmentLackError: The table is Parquet and pyarrow is missing.
    """
    if path.is_dir():
        if (path / _DATASET).is_file():
            return _read_dataset(path)
        return _read_filter(path, _table_in(path))
    if not path.is_file():
        raise InputError(f"{shown(str(path))}: there is no such folder or table", source=str(path))
    if (path.parent / JOURNAL).is_file() and path.stem == "faces":
        _check_format(path.parent, path)
        return _read_filter(path.parent, path)
    interrupted = path.with_name(path.name + ".journal").exists()
    rows, odd = read_rows(path)
    first = next(rows, None)
    columns = set(first or column_names(path))
    # JSON lines of no faces are an empty file, and an interrupted table may lack its whole head.
    begun = first is None and (interrupted or not path.stat().st_size)
    if begun or {column.name for column in SCORE_COLUMNS} <= columns:
        results = Results("score", path, path.parent)
        make = _score_face(results)
    elif {column.name for column in FACES_COLUMNS} <= columns:
        results = Results("filter", path, path.parent)
        make = _filter_face(results)
    else:
        raise InputError(
            f"{shown(str(path))} is not a table of faces; report takes what `blurgate filter`, "
            "`blurgate score` or `blurgate synth` wrote",
            source=str(path),
        )
    _fill(results, _made(chain([first] if first else [], rows), make, path))
    results.warnings += odd
    if interrupted:
        results.warnings.append("The table is not complete: its run was interrupted.")
    return results


def _fill(results: Results, faces: Iterator[Face]) -> None:
    """Take the faces in, as many as a page can show."""
    for face in faces:
        results.faces.append(face)
        if len(results.faces) > MOST_FACES:
            raise ConfigError(
                f"{shown(str(results.path))} holds more than {MOST_FACES:,} faces, more than a "
                "page can show; report on the results of fewer sources"
            )


def _made(rows: Iterator[Row], make: Callable[[Row], Face | None], table: Path) -> Iterator[Face]:
    """Make the faces of a table; an error of `make` becomes one that names the row."""
    for number, row in enumerate(rows, 1):
        try:
            face = make(row)
        except _DAMAGE as error:
            raise DecodeError(
                f"{shown(str(table))}: row {number} is damaged ({reason(error)})",
                source=str(table),
            ) from error
        if face is not None:
            yield face


class _Sources:
    """Gives each source its place, in the order of first mention."""

    def __init__(self, results: Results) -> None:
        self._notes = results.sources
        self._place = {note.name: i for i, note in enumerate(results.sources)}

    def place(self, name: str, status: str) -> int:
        """Find a source, or add it."""
        if not isinstance(name, str):
            raise ValueError(f"the source {name!r}")
        if name not in self._place:
            self._place[name] = len(self._notes)
            self._notes.append(SourceNote(name, status))
        return self._place[name]


def _table_in(folder: Path) -> Path:
    tables = [folder / f"faces.{name}" for name in FORMATS]
    tables.append(rows_path(folder / "faces.parquet"))
    found = [table for table in tables if table.is_file()]
    if not found:
        _check_format(folder)
        raise InputError(
            f"{shown(str(folder))} holds no results: neither a faces table of `blurgate filter` "
            f"nor {_DATASET} of `blurgate synth`",
            source=str(folder),
        )
    return found[0]


def _check_format(folder: Path, table: Path | None = None) -> None:
    """Refuse the table in a folder, if it is the one given, where a plugin wrote it."""
    form = settings_in(folder).get("table", FORMATS[0])
    if form not in FORMATS and (table is None or table.suffix == f".{form}"):
        raise InputError(
            f"{shown(str(folder))}: report reads {', '.join(FORMATS)}, not the format {form!r}",
            source=str(folder),
        )


def _read_filter(folder: Path, table: Path) -> Results:
    results = Results("filter", folder, folder)
    entries = _read_journal(folder / JOURNAL, results)
    killed = (folder / JOURNAL).is_file() and not (folder / SUMMARY).is_file()
    summary = _read_summary(folder / SUMMARY, results)
    listed = _notes(summary.get("sources"), SUMMARY, results)
    results.sources = listed or _notes(entries, JOURNAL, results)
    for key in ("model", "detector"):  # the journal has the digest's first digits only
        if isinstance(summary.get(key), Mapping):
            digest = summary[key].get("sha256")
            results.settings[f"{key} sha256"] = (isinstance(digest, str) and digest) or "none"
    rows, odd = read_rows(table)
    # The journal names what is complete, and nothing as yet where its first source was not.
    new = "incomplete" if killed or results.sources else "ok"
    _fill(results, _made(rows, _filter_face(results, new), table))
    results.warnings += odd
    unfinished = killed or any(note.status == "incomplete" for note in results.sources)
    if unfinished or any(note.error == "interrupted" for note in results.sources):
        results.warnings.append("The run was interrupted; continue it with --resume.")
    _check_decisions(results)
    return results


def _notes(entries: Any, file: str, results: Results) -> list[SourceNote]:
    """Read how the sources ended; nothing if one is damaged, with a warning."""
    try:
        return [_note(entry) for entry in entries or ()]
    except _DAMAGE as error:
        results.warnings.append(f"{file} is damaged: sources: {reason(error)}.")
        return []


def _note(entry: Any) -> SourceNote:
    if not isinstance(entry, dict):
        raise ValueError("one is no object")
    texts = {name: entry.get(name, "") for name in ("source", "status", "error")}
    for name, text in texts.items():
        if not isinstance(text, str) or not (text or name == "error"):
            raise ValueError(f"{name} is no text")
    return SourceNote(
        texts["source"],
        texts["status"],
        _integer(entry.get("frames")),
        int(entry.get("frames_failed", 0)),
        texts["error"],
    )


def _filter_face(results: Results, new: str = "ok") -> Callable[[Row], Face | None]:
    """Make faces; `new` is the status of a source that only the table names."""
    sources = _Sources(results)

    def make(row: Row) -> Face:
        decision, why = row["decision"], row["reason"] or ""
        if decision not in DECISIONS or why not in REASONS:
            raise ValueError(f"decision {decision!r}, reason {why!r}")
        return _face(row, sources.place(row["source"], new), decision, why, row["crop"] or "")

    return make


def _score_face(results: Results) -> Callable[[Row], Face | None]:
    sources = _Sources(results)

    def make(row: Row) -> Face | None:
        place = sources.place(row["file"], str(row["status"]))
        return _face(row, place, "", "", "") if row["status"] == "ok" else None

    return make


def _face(row: Row, place: int, decision: str, why: str, crop: str) -> Face:
    corners = [_number(row[name]) for name in ("x1", "y1", "x2", "y2")]
    x1, y1, x2, y2 = corners
    whole = None not in corners
    degree = _number(row["blur_degree"])
    if degree is None or not 0 <= degree <= 1:
        raise ValueError(f"blur_degree {row['blur_degree']!r}")
    return Face(
        source=place,
        frame=_integer(row.get("frame")),
        time_s=_number(row.get("time_s")),
        face=_integer(row["face"]),
        track=_integer(row.get("track")),
        box=(x1 or 0.0, y1 or 0.0, x2 or 0.0, y2 or 0.0) if whole else None,
        det_score=_number(row["det_score"]),
        face_px=_number(row["face_px"]),
        blur_degree=degree,
        decision=decision,
        reason=why,
        crop=crop,
    )


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    if number - number != 0:  # infinite or not a number
        raise ValueError(f"the number {value!r}")
    return number


def _integer(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)


def _read_journal(path: Path, results: Results) -> list[Entry]:
    """Take the settings and the rule; give the complete sources. A torn last line is nothing."""
    entries: list[Entry] = []
    try:
        with path.open("rb") as lines:
            results.settings.update(parsed_settings(lines.readline(), plain=True))
            _take_rule(results.settings, path, results)
            for number, line in enumerate(lines, 2):
                values = parsed_line(line, _is_shown)
                if values is not None:
                    entries += values["done"]
                elif line.endswith(b"\n"):
                    raise ValueError(f"line {number}")
    except FileNotFoundError:
        results.warnings.append(f"{path.name} is missing: the run's settings are not known.")
    except (OSError, ValueError) as error:
        results.warnings.append(f"{path.name} is damaged: {reason(error)}.")
    return entries


def _is_shown(entry: Entry) -> bool:
    return all(isinstance(entry.get(name, ""), str) for name in ("source", "file"))


def _take_rule(facts: Mapping[str, Any], path: Path, results: Results) -> None:
    """Take the rule that a run noted, if it did and nothing told it before."""
    if results.rule is not None or "threshold" not in facts:
        return
    try:
        numbers = [float(facts.get(name, 0)) for name in ("threshold", "review", "min-face")]
        results.rule = Rule(*numbers)
    except _DAMAGE as error:
        results.warnings.append(f"{path.name} is damaged: {reason(error)}.")


def _read_summary(path: Path, results: Results) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(summary, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        results.warnings.append(f"{path.name} is damaged: {reason(error)}.")
        return {}
    _take_rule(summary, path, results)
    return summary


def _check_decisions(results: Results) -> None:
    """Say so where the table's decisions are not those of the rule that the run noted."""
    rule = results.rule
    if rule is None:
        return
    other = 0
    for face in results.faces:
        if face.reason == "not_best_shot":
            continue
        px = float("inf") if face.face_px is None else face.face_px
        other += rule(face.blur_degree, px)[0] != face.decision
    if other:
        results.warnings.append(
            f"{other:,} decisions of the table are not those of its own threshold, review width "
            "and least face size; this page shows what these give."
        )


def _read_dataset(folder: Path) -> Results:
    from blurgate.training import layout
    from blurgate.training.plots import read_labels

    settings = layout.read_settings(folder)
    layout.check_finished(folder, settings)
    results = Results("synth", folder, folder, settings=settings)
    for method, labels in read_labels(folder).items():
        place = _Sources(results).place(method, "ok")
        results.sources[place].frames = len(labels)
        degrees = zip(labels.label.tolist(), labels.file, strict=True)
        faces = (
            Face(place, None, None, k, None, None, None, None, degree, "", "", file)
            for k, (degree, file) in enumerate(degrees)
        )
        _fill(results, faces)
    for skipped in settings.get("skipped") or ():
        if isinstance(skipped, Mapping):
            why = re.sub(r"\s+", " ", str(skipped.get("why", "")))
            results.sources.append(SourceNote(str(skipped.get("file", "")), "skipped", error=why))
    return results
