"""What `blurgate filter` does with a gate: crops, table, journal and summary in one folder."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any

from blurgate.counting import (
    Counts,
    Progress,
    count,
    ended,
    is_whole,
    new_entry,
    summary,
    summary_head,
    tally,
)
from blurgate.crops import delete_crop
from blurgate.errors import ConfigError
from blurgate.files import write_atomically
from blurgate.folders import SUMMARY, check_usable, prepare
from blurgate.gate import Gate
from blurgate.io.live import LiveOptions, Stopper
from blurgate.io.sources import Source, read_sources
from blurgate.journal import JOURNAL, Entry, Journal, check_settings
from blurgate.locking import alone_in
from blurgate.pipeline import cores_for_workers
from blurgate.profiling import taking
from blurgate.sharding import Census, Shard
from blurgate.tables import faces_columns, open_table
from blurgate.types import SourceEnd
from blurgate.writing import FaceWriter, Outputs


def run_filter(
    gate: Gate,
    sources: Iterable[Source],
    outputs: Outputs,
    *,
    every: int = 1,
    shard: Shard | None = None,
    live: LiveOptions | None = None,
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
        shard: Take this part of the sources only; `blurgate merge` joins the folders.
        live: Limits in time and attempts of cameras and streams, and how to end one.
        on_progress: Called after every frame and every source.
        on_failure: Called with (source, one line) for every source that could not be read whole,
            or of which a drawing or a cut could not be made; first those of a run that is resumed.

    Returns:
        The counts. summary.json holds them too, with one entry per source.

    Raises:
        ConfigError: The folder is in use and neither resume nor overwrite is set, or it was begun
            with other settings, or another run is writing to it.
        KeyboardInterrupt: Passed on after the table and the summary have been completed. A live
            source that was being read is complete then: this is how one ends.
    """
    # This opens the detector, before anything is written.
    settings = _settings(gate, outputs, every, shard)
    live = live or LiveOptions()
    with alone_in(outputs.folder):
        prepare(outputs.folder, resume=outputs.resume, overwrite=outputs.overwrite)
        return _run(gate, sources, outputs, settings, every, shard, live, on_progress, on_failure)


def check_run(gate: Gate, outputs: Outputs, *, every: int = 1, shard: Shard | None = None) -> None:
    """Check that `run_filter` would begin in this folder; change nothing.

    Whether the sources are those of a run that is to be resumed shows when they are gone through.

    Raises:
        ConfigError: It would not.
    """
    check_usable(outputs.folder, resume=outputs.resume, overwrite=outputs.overwrite)
    journal = outputs.folder / JOURNAL
    if outputs.resume and journal.is_file():
        check_settings(journal, _settings(gate, outputs, every, shard))


def _run(
    gate: Gate,
    sources: Iterable[Source],
    outputs: Outputs,
    settings: Mapping[str, Any],
    every: int,
    shard: Shard | None,
    live: LiveOptions,
    on_progress: Callable[[Progress], None],
    on_failure: Callable[[str, str], None],
) -> Progress:
    """Filter sources into a folder that is ready for it; see `run_filter`."""
    journal = Journal(
        outputs.folder / JOURNAL, settings, resume=outputs.resume,
        whole=partial(is_whole, placed=shard is not None),
    )  # fmt: skip
    census = Census()
    mine = sources if shard is None else _part(sources, shard, census)
    rest = _skip_done(mine, journal)  # before anything is touched: it may refuse to go on
    for name in journal.left:
        delete_crop(outputs.folder, name)
    progress = Progress(resumed=journal.n_done)
    for entry in journal.entries():
        count(progress, entry)
        if entry["status"] != "ok":  # it decides about the exit code of this run too
            on_failure(entry["source"], entry["error"])
    progress.resumed_frames = progress.totals.frames
    table_path = outputs.folder / f"faces.{outputs.table}"
    started = time.monotonic()
    interrupted: Entry | None = None
    with (
        cores_for_workers(),
        open_table(outputs.table, table_path, faces_columns(gate.kinds), journal.mark) as table,
        FaceWriter(
            outputs,
            table,
            lambda verdict: tally(progress.now, verdict),
            every=every,
            threshold=gate.rule.threshold,
        ) as faces,
    ):
        journal.bind(table)
        reading: deque[Source] = deque()
        todo = _noting(rest, reading, live.stopper)
        live_ends: list[Callable[[], SourceEnd]] = []
        began = False
        frames = read_sources(
            todo, every=every, workers=gate.workers, live=live, on_live=live_ends.append,
            device=gate.device,
        )  # fmt: skip
        whole_frames = outputs.crops == "loose" or outputs.annotate
        stream = taking("write", gate.run(frames, keep_pixels=whole_frames))
        try:
            for item in stream:
                if isinstance(item, SourceEnd):
                    made, problem = faces.finish(reading[0], readable=item.frames > 0)
                    entry = ended(item, progress.now, problem) | made
                    if reading[0].position is not None:
                        entry["position"] = reading[0].position
                    # Before it is noted: a signal while it is must not make it a partial one too.
                    count(progress, entry)
                    progress.now, began = Counts(), False
                    reading.popleft()
                    live_ends.clear()
                    journal.done(entry)
                    if entry["status"] != "ok":
                        on_failure(item.source, entry["error"])
                else:
                    began = True
                    progress.now.frames = item.frame.index + 1
                    faces.add(item)
                progress.elapsed_s = time.monotonic() - started
                on_progress(progress)
            progress.elapsed_s = time.monotonic() - started
            if not live.stopper.asked:
                listing = {} if shard is None else {"listing": census.result()}
                elapsed = {"elapsed_s": round(progress.elapsed_s, 3)}
                journal.finish({**summary_head(gate), **elapsed, **listing})
        except KeyboardInterrupt:
            # Of half a source: the whole of it may choose other faces. They are noted before there
            # is one, for the next signal may be a kill.
            if undecided := faces.undecided():
                journal.leave(undecided)
            faces.finish_rows()
            if live_ends:
                interrupted = ended(live_ends[-1](), progress.now)
            elif began:
                interrupted = new_entry(reading[0].name, "partial", "interrupted", progress.now)
            if interrupted is not None:
                count(progress, interrupted)
                progress.now = Counts()
            on_progress(progress)
            raise
        finally:
            stream.close()
            frames.close()  # after an error its threads would wait for the traceback to go
            journal.flush()
            entries = chain(journal.entries(), filter(None, [interrupted]))
            pieces = summary(summary_head(gate), entries, progress)
            write_atomically(outputs.folder / SUMMARY, pieces)
    return progress


def _part(sources: Iterable[Source], shard: Shard, census: Census) -> Iterator[Source]:
    """Take a part of the sources, each with its place in the whole list."""
    for position, source in enumerate(sources):
        census.add(source.name)
        if source.name in shard:
            yield replace(source, position=position)


def _settings(
    gate: Gate, outputs: Outputs, every: int, shard: Shard | None = None
) -> dict[str, Any]:
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
        "detect-every": gate.detect_every,
        "table": outputs.table,
        "crops": outputs.crops,
        "keep-rejected": outputs.keep_rejected,
        "best-shot": outputs.best_shot,
        "annotate": outputs.annotate,
        "cut": outputs.cut_pad_s if outputs.cut else None,
        **({"blur-kind": True} if gate.kinds else {}),
        **({} if shard is None else {"shard": str(shard)}),
    }


def _skip_done(sources: Iterable[Source], journal: Journal) -> Iterator[Source]:
    """Check that the sources of the journal come first and in the same order; give the others."""
    rest = iter(sources)
    for entry in journal.entries():
        source = next(rest, None)
        if source is None or source.name != entry["source"]:
            raise ConfigError(
                f"cannot resume: the sources have changed, {entry['source']!r} is missing; "
                "use --overwrite to begin anew"
            )
    return rest


def _noting(
    sources: Iterable[Source], reading: deque[Source], stopper: Stopper
) -> Iterator[Source]:
    """Note the sources that are asked for, until they are complete."""
    for source in sources:
        if stopper.asked:
            return
        reading.append(source)
        yield source
