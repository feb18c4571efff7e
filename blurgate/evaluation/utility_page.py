"""The page's part on utility: error-versus-discard curves, gates, and the pairs that are lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from blurgate.evaluation.findings import BOUNDS, GRID
from blurgate.report.charts import Chart, Line, lines
from blurgate.report.page import Html, element, facts, jpeg, picture, section, table
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.evaluation.findings import Curve, Gated, UtilityResult, WorstPair

DRAWN: Final = ("random", "oracle")
"""Bounds that are drawn; `best` falls to 0 at once and says little in a figure."""
POINT: Final = "FMR 0.001"
UP_TO: Final = 0.5
"""Curves are drawn up to this share of discarded comparisons."""


def utility_sections(found: UtilityResult, names: Sequence[str]) -> list[Html]:
    """Make the sections.

    Args:
        found: What was measured.
        names: The scorers, in the order of their colours.
    """
    recognisers = list(dict.fromkeys(curve.recogniser for curve in found.curves))
    about = (
        "Error versus discard: the comparisons with the highest degree leave first, at one fixed "
        "match threshold. Pair degree is the larger of the two; equal degrees leave together. "
        "random is a blind gate, oracle knows the true label, best knows the errors. pAUC: area "
        "below the steps, less is better. Judges that no label comes from are named second."
    )
    parts: list[object] = [element("p", about, class_="note")]
    for recogniser in recognisers:
        parts.append(element("h3", f"Verified by {recogniser}, FNMR at {POINT}"))
        charts = [lines(chart) for chart in _charts(found, recogniser, names)]
        parts.append(element("div", *charts, class_="charts"))
        for point in dict.fromkeys(curve.point for curve in found.curves):
            parts.append(element("h3", f"pAUC x 1000 up to 20 / 30 %, {point}"))
            parts.append(table(*area_rows(found, recogniser, names, point=point)))
        parts.append(element("h3", f"pAUC x 1000 of the FMR up to 20 / 30 %, {POINT}"))
        parts.append(table(*area_rows(found, recogniser, names, point=POINT, mode="FMR")))
        parts.append(element("h3", f"Share to discard that halves the FNMR at {POINT}"))
        parts.append(table(*halving_rows(found, recogniser, names)))
    out = [section("Utility", *parts)]
    out.append(_gates(found))
    out += _cases(found, names)
    known = {k: v for k, v in found.facts.items() if k not in ("conditions", "scorers")}
    return [*out, section("Comparisons", facts(known))]


def _curves(
    found: UtilityResult, recogniser: str, point: str, mode: str = "FNMR"
) -> dict[str, dict[str, Curve]]:
    """Give curves by condition and scorer."""
    by: dict[str, dict[str, Curve]] = {}
    for curve in found.curves:
        if (curve.recogniser, curve.point, curve.mode) == (recogniser, point, mode):
            by.setdefault(curve.condition, {})[curve.scorer] = curve
    return by


def _charts(found: UtilityResult, recogniser: str, names: Sequence[str]) -> Iterator[Chart]:
    last = int(UP_TO * (len(GRID) - 1))
    share = GRID[: last + 1].tolist()
    for condition, curves in _curves(found, recogniser, POINT).items():
        drawn = []
        for scorer, curve in curves.items():
            if scorer in (*DRAWN, *names):
                colour = None if scorer in DRAWN else list(names).index(scorer)
                error = curve.error[: last + 1]
                drawn.append(Line(scorer, share, error, colour, dashed=scorer == "random"))
        yield Chart(condition, "share discarded", "FNMR", drawn, (0.0, UP_TO), None)


def area_rows(
    found: UtilityResult, recogniser: str, names: Sequence[str], *, point: str, mode: str = "FNMR"
) -> tuple[list[str], list[list[object]]]:
    """Give head and rows of a table of areas: per condition the pAUC x 1000 up to 20 and 30 %."""
    who = [*names, *BOUNDS]
    head = ["condition", f"{mode} at first", *who]
    rows: list[list[object]] = []
    for condition, curves in _curves(found, recogniser, point, mode).items():
        row: list[object] = [condition, f"{next(iter(curves.values())).start:.4f}"]
        for name in who:
            one = curves.get(name)  # clean faces have no true label, and so no oracle
            row.append("" if one is None else f"{1e3 * one.pauc20:.2f} / {1e3 * one.pauc30:.2f}")
        rows.append(row)
    return head, rows


def halving_rows(
    found: UtilityResult, recogniser: str, names: Sequence[str]
) -> tuple[list[str], list[list[object]]]:
    """Give head and rows of the table of the least share to discard that halves the FNMR."""
    who = [*names, *DRAWN]
    rows: list[list[object]] = []
    for condition, curves in _curves(found, recogniser, POINT).items():
        shares = [curves[name].halved_at if name in curves else None for name in who]
        rows.append([condition, *("never" if s is None else f"{s:.3f}" for s in shares)])
    return ["condition", *who], rows


def gate_rows(found: UtilityResult) -> tuple[list[str], list[list[object]]]:
    """Give head and rows of the table of gates at the scorers' default thresholds."""
    head = ["scorer", "condition", "recogniser", "threshold", "faces kept", "pairs kept"]
    head += ["FNMR", "FNMR kept", "FMR", "FMR kept"]

    def row(gate: Gated) -> list[object]:
        where: list[object] = [gate.scorer, gate.condition, gate.recogniser, gate.threshold]
        numbers = (gate.fnmr_without, gate.fnmr, gate.fmr_without, gate.fmr)
        cells = ["none" if number is None else float(number) for number in numbers]
        return [*where, gate.kept_faces, gate.kept_comparisons, *cells]

    return head, [row(gate) for gate in found.gates if gate.point == POINT]


def _gates(found: UtilityResult) -> Html:
    note = element("p", f"Each scorer at its own default threshold, at {POINT}.", class_="note")
    return section("The gate at its default threshold", note, table(*gate_rows(found)))


def _cases(found: UtilityResult, names: Sequence[str]) -> Iterator[Html]:
    """Show the worst comparison of each kind and condition of each scorer."""
    if not found.cases:
        return
    about = (
        "missed: one person, not recognised, and the degree is low; wasted: recognised, and the "
        "degree is high. Above the clean face, below the changed one."
    )
    parts: list[object] = [element("p", about, class_="note")]
    for name in names:
        own = [case for case in found.cases if case.scorer == name]
        cells = map(_case, sorted(own, key=lambda case: case.kind))
        parts += [element("h3", name), element("div", *cells, class_="examples")]
    yield section("Pairs that scorers get wrong", *parts)


def _case(case: WorstPair) -> Html:
    shots = [
        picture(jpeg(one), f"{case.condition}: {source}", CROP_SIZE)
        for one, source in zip(case.pictures, case.sources, strict=True)
    ]
    text = f"{case.kind}, {case.condition}: {case.degree:.2f}, cosine {case.similarity:.2f}"
    return element("figure", *shots, element("figcaption", text, title=case.sources[1]))
