"""Tables and the page of a comparison of detectors."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from blurgate.report.page import Html, element, facts, jpeg, page, safe, section, table

if TYPE_CHECKING:
    from blurgate.evaluation.detection_gallery import Gallery

Table: TypeAlias = tuple[str, list[str], list[list[str]]]
"""Title, head and rows, of text that is ready to be shown."""

SHOWN: Final = 12
"""Pictures of each set and detector on the page; the PNG beside it has more."""
_STYLE: Final = (
    "display:grid;gap:.6rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,16rem),1fr))"
)


def set_rows(results: Mapping[str, Any]) -> list[Table]:
    """Make the tables: per set one of quality, one of recall by size and by blur; then time."""
    names = short_names(results["detectors"])
    tables = []
    for title, rows in results["sets"].items():
        first = next(iter(rows.values()))
        if first["default"]["faces"]:
            if "ap" in first:
                tables.append(_quality(title, rows, names))
            for key, what in (("recall_by_size", "size, px"), ("recall_by_degree", "blur degree")):
                if key in first["default"]:
                    tables.append(_recall(title, rows, names, key, what))
        else:
            tables.append(_alarms(title, rows, names))
    if results["timing"]:
        tables.append(_timing(results["timing"], names))
    return tables


def short_names(detectors: Mapping[str, str]) -> dict[str, str]:
    """Give each detector the name of its file, or all that was given where two have one."""
    stems = {name: Path(name).stem if name.endswith(".onnx") else name for name in detectors}
    taken = list(stems.values())
    return {name: s if taken.count(s) == 1 else name for name, s in stems.items()}


def _quality(title: str, rows: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    first = next(iter(rows.values()))
    head = ["detector"]
    head += [f"AP@{iou} {which}" for iou, parts in first["ap"].items() for which in parts]
    head += ["recall", "precision", "landmark error mean", "median"]
    body = []
    for name, row in rows.items():
        cells = [names[name]]
        cells += [_number(v, 3) for parts in row["ap"].values() for v in parts.values()]
        cells += [_number(row["default"][k], 3) for k in ("recall", "precision")]
        cells += [_number(row["landmark_error"][k], 4) for k in ("mean", "median")]
        body.append(cells)
    note = f"{first['pictures']} pictures, {first['default']['faces']} faces"
    shared = first["landmark_error"]["faces"]
    return f"{title}: {note}; landmarks on {shared} faces that all found", head, body


def _recall(
    title: str, rows: Mapping[str, Any], names: Mapping[str, str], key: str, what: str
) -> Table:
    first = next(iter(rows.values()))["default"][key]
    counts = ", ".join(str(part["faces"]) for part in first.values())
    body = []
    for name, row in rows.items():
        cells = [names[name]]
        cells += [_number(part["recall"], 3) for part in row["default"][key].values()]
        cells.append(str(row["default"]["false_alarms"]))
        body.append(cells)
    head = ["detector", *first, "false alarms"]
    return f"{title}: recall at the default score by {what} ({counts} faces)", head, body


def _alarms(title: str, rows: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    body = []
    for name, row in rows.items():
        n, alarms = row["pictures"], row["default"]["false_alarms"]
        body.append([names[name], str(n), str(alarms), _number(100 * alarms / n, 2)])
    return title, ["detector", "pictures", "false alarms", "per 100 pictures"], body


def _timing(timing: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    keys = ("network_ms", "network_fastest_ms", "call_ms", "call_fastest_ms")
    body = [[names[n], *(_number(row[k], 1) for k in keys)] for n, row in timing.items()]
    h, w = next(iter(timing.values()))["size"]
    head = ["detector", "network ms", "fastest", "whole call ms", "fastest"]
    return f"time at {h}x{w}, one thread, turn by turn", head, body


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def detection_page(results: Mapping[str, Any], galleries: Mapping[str, Gallery]) -> str:
    """Make the page: the tables, then what went wrong."""
    content: list[Html] = []
    for title, head, rows in set_rows(results):
        content.append(section(title, table(head, rows)))
    names = short_names(results["detectors"])
    for title, gallery in galleries.items():
        for name, shown in names.items():
            failures = gallery.failures(name)[:SHOWN]
            if not failures:
                continue
            figures = [
                element(
                    "figure", _image(jpeg(f.drawn, 80), f.caption), element("figcaption", f.caption)
                )
                for f in failures
            ]
            content.append(section(f"{shown} on {title}", element("div", *figures, style=_STYLE)))
    note = (
        "Green: found. Red: missed. Yellow: false alarm, with its score. Grey: ignored. The worst "
        "pictures of each set, at the default score and IoU 0.5."
    )
    about = {key: results[key] for key in ("detectors", "embedder", "det_size", "default_score")}
    content.append(section("Settings", facts(about)))
    return page("Face detectors compared", *content, note=note)


def _image(data: bytes, text: str) -> Html:
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return Html(f'<img src="{source}" alt="{safe(text)}" style="max-width:100%" loading="lazy">')
