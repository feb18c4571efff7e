"""What a run of `blurgate filter` counts: entries of sources, totals, and summary.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from blurgate.crops import VIDEO_FOLDERS
from blurgate.files import is_count
from blurgate.journal import Entry
from blurgate.profiling import current_profile

if TYPE_CHECKING:
    from blurgate.gate import Gate
    from blurgate.types import Decision, SourceEnd, Verdict

COUNTS: Final = ("frames", "frames_failed", "faces", "kept", "review", "rejected")
_NOT_SHOWN: Final = frozenset(("reasons", "degrees", "position"))  # only the journal needs them
DEGREE_BINS: Final = 24
SHOWN_SOURCES: Final = 12
_COUNT_OF: Final[dict[Decision, str]] = {"keep": "kept", "review": "review", "reject": "rejected"}


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
    degrees: list[int] = field(default_factory=lambda: [0] * DEGREE_BINS)
    """Histogram of the blur degrees over [0, 1]."""

    def add(self, other: Counts) -> None:
        """Add another's counts to these."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, n in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + n
        self.degrees = [a + b for a, b in zip(self.degrees, other.degrees, strict=True)]


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
    first: list[Entry] = field(default_factory=list)
    """The entries of the first sources, at most `SHOWN_SOURCES`."""
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


def ended(end: SourceEnd, counts: Counts, problem: str = "") -> Entry:
    """Make the entry of a source that has ended; `problem` is what could not be made of it."""
    status = "partial" if problem and end.status == "ok" else end.status
    error = "; ".join(filter(None, (end.error, problem)))
    entry = new_entry(end.source, status, error, counts)
    entry["frames"], entry["frames_failed"] = end.frames, end.frames_failed
    if end.frames_dropped is not None:
        entry["frames_dropped"], entry["reconnects"] = end.frames_dropped, end.reconnects
    return entry


def new_entry(source: str, status: str, error: str, counts: Counts) -> Entry:
    """Make the entry of a source."""
    return {
        "source": source,
        "status": status,
        **{name: getattr(counts, name) for name in COUNTS},
        "error": error,
        "reasons": counts.reasons,
        "degrees": counts.degrees,
    }


def is_whole(entry: Entry, *, placed: bool) -> bool:
    """Tell whether an entry of a journal holds all that there is to know, each in its shape.

    Args:
        entry: As a file has it.
        placed: It has to tell the source's place in the whole list, as in a shard.
    """
    reasons, degrees = entry.get("reasons"), entry.get("degrees")
    if not (isinstance(reasons, dict) and isinstance(degrees, list)):
        return False
    numbers = [entry.get(name) for name in (*COUNTS, *(["position"] if placed else []))]
    texts = [entry.get(name) for name in ("source", "status")]
    texts += [entry[kind] for kind in VIDEO_FOLDERS if kind in entry]
    return (
        len(degrees) == DEGREE_BINS
        and all(map(is_count, (*numbers, *reasons.values(), *degrees)))
        and all(isinstance(text, str) for text in texts)
    )


def tally(counts: Counts, verdict: Verdict) -> None:
    """Count a face."""
    counts.faces += 1
    name = _COUNT_OF[verdict.decision]
    setattr(counts, name, getattr(counts, name) + 1)
    counts.degrees[min(DEGREE_BINS - 1, int(verdict.blur_degree * DEGREE_BINS))] += 1
    reason = verdict.reason
    if reason:
        counts.reasons[reason] = counts.reasons.get(reason, 0) + 1


def count(progress: Progress, entry: Entry) -> None:
    """Add a complete source to the totals."""
    progress.totals.add(Counts(**{name: entry[name] for name in (*COUNTS, "reasons", "degrees")}))
    if len(progress.first) < SHOWN_SOURCES:
        progress.first.append(entry)
    if entry["status"] == "ok":
        progress.sources_ok += 1
    else:
        progress.sources_failed += 1
        progress.sources_lost += entry["status"] == "failed"


def summary_head(gate: Gate) -> dict[str, Any]:
    """Give what summary.json begins with: who decided, and how."""
    return {
        "version": version("blurgate"),
        "model": asdict(gate.scorer.info),
        "detector": asdict(gate.detector.info),
        "threshold": gate.rule.threshold,
        **({"threshold_profile": gate.profile} if gate.profile else {}),
    }


def summary(head: Mapping[str, Any], entries: Iterable[Entry], progress: Progress) -> Iterator[str]:
    """Give summary.json piece by piece: with a million sources it must not be held whole."""
    yield json.dumps(head, indent=1)[:-2] + ',\n "sources": ['
    separator = "\n  "
    for entry in entries:
        line = {key: value for key, value in entry.items() if key not in _NOT_SHOWN}
        yield separator + json.dumps(line)
        separator = ",\n  "
    tail: dict[str, Any] = {
        "totals": {name: getattr(progress.totals, name) for name in COUNTS},
        "elapsed_s": round(progress.elapsed_s, 3),
        "frames_per_s": round(progress.frames_per_s, 2),
    }
    if (profile := current_profile()) is not None:
        frames = progress.totals.frames - progress.resumed_frames
        tail["profile"] = profile.as_dict(frames)
    yield "\n ],\n" + json.dumps(tail, indent=1)[2:] + "\n"
