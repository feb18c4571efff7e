"""The page of some results: one HTML file that asks nothing of any network.

The file holds three things apart: the program and the looks, which come from this package and whose
digests are the only ones that the page's own policy lets run (Content Security Policy, level 2);
the faces as JSON; and their small pictures as JSON. Names come into the page as JSON only, and the
program puts them on the screen as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from blurgate.errors import ConfigError
from blurgate.files import write_atomically
from blurgate.interfaces import DetectorOptions
from blurgate.io.text import shown
from blurgate.locking import check_is_folder
from blurgate.report.page import Html, element, facts, join, safe
from blurgate.report.results import DECISIONS, REASONS, START, Results
from blurgate.report.style import STYLE
from blurgate.report.thumbs import Thumbs
from blurgate.stages import Rule

MOST_NAMED: Final = 30
"""A command line names up to so many sources; more go through a list on stdin."""
_MARK: Final = '<meta name="generator" content="blurgate report">'
_USUAL: Final = {
    "every": "1", "detect-every": "", "crops": "aligned", "table": "csv", "best-shot": "0",
}  # fmt: skip
"""Options that the journal notes under their own names, with defaults that need not be said."""
_TITLES: Final = {"filter": "Filtered faces", "score": "Scored faces", "synth": "Training data"}


def write_page(results: Results, thumbs: Thumbs, out: Path, *, start: float | None = None) -> None:
    """Write the page; it is there whole or not at all.

    Args:
        results: What was read.
        thumbs: The small pictures.
        out: The file. One that is there is replaced if it is such a page too.
        start: Where the slider stands at first [the run's threshold].

    Raises:
        ConfigError: `out` is something else than a page of this kind.
    """
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, [render(results, thumbs, start=start)])


def check_target(out: Path) -> None:
    """Refuse to replace anything but an earlier page.

    Raises:
        ConfigError: There is something else.
    """
    if out.is_dir():
        raise ConfigError(f"{shown(str(out))} is a folder; --out names the page's file")
    check_is_folder(out.parent)
    if not out.exists() and not out.is_symlink():
        return
    # A link would be replaced itself, and a pipe waited for.
    ours = out.is_file() and not out.is_symlink()
    if ours:
        with out.open("rb") as file:
            ours = _MARK.encode() in file.read(2000)
    if not ours:
        raise ConfigError(
            f"{shown(str(out))} is not a page of `blurgate report`; choose another --out"
        )


def render(results: Results, thumbs: Thumbs, *, start: float | None = None) -> str:
    """Give the whole file; encode it as UTF-8."""
    order = sorted(range(len(results.faces)), key=lambda i: results.faces[i].blur_degree)
    style, script = STYLE + _file("results.css"), _script()
    parts: Mapping[str, str] = {
        # Whatever the page may hold, the browser runs and fetches nothing but what stands here.
        "policy": f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(script)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'",
        "title": safe(f"{_TITLES[results.kind]}: {shown(results.path.resolve().name)}"),
        "style": style,
        "script": script,
        "note": element("p", _note(results), class_="note"),
        "warnings": join(element("p", line, class_="warning") for line in results.warnings),
        "thumbs": safe(_about_thumbs(thumbs)),
        "settings": _settings(results),
        "data": embedded(_facts(results, order, start)),
        "pictures": embedded(_pictures(thumbs, order)),
    }
    template = _file("results.html")
    return re.sub(r"@([a-z]+)@", lambda found: parts[found[1]], template)


def embedded(value: Any) -> str:
    r"""Give JSON that can stand in a script element: nothing in it can end the element.

    >>> print(embedded("</script><!--\udcff"))
    "\u003c/script\u003e\u003c!--\udcff"
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _file(name: str) -> str:
    return files("blurgate.report").joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    names = sorted(
        part.name
        for part in files("blurgate.report").joinpath("script").iterdir()
        if part.name.endswith(".js")
    )
    return "\n".join(_file(f"script/{name}") for name in names)


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _note(results: Results) -> str:
    named = results.settings
    parts = [f"{len(results.faces):,} faces of {len(results.sources):,} "]
    parts[0] += "sources" if results.kind != "synth" else "methods and skipped pictures"
    parts += [
        f"{key} {named[key]}" for key in ("model", "detector") if isinstance(named.get(key), str)
    ]
    return ", ".join((*parts, f"blurgate {version('blurgate')}"))


def _about_thumbs(thumbs: Thumbs) -> str:
    lines = [f"{len(thumbs.jpeg):,} faces have a picture here."]
    if thumbs.asked < thumbs.possible:
        lines.append(
            f"{thumbs.possible - thumbs.asked:,} more were left out to keep the page small: the "
            "pictures are taken evenly from sharp to blurred, --thumbs sets how many."
        )
    if thumbs.gone:
        lines.append(f"{thumbs.gone:,} source pictures are no longer where they were.")
    if thumbs.broken:
        lines.append(f"{len(thumbs.broken):,} crops cannot be shown.")
    return " ".join(lines)


def _settings(results: Results) -> Html:
    kept = {key: value for key, value in results.settings.items() if key != "skipped"}
    return facts(kept) if kept else element("p", "They are not known.", class_="note")


def _facts(results: Results, order: list[int], start: float | None) -> dict[str, Any]:
    faces = [results.faces[i] for i in order]
    rule = results.rule or Rule(START)
    return {
        "kind": results.kind,
        "decisions": DECISIONS,
        "reasons": REASONS,
        "axis": "label" if results.kind == "synth" else "blur degree",
        "decided": results.rule is not None,
        "rule": {
            "threshold": rule.threshold if start is None else start,
            "review": rule.review,
            "min_face": rule.min_face_px,
        },
        "sources": [asdict(note) for note in results.sources],
        "faces": {
            "source": [face.source for face in faces],
            "frame": [face.frame for face in faces],
            "time": [face.time_s for face in faces],
            "face": [face.face for face in faces],
            "track": [face.track for face in faces],
            "box": [face.box for face in faces],
            "det": [face.det_score for face in faces],
            "px": [face.face_px for face in faces],
            "degree": [face.blur_degree for face in faces],
            "decision": [_place(DECISIONS, face.decision) for face in faces],
            "reason": [_place(REASONS, face.reason) for face in faces],
            "not_best": [i for i, face in enumerate(faces) if face.reason == "not_best_shot"],
            "crop": [face.crop for face in faces],
        },
        "command": _command(results),
    }


def _place(names: tuple[str, ...], name: str) -> int:
    """Give a name's number in the page; where nothing was decided, the first."""
    return names.index(name) if name in names else 0


def _pictures(thumbs: Thumbs, order: list[int]) -> dict[str, Any]:
    rows = [row for row, i in enumerate(order) if i in thumbs.jpeg]
    encoded = [base64.b64encode(thumbs.jpeg[order[row]]).decode() for row in rows]
    return {"rows": rows, "jpeg": encoded}


def _command(results: Results) -> dict[str, Any]:
    """Give what the page makes the command line of: all but the rule, unquoted."""
    aligned = results.kind == "score" and all(face.box is None for face in results.faces)
    if results.kind == "synth" or aligned:
        what = "labels" if results.kind == "synth" else "ready crops, which filter does not take"
        return {
            "options": [],
            "out": "",
            "sources": [],
            "listed": False,
            "note": f"These are {what}; put what you want to filter in the place of SOURCE.",
        }
    sources = [note.name for note in results.sources]
    notes = ["It writes to a new folder. Run it where the first run was started."]
    notes += _model_notes(results)
    return {
        "options": list(_options(results.settings)),
        "out": _out(results),
        "sources": sources,
        "listed": len(sources) > MOST_NAMED,
        "note": " ".join(notes),
    }


def _out(results: Results) -> str:
    """Give the new folder's name, to which the threshold is added."""
    path = results.path if results.path.is_dir() else results.path.with_suffix("")
    if not path.name or path.name == "..":
        path = path.resolve()
    return os.fspath(path)


def _options(settings: Mapping[str, Any]) -> Iterator[str]:
    """Give the options of the run, the rule's left out, from what its journal notes."""
    for key in ("model", "detector"):
        name = str(settings.get(key, "")).partition("@")[0]
        if name and _is_known(key, name):
            yield from (f"--{key}", name)
    found = default = DetectorOptions()
    with suppress(ValueError):  # a table without a detector, or a journal of another version
        found = DetectorOptions.parse(str(settings.get("detection")))
    if found.long_side != default.long_side:
        yield from ("--det-size", str(found.long_side))
    if found.min_score != default.min_score:
        yield from ("--min-score", str(found.min_score))
    for key, usual in _USUAL.items():
        value = str(settings.get(key, usual))
        if value != usual:
            yield from (f"--{key}", value)
    if settings.get("cut") is not None:
        yield from ("--cut", "--cut-pad", str(settings["cut"]))
    for key in ("annotate", "keep-rejected", "blur-kind"):
        if settings.get(key) is True:
            yield f"--{key}"


def _model_notes(results: Results) -> Iterator[str]:
    """Say which models came from a file whose path nobody noted."""
    for key in ("model", "detector"):
        name = str(results.settings.get(key, "")).partition("@")[0]
        if name and not _is_known(key, name):
            yield f"The run's {key} was the file {shown(name)}.onnx: add --{key} with its path."


def _is_known(key: str, name: str) -> bool:
    from blurgate import catalogue
    from blurgate.host import get_host

    kind = "scorer" if key == "model" else "detector"
    return catalogue.get_manifest().find(kind, name) is not None or name in get_host().registry(
        kind
    )
