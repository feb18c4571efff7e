"""The folder that `blurgate evaluate` writes into."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blurgate.errors import ConfigError
from blurgate.journal import is_unused, write_atomically

if TYPE_CHECKING:
    from blurgate.evaluation.evaluating import Evaluation

PAGE: Final = "evaluation.html"
RESULTS: Final = "results.json"
"""Written first: it tells an earlier result, which is replaced, from files of the user."""
_KEYS: Final = ({"settings", "models", "fidelity"}, {"detectors", "sets", "timing"})
"""What the results of scorers hold, and those of detectors."""


def check_out(out: Path | None) -> None:
    """Refuse a folder that holds anything but an earlier result.

    Args:
        out: What --out names; may not exist yet.

    Raises:
        ConfigError: It is a file, or holds something else.
    """
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file; choose another --out")
    if not is_unused(out, RESULTS) and not _is_result(out / RESULTS):
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

    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RESULTS, iter([json.dumps(done.facts(), indent=1) + "\n"]))
    write_atomically(out / PAGE, iter([make_page(done)]))
    if done.rows is not None:
        write_rows(done.rows, out / "rows.csv")
    if find_spec("matplotlib") is None:
        return out / PAGE, 0
    from blurgate.evaluation.figures import draw_evaluation

    return out / PAGE, len(draw_evaluation(done, out))


def _is_result(path: Path) -> bool:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and any(keys <= facts.keys() for keys in _KEYS)
