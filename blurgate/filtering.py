"""What `blurgate filter` does with a gate: crops, table, journal and summary in one folder."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from blurgate.crops import FOLDERS, CropStyle, write_crop
from blurgate.errors import ConfigError
from blurgate.gate import Gate
from blurgate.io.sources import Source, read_sources
from blurgate.journal import Entry, Journal, write_atomically
from blurgate.tables import FACES_COLUMNS, faces_row, open_table
from blurgate.types import Decision, SourceEnd

logger = logging.getLogger(__name__)

JOURNAL: Final = "journal.jsonl"
SUMMARY: Final = "summary.json"
COUNTS: Final = ("frames", "frames_failed", "faces", "kept", "review", "rejected")
_COUNT_OF: Final[dict[Decision, str]] = {"keep": "kept", "review": "review", "reject": "rejected"}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a run writes, and what."""

    folder: Path
    table: str = "csv"
    crops: CropStyle = "aligned"
    keep_rejected: bool = False
    resume: bool = False
    overwrite: bool = False


@dataclass(slots=True)
class Counts:
    """What has been seen of one source, or of all."""

    frames: int = 0
    frames_failed: int = 0
    faces: int = 0
    kept: int = 0
    review: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add another's counts to these."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, n in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + n


@dataclass(slots=True)
class Progress:
    """What a run tells its caller after every frame and every source."""

    totals: Counts = field(default_factory=Counts)
    sources_ok: int = 0
    sources_failed: int = 0
    """Sources with status partial or failed."""
    sources_lost: int = 0
    """Sources with status failed: not one frame of them could be read."""
    now: Counts = field(default_factory=Counts)
    """Counts of the source that is being read; they move to the totals when it ends."""
    resumed: int = 0
    """Sources that an earlier run had completed."""
    resumed_frames: int = 0
    elapsed_s: float = 0.0
    """Wall time of this run; what an earlier run took is not in it."""

    @property
    def frames_per_s(self) -> float:
        """Frames of this run per second."""
        frames = self.totals.frames + self.now.frames - self.resumed_frames
        return frames / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def n_sources(self) -> int:
        """Sources that are complete."""
        return self.sources_ok + self.sources_failed


def run_filter(
    gate: Gate,
    sources: Iterable[Source],
    outputs: Outputs,
    *,
    every: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> Progress:
    """Filter sources into a folder.

    Everything written is valid at any moment: rows are appended, pictures and the summary appear
    whole or not at all, and the journal says which sources are complete.

    Args:
        gate: Finds, scores and decides.
        sources: Read in this order.
        outputs: Where to write, and what.
        every: Look at frames 0, N, 2N, ... only.
        on_progress: Called after every frame and every source.
        on_failure: Called with (source, one line) for every source that could not be read whole.

    Returns:
        The counts. summary.json holds them too, with one entry per source.

    Raises:
        ConfigError: The folder is in use and neither resume nor overwrite is set, or it was begun
            with other settings.
        KeyboardInterrupt: Passed on after the table and the summary have been completed.
    """
    _prepare(outputs)
    journal = Journal(
        outputs.folder / JOURNAL, _settings(gate, outputs, every), resume=outputs.resume
    )
    progress = Progress(resumed=journal.n_done)
    for entry in journal.entries():
        _count(progress, entry)
    progress.resumed_frames = progress.totals.frames
    table_path = outputs.folder / f"faces.{outputs.table}"
    started = time.monotonic()
    interrupted: Entry | None = None
    with open_table(outputs.table, table_path, FACES_COLUMNS, journal.mark) as table:
        journal.bind(table)
        todo = _skip_done(sources, journal)
        source = ""
        stream = gate.run(read_sources(todo, every=every, workers=gate.workers))
        try:
            for item in stream:
                if isinstance(item, SourceEnd):
                    entry = _entry(item.source, item.status, item.error, progress.now)
                    entry["frames"] = item.frames
                    entry["frames_failed"] = item.frames_failed
                    journal.done(entry)
                    _count(progress, entry)
                    progress.now, source = Counts(), ""
                    if item.status != "ok":
                        on_failure(item.source, item.error)
                else:
                    source = item.frame.source
                    progress.now.frames = item.frame.index + 1
                    for verdict in item.verdicts:
                        wanted = outputs.keep_rejected or verdict.decision != "reject"
                        style = outputs.crops if wanted else "none"
                        crop = write_crop(outputs.folder, item, verdict, style)
                        table.write(faces_row(verdict, crop))
                        _tally(progress.now, verdict.decision, verdict.reason)
                progress.elapsed_s = time.monotonic() - started
                on_progress(progress)
        except KeyboardInterrupt:
            if source:
                interrupted = _entry(source, "partial", "interrupted", progress.now)
                _count(progress, interrupted)
                progress.now = Counts()
            raise
        finally:
            stream.close()
            journal.flush()
            progress.elapsed_s = time.monotonic() - started
            extra = [interrupted] if interrupted is not None else []
            write_atomically(outputs.folder / SUMMARY, _summary(gate, journal, extra, progress))
    return progress


def _prepare(outputs: Outputs) -> None:
    """Make the folder, or check that it may be used."""
    folder = outputs.folder
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    ours = (folder / JOURNAL).is_file()
    if outputs.resume and ours:
        return
    if not (outputs.overwrite and ours):
        way_out = (
            "use --resume to continue it, --overwrite to begin anew, or another --out"
            if ours
            else "and holds no results of blurgate; choose another --out"
        )
        raise ConfigError(f"{folder} is not empty: {way_out}")
    for name in FOLDERS.values():
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (folder / SUMMARY, *folder.glob("faces.*"), folder / JOURNAL):
        path.unlink(missing_ok=True)


def _settings(gate: Gate, outputs: Outputs, every: int) -> dict[str, Any]:
    """Give everything that the outputs depend on, apart from the sources."""
    return {
        "version": version("blurgate"),
        "model": str(gate.scorer.info),
        "detector": str(gate.detector.info),
        "detection": repr(gate.options),
        "threshold": gate.rule.threshold,
        "review": gate.rule.review,
        "min-face": gate.rule.min_face_px,
        "every": every,
        "table": outputs.table,
        "crops": outputs.crops,
        "keep-rejected": outputs.keep_rejected,
    }


def _skip_done(sources: Iterable[Source], journal: Journal) -> Iterator[Source]:
    """Leave out the sources that the journal holds; they come first and in the same order."""
    rest = iter(sources)
    for entry in journal.entries():
        source = next(rest, None)
        if source is None or source.name != entry["source"]:
            raise ConfigError(
                f"cannot resume: the sources have changed, {entry['source']!r} is missing; "
                "use --overwrite to begin anew"
            )
    yield from rest


def _entry(source: str, status: str, error: str, counts: Counts) -> Entry:
    return {
        "source": source,
        "status": status,
        **{name: getattr(counts, name) for name in COUNTS},
        "error": error,
        "reasons": counts.reasons,
    }


def _tally(counts: Counts, decision: Decision, reason: str) -> None:
    counts.faces += 1
    name = _COUNT_OF[decision]
    setattr(counts, name, getattr(counts, name) + 1)
    if reason:
        counts.reasons[reason] = counts.reasons.get(reason, 0) + 1


def _count(progress: Progress, entry: Entry) -> None:
    """Add a complete source to the totals."""
    progress.totals.add(Counts(**{name: entry[name] for name in (*COUNTS, "reasons")}))
    if entry["status"] == "ok":
        progress.sources_ok += 1
    else:
        progress.sources_failed += 1
        progress.sources_lost += entry["status"] == "failed"


def _summary(gate: Gate, journal: Journal, extra: list[Entry], progress: Progress) -> Iterator[str]:
    """Give summary.json piece by piece: with a million sources it must not be held whole."""
    head = {
        "version": version("blurgate"),
        "model": {"name": gate.scorer.info.name, "sha256": gate.scorer.info.sha256},
        "detector": {"name": gate.detector.info.name, "sha256": gate.detector.info.sha256},
        "threshold": gate.rule.threshold,
    }
    yield json.dumps(head, indent=1)[:-2] + ',\n "sources": ['
    separator = "\n  "
    for entries in (journal.entries(), extra):
        for entry in entries:
            line = {key: value for key, value in entry.items() if key != "reasons"}
            yield separator + json.dumps(line)
            separator = ",\n  "
    tail = {
        "totals": {name: getattr(progress.totals, name) for name in COUNTS},
        "elapsed_s": round(progress.elapsed_s, 3),
        "frames_per_s": round(progress.frames_per_s, 2),
    }
    yield "\n ],\n" + json.dumps(tail, indent=1)[2:] + "\n"
