"""The page of an evaluation: everything in one file, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from blurgate.evaluation import group_page
from blurgate.evaluation import leaks as leak
from blurgate.evaluation.fidelity import LEAST
from blurgate.evaluation.protocol import LENGTHS
from blurgate.report.charts import Chart, Line, key, lines
from blurgate.report.page import Html, element, facts, page, picture, section, table
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.evaluation.evaluating import Evaluation
    from blurgate.evaluation.measuring import Rows, WorstPicture
    from blurgate.evaluation.protocol import Protocol

WAYS: Final = {"fixed": "all lines at one angle", "random": "a random angle each"}
_TITLES: Final = {"all": "all", "trained": "trained families", "held_out": "held-out families"}


def make_page(done: Evaluation) -> str:
    """Make the page; encode it as UTF-8."""
    from blurgate.evaluation.utility_page import utility_sections

    content: list[Html] = [element("p", line, class_="warning") for line in done.notices()]
    if done.fidelity:
        content += [_summary(done), _families(done), _judged(done), _reliability(done)]
        content += [*_sizes(done), *_groups(done)]
    if done.protocol is not None:
        content.append(_original(done, done.protocol))
    if done.leaks is not None:
        content.append(_leaks(done))
    if done.utility is not None:
        content += utility_sections(done.utility, list(done.models))
    if done.rows is not None:
        content += [*_worst(done, done.rows)]
    everything = done.facts()
    settings = {k: everything[k] for k in ("version", "settings", "models", "embedder", "material")}
    content.append(section("Settings", facts(settings)))
    names = ", ".join(str(scorer.info) for scorer in done.models.values())
    return page("Evaluation of blur scores", *content, note=names)


def _note(text: str) -> Html:
    return element("p", text, class_="note")


def summary_rows(done: Evaluation) -> tuple[list[str], list[list[Any]]]:
    """Give head and rows of the table that says it all."""
    present = [part for part in _TITLES if any(part in f for f in done.fidelity.values())]
    if present == ["all", "trained"]:
        present = ["all"]
    head = ["scorer", "families", "pictures", "MAE", "RMSE", "bias", "Spearman", "Pearson", "gap"]
    rows = []
    for name, parts in done.fidelity.items():
        for part in present:
            one = parts[part]
            numbers = [one[k] for k in ("mae", "rmse", "bias", "spearman", "pearson")]
            gap = one["reliability"]["gap"]
            rows.append([name, _TITLES[part], one["n"], *numbers, gap])
    return head, rows


def _summary(done: Evaluation) -> Html:
    head, rows = summary_rows(done)
    return section(
        "Fidelity",
        _note(
            "Degrees against labels: 1 - cosine of the recogniser's embeddings of the blurred "
            "picture and its clean twin. gap: mean distance of the reliability curve from the "
            "diagonal. Classical measures are not degrees by nature; their map to 0..1 was fitted "
            "to other faces, and the fair figure for them is the rank correlation (Spearman)."
        ),
        table(head, rows),
    )


def family_tables(done: Evaluation) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Give (title, head, rows) of the tables with a row per family."""
    assert done.rows is not None
    names = list(done.fidelity)
    held = done.rows.held_out
    tables = []
    for title, field, best in (
        ("Spearman", "spearman", max),
        ("Mean absolute error", "mae", min),
        ("Bias (mean of degree - label)", "bias", None),
    ):
        rows = []
        marked = best if len(names) > 1 else None
        for family in held:
            ones = [done.fidelity[name]["families"][family] for name in names]
            numbers = [one[field] for one in ones]
            row: list[Any] = [family, "held out" if held[family] else "", ones[0]["n"], *numbers]
            rows.append([*row, names[numbers.index(marked(numbers))]] if marked else row)
        head = ["family", "", "pictures", *names, *(["best"] if marked else [])]
        tables.append((title, head, rows))
    return tables


def _families(done: Evaluation) -> Html:
    content: list[object] = []
    for title, head, rows in family_tables(done):
        content += [element("h3", title), table(head, rows)]
    return section("By family of blur", *content)


def judged_rows(done: Evaluation) -> tuple[list[str], list[list[Any]]]:
    """Give head and rows of the table of the second recogniser's labels; no rows without one."""
    head = ["families", "", "pictures", "MAE", "bias", "Spearman"]
    found, rows = done.judged, []
    parts = [(_TITLES[part], "", found[part]) for part in _TITLES if part in found]
    held = done.rows.held_out if done.rows is not None else {}
    for family, one in found.get("families", {}).items():
        parts.append((family, "held out" if held[family] else "", one))
    for name, kind, one in parts:
        rows.append([name, kind, one["n"], one["mae"], one["bias"], one["spearman"]])
    return head, rows


def _judged(done: Evaluation) -> Html:
    head, rows = judged_rows(done)
    if not rows:
        return Html("")
    return section(
        "How far recognisers agree",
        _note(
            f"Labels by {done.judge} against those of the embedder. It sees the clean twin, which "
            "no scorer does: a scorer that is not trained on this very embedder can hardly be "
            "nearer to its labels than that."
        ),
        table(head, rows),
    )


def _reliability(done: Evaluation) -> Html:
    every = [_reliable(done, "all pictures", "all")]
    assert done.rows is not None
    for family, held_out in done.rows.held_out.items():
        title = f"{family} (held out)" if held_out else family
        every.append(_reliable(done, title, "families", family))
    return section(
        "Reliability",
        _note(
            "Mean label of the pictures that a scorer gave about one degree. On the dashed line a "
            f"degree means what it says. Bins of fewer than {LEAST} pictures are left out."
        ),
        _keys(done),
        element("div", *every, class_="charts"),
    )


def _reliable(done: Evaluation, title: str, *path: str) -> Html:
    """Draw the curves of one part of the pictures: its place in each scorer's numbers.

    Gives nothing where no scorer has a bin that is full enough.
    """
    drawn = []
    for number, (scorer, parts) in enumerate(done.fidelity.items()):
        one: Any = parts
        for step in path:
            one = one[step]
        curve = one["reliability"]
        kept = [i for i, n in enumerate(curve["n"]) if n >= LEAST]
        x, y = ([curve[k][i] for i in kept] for k in ("degree", "label"))
        drawn.append(Line(scorer, x, y, number, dots=True))
    chart = Chart(title, "degree", "mean label", drawn, diagonal=True)
    return lines(chart, legend=False) if any(line.x for line in drawn) else Html("")


def _keys(done: Evaluation) -> Html:
    entries = (key(name, Line(name, (), (), i)) for i, name in enumerate(done.models))
    return element("p", *entries, class_="keys")


def _sizes(done: Evaluation) -> Iterator[Html]:
    """Show the sizes of faces."""
    keys = list(next(iter(done.fidelity.values()))["sides"])
    if len(keys) < 2:
        return
    rows = []
    for one in keys:
        cells = [parts["sides"][one] for parts in done.fidelity.values()]
        row: list[object] = [one, cells[0]["n"]]
        for cell in cells:
            row += [cell["mae"], cell["bias"], cell["spearman"]]
        rows.append(row)
    head = ["", "pictures"]
    head += [f"{name} {k}" for name in done.fidelity for k in ("MAE", "bias", "Spearman")]
    yield section(
        "By face size",
        _note(
            "Pixels of the picture along a side of the 112 px crop, before it is brought to 112."
        ),
        table(head, rows),
        _keys(done),
        element("div", *(_reliable(done, k, "sides", k) for k in keys), class_="charts"),
    )


def _groups(done: Evaluation) -> Iterator[Html]:
    """Show the groups of people."""
    for part, title, note in (
        ("groups", "By group of people", group_page.ABOUT),
        (
            "groups_sharp",
            "Groups without blur",
            "Only pictures that were not blurred: what a scorer gives them is a shortcut's doing.",
        ),
    ):
        found = group_page.axes(done, part)
        content: list[object] = [_note(note)]
        for axis in found:
            if axis != "group":
                content.append(element("h3", axis))
            content.append(table(*group_page.group_rows(done, axis, part)))
            if part == "groups":
                named = next(iter(done.fidelity.values()))[part][axis]
                charts = [_reliable(done, k, part, axis, k) for k in named]
                content += [_keys(done), element("div", *charts, class_="charts")]
        if found:
            yield section(title, *content)


def protocol_rows(done: Evaluation) -> tuple[list[str], list[list[Any]]]:
    """Give head and rows of the table of the original's protocol."""
    assert done.protocol is not None
    rows = []
    for way, title in WAYS.items():
        for name in done.models:
            one = done.protocol.errors(name, way)
            rows.append([name, title, *(one[k] for k in ("mse_of_means", "mae_of_means", "mae"))])
    return ["scorer", "angles", "MSE of means", "MAE of means", "MAE per picture"], rows


def _original(done: Evaluation, protocol: Protocol) -> Html:
    charts = []
    for way, title in WAYS.items():
        curves = protocol.curves(way)
        drawn = [Line("true", list(LENGTHS), curves["true"].tolist(), dashed=True)]
        drawn += [
            Line(name, list(LENGTHS), curves[name].tolist(), number)
            for number, name in enumerate(done.models)
        ]
        chart = Chart(title, "length of the line, px", "mean over people", drawn, (0, 99))
        charts.append(lines(chart))
    return section(
        "The original's protocol",
        _note(
            f"{len(protocol.identities)} people, one picture each, blurred with lines of 0 to 99 "
            "pixels of the 112 px crop. The original reports the squared error between the mean "
            "curves; the error of single pictures, which it does not, is the last column."
        ),
        element("div", *charts, class_="charts"),
        table(*protocol_rows(done)),
    )


def leak_rows(done: Evaluation) -> tuple[list[str], list[list[Any]]]:
    """Give head and rows of the short table of leaks: mean sizes of the changes."""
    found = done.leaks
    assert found is not None
    rows: list[list[Any]] = [
        [
            change,
            state,
            found.label[state][change].mean_abs,
            *(found.degree[name][state][change].mean_abs for name in done.models),
        ]
        for state in leak.STATES
        for change in leak.CHANGES
    ]
    rows += [
        ["mean of all", state, "", *(found.overall(n, state) for n in done.models)]
        for state in leak.STATES
    ]
    return ["change", "faces", "label", *done.models], rows


def _leaks(done: Evaluation) -> Html:
    found = done.leaks
    assert found is not None
    content: list[object] = [
        _note(
            f"{found.faces} faces, once sharp and once blurred by a Gaussian of "
            f"{leak.SIGMA:g} px, changed in ways that are no blur. Mean and 95th percentile of how "
            "far the degree moves, without its sign; the label's own movement stands first."
        )
    ]
    for state in leak.STATES:
        head = ["change", "label", ""]
        for name in done.models:
            head += [name, ""]
        rows: list[list[object]] = []
        for change in leak.CHANGES:
            cells = [found.label[state][change]]
            cells += [found.degree[name][state][change] for name in done.models]
            row: list[object] = [change]
            for cell in cells:
                row += [cell.mean_abs, f"{cell.p95_abs:.2f}"]
            rows.append(row)
        mean: list[object] = ["mean of all", "", ""]
        for name in done.models:
            mean += [found.overall(name, state), ""]
        content += [element("h3", f"{state} faces"), table(head, [*rows, mean])]
    content += group_page.leak_groups(done)
    return section("What moves the degree when blur does not", *content)


def _worst(done: Evaluation, rows: Rows) -> Iterator[Html]:
    parts: list[object] = [
        _note(
            "The largest errors of each scorer, at most three of a family: above the clean twin, "
            "below the blurred picture."
        )
    ]
    for name in done.models:
        cells = [_case(rows, name, case) for case in rows.worst[name]]
        parts += [element("h3", name), element("div", *cells, class_="examples")]
    yield section("Where scorers lose", *parts)


def _case(rows: Rows, name: str, case: WorstPicture) -> Html:
    degree, label = rows.degree[name][case.row], rows.label[case.row]
    family = rows.family[case.row]
    about = f"{family}, {rows.source[case.row]}"
    shots = (
        picture(case.clean, f"clean: {about}", CROP_SIZE),
        picture(case.blurred, f"blurred: {about}", CROP_SIZE),
    )
    text = f"{family}: {degree:.2f} for {label:.2f}"
    return element("figure", *shots, element("figcaption", text, title=rows.source[case.row]))
