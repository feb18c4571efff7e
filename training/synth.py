"""What `blurgate synth` does: blurred pictures with their labels, from clean faces.

    faces -> crops -> chain -> pictures -> labels -> rows

Faces are worked on in batches whose make-up does not depend on the number of workers. A batch's
clean twins are embedded once; every blurred picture is embedded as it is written, beside the number
of the clean face that it was made from, and its row is made in the same place.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain, compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ConfigError, InputError
from blurgate.files import check_not_replaced, is_count, is_unused, write_atomically, write_json
from blurgate.journal import Entry, Journal
from blurgate.locking import alone_in
from blurgate.pipeline import ordered_map
from blurgate.plugins.sinks.csv import CsvSink
from blurgate.tables import open_table
from blurgate.training import even, layout
from blurgate.training.faces import SKIP_REASONS, Face, FaceReader, list_digest
from blurgate.training.making import Maker, Recipe

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from blurgate.training.even import Curve
    from blurgate.training.labels import Labeller

BATCH: Final = 16
"""Pictures of one method that are made together; more gain nothing on a CPU and cost memory."""
DEVICE_BATCH: Final = 256
"""The same where a GPU does the work."""


@dataclass(slots=True)
class SynthCounts:
    """What came of the pictures; those of an earlier, resumed run included."""

    total: int = 0
    done: int = 0
    """Pictures that have been dealt with, skipped ones included."""
    skipped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIP_REASONS, 0))
    rows: int = 0
    """Blurred pictures with a label."""
    dropped: int = 0
    """Rows that were taken out to make the labels even; no longer among `rows`."""
    was_complete: bool = False
    """There was nothing left to do for `resume`."""

    @property
    def n_skipped(self) -> int:
        """Pictures that gave no face."""
        return sum(self.skipped.values())


def run_synth(
    faces: Sequence[Face],
    recipe: Recipe,
    folder: Path,
    *,
    reader: FaceReader,
    labeller: Labeller,
    device: torch.device | None = None,
    workers: int = 1,
    batch: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[SynthCounts], None] = lambda counts: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> SynthCounts:
    """Make a dataset in a folder; docs/training-data.md describes its files.

    The same faces, recipe and models give the same files, to the byte, whatever the number of
    workers and however often the run was interrupted and resumed.

    Args:
        faces: From `list_faces`; rows come in this order.
        recipe: What is to be made.
        folder: Where to.
        reader: Cuts the crops out.
        labeller: Makes the labels.
        device: Where torch blurs; None: NumPy does. On a GPU sums are not always added up in the
            same order, so that single pixels may differ from run to run; labels fit their pictures.
        workers: Threads.
        batch: Pictures of one method that are made together; None: `BATCH` or `DEVICE_BATCH`.
        resume: Continue what an interrupted run has left in the folder.
        overwrite: Replace an earlier dataset.
        on_progress: Called after every batch of faces.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Returns:
        The counts; dataset.json holds them too.

    Raises:
        ConfigError: The folder is in use, was begun with other settings, or its journal does not
            fit its table; or another run is writing to it.
        OSError: The disk is full or the folder cannot be written; a later run can resume.
        KeyboardInterrupt: Passed on; a later run can resume.
    """
    counts = SynthCounts(total=len(faces))
    if batch is None:
        batch = BATCH if device is None or device.type == "cpu" else DEVICE_BATCH
    facts = _facts(faces, recipe, reader, labeller, device, batch)
    with alone_in(folder):
        if _prepare(folder, facts, faces, resume=resume, overwrite=overwrite):
            return _counted(counts, layout.read_settings(folder))
        maker = Maker(folder, recipe, reader, labeller, device)
        curves = _curves(maker, faces, folder, facts, workers)
        maker.curves = curves
        times = recipe.per_image * len(recipe.methods)
        whole = partial(_is_whole, times=times)
        journal = Journal(folder / layout.JOURNAL, facts, resume=resume, whole=whole)
        skipped: list[dict[str, str]] = []
        for entry in journal.entries():
            _count(counts, skipped, entry)
        _make_folders(folder, recipe)
        step = max(1, batch // recipe.per_image)
        todo = (faces[at : at + step] for at in range(counts.done, len(faces), step))
        made = ordered_map(maker, todo, workers)
        with open_table("csv", folder / layout.ROWS, layout.COLUMNS, journal.mark) as table:
            journal.bind(table)
            _check_rows(folder, counts)
            try:
                for part in made:
                    for row in part.rows:
                        table.write(row)
                    lost = [{"file": s.source, "reason": s.reason} for s in part.skipped]
                    entry = {"faces": part.faces, "rows": len(part.rows), "skipped": lost}
                    journal.done(entry)
                    _count(counts, skipped, entry)
                    for missing in part.skipped:
                        on_failure(missing.source, missing.error)
                    on_progress(counts)
            finally:
                made.close()
                journal.flush()
        _finish(folder, recipe, curves, facts, counts, skipped)
        journal.remove()
        (folder / layout.ROWS).unlink()
        return counts


def _facts(
    faces: Sequence[Face],
    recipe: Recipe,
    reader: FaceReader,
    labeller: Labeller,
    device: torch.device | None,
    batch: int,
) -> dict[str, Any]:
    """Give everything that the files depend on."""
    val = {face.identity for face in faces if face.is_val}
    detector = reader.detector
    facts = {
        "format": layout.FORMAT,
        "version": version("blurgate"),
        "pictures": len(faces),
        "faces": f"{len(faces)} pictures, their list has the digest {list_digest(faces)[:16]}",
        **recipe.facts(),
        "size": reader.size,
        "embedder": asdict(labeller.info),
        "detector": detector and asdict(detector.info),
        "detection": reader.detection,
        "blurred_by": "numpy" if device is None else f"torch on {device.type}",
        "batch": batch,
        "split": {
            "identities": len({face.identity for face in faces}),
            "identities_val": len(val),
            "pictures_val": sum(face.is_val for face in faces),
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain


def _prepare(
    folder: Path, facts: Mapping[str, Any], faces: Sequence[Face], *, resume: bool, overwrite: bool
) -> bool:
    """Make the folder ready; say whether all is done already."""
    if is_unused(folder, layout.SETTINGS):
        return False
    try:
        old = layout.read_settings(folder)
    except InputError as error:
        raise ConfigError(f"{error}; choose another --out, or an empty folder") from error
    begun = (folder / layout.JOURNAL).is_file()
    if resume and begun:
        return False  # the journal compares the settings
    if resume and old.get("rows") is not None:
        _compare(folder, old, facts)
        (folder / layout.ROWS).unlink(missing_ok=True)
        return True
    if not (resume or overwrite):
        raise ConfigError(
            f"{folder} is not empty: use --resume to continue it, --overwrite to begin anew, or "
            "another --out"
        )
    replaced = [
        path
        for path in folder.iterdir()
        if (path.name == layout.CLEAN or path.name.startswith(("blur_", "label_")))
        and path.is_dir()
    ]
    check_not_replaced((face.source for face in faces), replaced, folder)
    # A run that is killed from here on must leave nothing that passes for a dataset, or for one to
    # go on with.
    write_json(folder / layout.SETTINGS, {**old, "rows": None})
    for name in (layout.JOURNAL, layout.ROWS):
        (folder / name).unlink(missing_ok=True)
    for path in replaced:
        shutil.rmtree(path)
    for path in [*folder.glob("labels*.png"), folder / layout.SETTINGS]:
        path.unlink()
    return False


def _compare(folder: Path, old: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for key, value in facts.items():
        if old.get(key) != value:
            raise ConfigError(
                f"{folder} is complete and was made with {key} = {old.get(key)!r}, now it is "
                f"{value!r}; use --overwrite or another --out"
            )


def _make_folders(folder: Path, recipe: Recipe) -> None:
    (folder / layout.CLEAN).mkdir(exist_ok=True)
    for method in recipe.methods:
        (folder / layout.table_file(method)).parent.mkdir(parents=True, exist_ok=True)
        (folder / layout.blurred_file(method, "", 0)).parent.mkdir(exist_ok=True)


def _curves(
    maker: Maker, faces: Sequence[Face], folder: Path, facts: Mapping[str, Any], workers: int
) -> dict[str, Curve]:
    """Find the curves of an even dataset, or those it was begun with; writes dataset.json."""
    path = folder / layout.SETTINGS
    if path.is_file():  # a run that is resumed
        known = layout.read_settings(folder).get("even") or {}
        return {method: even.Curve.of(facts) for method, facts in known.items()}
    curves = maker.calibrate(faces, workers) if maker.recipe.even else {}
    _write_facts(folder, facts, curves, {"rows": None})
    return curves


def _write_facts(
    folder: Path, facts: Mapping[str, Any], curves: Mapping[str, Curve], result: Mapping[str, Any]
) -> None:
    known = {method: curve.facts() for method, curve in curves.items()} or None
    write_json(folder / layout.SETTINGS, {**facts, **result, "even": known})


def _count(counts: SynthCounts, skipped: list[dict[str, str]], entry: Mapping[str, Any]) -> None:
    counts.done += entry["faces"]
    counts.rows += entry["rows"]
    for lost in entry["skipped"]:
        counts.skipped[lost["reason"]] += 1
        skipped.append(lost)


def _is_whole(entry: Entry, times: int) -> bool:
    """Tell whether an entry is one of ours; `times` rows are made of every face."""
    faces, rows, skipped = (entry.get(key) for key in ("faces", "rows", "skipped"))
    return (
        is_count(faces)
        and is_count(rows)
        and isinstance(skipped, list)
        and all(isinstance(lost, dict) and lost.get("reason") in SKIP_REASONS for lost in skipped)
        and rows == times * (faces - len(skipped))
    )


def _check_rows(folder: Path, counts: SynthCounts) -> None:
    """Check that the journal, which names no faces, and the table are of one run."""
    if not counts.done:
        return
    with (folder / layout.ROWS).open(newline="", encoding="utf-8") as file:
        found = sum(1 for _ in csv.reader(file)) - 1
    if found != counts.rows:
        raise ConfigError(
            f"cannot resume {folder}: its {layout.JOURNAL} tells of {counts.rows} rows, and "
            f"{layout.ROWS} holds {found}; use --overwrite to begin anew"
        )


def _counted(counts: SynthCounts, facts: Mapping[str, Any]) -> SynthCounts:
    """Give the counts of a dataset that is complete."""
    counts.done, counts.was_complete = counts.total, True
    counts.rows, counts.dropped = facts["rows"], facts["dropped"]
    for lost in facts["skipped"]:
        counts.skipped[lost["reason"]] += 1
    return counts


def _finish(
    folder: Path,
    recipe: Recipe,
    curves: Mapping[str, Curve],
    facts: Mapping[str, Any],
    counts: SynthCounts,
    skipped: list[dict[str, str]],
) -> None:
    """Write the tables of the methods; may be repeated after an interruption."""
    counts.rows = counts.dropped = 0
    csv_of = CsvSink(None, layout.COLUMNS)  # for the text of its lines
    for method in recipe.methods:
        stays = _selection(folder, method, curves.get(method), recipe.seed)
        lines = (csv_of.line([*row.values()]) for row in compress(_rows(folder, method), stays))
        write_atomically(folder / layout.table_file(method), chain([csv_of.head()], lines))
        for row in compress(_rows(folder, method), ~stays):
            (folder / row["file"]).unlink(missing_ok=True)
        counts.rows += int(stays.sum())
        counts.dropped += int((~stays).sum())
    result = {"rows": counts.rows, "dropped": counts.dropped, "skipped": skipped}
    _write_facts(folder, facts, curves, result)


def _selection(folder: Path, method: str, curve: Curve | None, seed: int) -> NDArray[np.bool_]:
    pairs = [(float(row["label"]), int(row["index"])) for row in _rows(folder, method)]
    if curve is None or not pairs:
        return np.ones(len(pairs), bool)
    labels, index = zip(*pairs, strict=True)
    return even.selection(np.array(labels, np.float32), np.array(index), curve, seed)


def _rows(folder: Path, method: str) -> Iterator[dict[str, str]]:
    """Give the rows of a method, one at a time."""
    with (folder / layout.ROWS).open(newline="", encoding="utf-8") as file:
        yield from (row for row in csv.DictReader(file) if row["method"] == method)
