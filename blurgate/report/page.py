"""Parts of a page, and the page: HTML in one file, without a script and without a network.

Whatever is text is escaped here. Only an `Html`, which nothing but this module and its callers'
own markup makes, goes in as it is.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2

from blurgate.errors import DecodeError
from blurgate.report.style import STYLE
from blurgate.types import U8


class Html(str):
    """Markup that is safe to put into a page."""

    __slots__ = ()


def safe(value: object) -> Html:
    """Give a value as markup: an `Html` as it is, anything else as escaped text.

    >>> safe("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    if isinstance(value, Html):
        return value
    # Bytes of a file name that are no UTF-8 are surrogates here, and no page may hold one.
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return Html(html.escape(text))


def join(parts: Iterable[object], between: str = "\n") -> Html:
    """Put parts one after the other."""
    return Html(between.join(safe(part) for part in parts))


def element(tag: str, *content: object, **attributes: object) -> Html:
    """Make an element; `class_` stands for the attribute class.

    >>> element("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    text = "".join(f' {name.strip("_")}="{safe(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{text}>{join(content, '')}</{tag}>")


def section(title: str, *content: object) -> Html:
    """Make a section with a heading."""
    return element("section", element("h2", title), *content)


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """Make a table that scrolls sideways where the screen is narrow.

    The first column names its row. A float has four digits. A column of numbers, also of numbers
    in text such as "0.12 / 0.34", stands to the right, with its head; any other to the left.
    """
    rows = list(rows)
    right = [i > 0 and _numbers([row[i] for row in rows if i < len(row)]) for i in range(len(head))]

    def cell(tag: str, i: int, value: object, **attributes: object) -> Html:
        if isinstance(value, int | float):
            value = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        return element(tag, value, **attributes, **({"class_": "number"} if right[i] else {}))

    titles = element("tr", *(cell("th", i, title, scope="col") for i, title in enumerate(head)))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(cell("td", i, value) for i, value in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    whole = element("table", element("thead", titles), element("tbody", *body))
    return element("div", whole, class_="wide")


def _numbers(column: Sequence[object]) -> bool:
    """Tell whether a column holds numbers, and nothing else but words for a missing one."""
    texts = [str(value) for value in column if str(value) not in _MISSING]
    return bool(texts) and all(map(_NUMBER.fullmatch, texts))


def facts(values: Mapping[str, Any]) -> Html:
    """Make a list of names and values; nested ones as `outer.inner`, a list in one line."""
    rows = (element("div", element("dt", k), element("dd", v)) for k, v in _flat(values))
    return element("dl", *rows)


def jpeg(image: U8, quality: int = 90) -> bytes:
    """Encode a picture (h, w, 3) uint8 BGR for a page."""
    how: Sequence[int] = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    done, data = cv2.imencode(".jpg", image, how)
    if not done:
        raise DecodeError("a picture cannot be shown")
    return data.tobytes()


def picture(jpeg: bytes, text: str, side: int) -> Html:
    """Put a JPEG into the page, `side` pixels square, with a text for those who do not see it."""
    data = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return Html(
        f'<img src="{data}" alt="{safe(text)}" width="{side}" height="{side}" loading="lazy">'
    )


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram over [0, 1]."""

    title: str
    counts: Sequence[int]
    """One per bar; the bars are equally wide."""
    x_label: str
    y_label: str
    even: float | None
    """Height of a dashed line that shows an even distribution; None: no line."""


_MISSING: Final = ("", "-", "none", "never")
_NUMBER: Final = re.compile(r"[-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|nan|inf)( ?[%/±] ?([-+]?[\d.,]+)?)*")
_MOST: Final = 40
"""Items of a list that are shown."""
_WIDTH: Final = 380
_HEIGHT: Final = 244
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 26, 40


def bars(chart: Bars) -> Html:
    """Draw a histogram as SVG, with its counts as a table that folds out."""
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    most = max(1, *chart.counts, chart.even or 0)
    step = _nice_step(most)
    top = step * -(-most // step)
    n = len(chart.counts)

    def across(share: float) -> str:
        return f"{_LEFT + share * width:.2f}"

    def up(count: float) -> str:
        return f"{_TOP + height * (1 - count / top):.2f}"

    parts = []
    for tick in range(int(top / step + 0.5) + 1):
        y = up(tick * step)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_LEFT + width}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 6}" y="{y}">{tick * step:,.0f}</text>')
    # One outline and not a rectangle per bar, so that no seam shows between them.
    outline = "".join(f"V{up(c)}H{across((i + 1) / n)}" for i, c in enumerate(chart.counts))
    parts.append(f'<path class="bar" d="M{across(0)} {up(0)}{outline}V{up(0)}Z"/>')
    if chart.even is not None:
        parts.append(f'<path class="even" d="M{_LEFT} {up(chart.even)}H{_LEFT + width}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{_TOP + height}H{_LEFT + width}"/>')
    for tick in range(6):
        x = across(tick / 5)
        parts.append(f'<path class="axis" d="M{x} {_TOP + height}v4"/>')
        parts.append(f'<text class="x" x="{x}" y="{_TOP + height + 16}">{tick / 5:g}</text>')
    for i, count in enumerate(chart.counts):  # what the mouse is over
        place = f'x="{across(i / n)}" y="{_TOP}" width="{width / n:.2f}" height="{height}"'
        parts.append(f'<rect class="hover" {place}><title>{_span(i, n)}: {count:,}</title></rect>')
    parts.append(
        f'<text class="x" x="{across(0.5)}" y="{_HEIGHT - 6}">{safe(chart.x_label)}</text>'
    )
    parts.append(f'<text class="unit" x="0" y="12">{safe(chart.y_label)}</text>')
    svg = Html(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{safe(chart.title)}">{"".join(parts)}</svg>'
    )
    counts = table(("from - to", "count"), ((_span(i, n), c) for i, c in enumerate(chart.counts)))
    folded = element("details", element("summary", "counts"), counts)
    return element("figure", element("figcaption", chart.title), svg, folded, class_="chart")


def page(title: str, *content: object, note: str = "") -> str:
    """Make the page.

    Args:
        title: Shown on top and in the browser's tab.
        content: Parts made by the functions above; plain text is escaped.
        note: One line below the title.

    Returns:
        The whole file; encode it as UTF-8.
    """
    below = [element("p", note, class_="note")] if note else []
    body = element("main", element("h1", title), *below, *content)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # The browser itself now refuses to fetch anything, whatever the page may hold.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _span(i: int, n: int) -> str:
    return f"{i / n:g} - {(i + 1) / n:g}"


def _nice_step(most: float) -> float:
    """Give the distance of three to six lines that reach `most`: 1, 2 or 5 times a power of ten."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if most <= 5 * factor * step:
                return factor * step
        step *= 10


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        more = f", and {len(value) - _MOST} more" if len(value) > _MOST else ""
        return ", ".join(map(_text, value[:_MOST])) + more or "none"
    if isinstance(value, Mapping) and value:
        return "; ".join(f"{name}: {_text(inner)}" for name, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == "" else str(value)
