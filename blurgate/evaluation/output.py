"""The folder that `blurgate evaluate` writes into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blurgate.errors import ConfigError
from blurgate.files import is_unused, write_atomically, write_json
from blurgate.locking import check_is_folder

if TYPE_CHECKING:
    from blurgate.evaluation.evaluating import Evaluation

PAGE: Final = "evaluation.html"
DETECTION_PAGE: Final = "detection.html"
ROWS: Final = "rows.csv"
FIGURES: Final = ("reliability.png", "original.png", "leaks.png")
RESULTS: Final = "results.json"
"""Written first: it tells an earlier result, which is replaced, from files of the user."""
_KEYS: Final = ({"settings", "models", "fidelity"}, {"detectors", "sets", "timing"})
"""What the results of scorers hold, and those of detectors."""


def check_out(out: Path | None) -> None:
    """Refuse a folder that holds anything but an earlier result.

    Args:
        out: What --out names; may not exist yet.

    Raises:
        ConfigError: It or a folder above it is a file, or it holds something else.
    """
    if out is None:
        return
    check_is_folder(out)
    if not out.exists():
        return
    if not is_unused(out, RESULTS) and _earlier(out / RESULTS) is None:
        raise ConfigError(
            f"{out} is not empty and holds no result of blurgate evaluate; choose another --out"
        )


def write_result(done: Evaluation, out: Path) -> tuple[Path, int]:
    """Write facts, page, rows, and figures where they can be drawn.

    Returns:
        The page, and the number of figures beside it.
    """
    from blurgate.evaluation.evaluating import write_rows
    from blurgate.evaluation.page import make_page

    page = make_page(done)
    out.mkdir(parents=True, exist_ok=True)
    remove_earlier(out)
    write_json(out / RESULTS, done.facts())
    write_atomically(out / PAGE, [page])
    if done.rows is not None:
        write_rows(done.rows, out / ROWS)
    if find_spec("matplotlib") is None:
        return out / PAGE, 0
    from blurgate.evaluation.figures import draw_evaluation

    return out / PAGE, len(draw_evaluation(done, out))


def remove_earlier(out: Path) -> None:
    """Remove what an earlier result wrote: not all of it may be written again.

    Its results.json stays until another takes its place: without it the folder would look like one
    of the user's.
    """
    facts = _earlier(out / RESULTS)
    if facts is not None:
        for name in (PAGE, DETECTION_PAGE, ROWS, *FIGURES, *_sheets(facts)):
            (out / name).unlink(missing_ok=True)


def sheet_name(title: str, detector: str) -> str:
    """Give the name of the PNG of a set's failures; both words are unique in a comparison.

    >>> sheet_name("night/photos", "scrfd_blurgate")
    'night_photos_scrfd_blurgate.png'
    """
    words = f"{title} {detector}"
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in words) + ".png"


def _sheets(facts: Mapping[str, Any]) -> list[str]:
    """Name the PNGs that a comparison of detectors may have."""
    from blurgate.evaluation.detection_page import short_names

    sets, detectors = (facts.get(key) for key in ("sets", "detectors"))
    if not isinstance(sets, dict) or not isinstance(detectors, dict):
        return []
    return [sheet_name(title, name) for title in sets for name in short_names(detectors).values()]


def _earlier(path: Path) -> dict[str, Any] | None:
    """Read an earlier result; None where it is none."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(facts, dict) and any(keys <= facts.keys() for keys in _KEYS)
    return facts if known else None
