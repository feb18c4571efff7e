"""Tables of pages: a head stands over its column."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from blurgate.report.page import element, table


class Cells(HTMLParser):
    """Rows of (text, whether it stands to the right)."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append(["", dict(attributes).get("class") == "number"])

    def handle_data(self, data):
        self.rows[-1][-1][0] += data


def test_heads_stand_as_their_columns_do():
    cells = Cells(
        table(
            ["family", "held out", "n", "MAE", "area", "halved", "best", "", "mixed"],
            [
                ["blur", "yes", 1200, 0.25, "1.50 / 2.25", "never", "laplacian", "", "3"],
                ["sharp", "", 7, -1.0, "16.81 / 26.83", "0.125", "", "", "three"],
            ],
        )
    ).rows
    for row in cells:
        assert [right for _, right in row] == [
            False, False, True, True, True, True, False, False, False,
        ]  # fmt: skip
    assert [text for text, _ in cells[1]] == [
        "blur", "yes", "1,200", "0.2500", "1.50 / 2.25", "never", "laplacian", "", "3",
    ]  # fmt: skip
    assert cells[2][3] == ["-1.0000", True]


@pytest.mark.parametrize(
    ("text", "right"),
    [("0.110", True), ("5e-05", True), ("12 %", True), ("0.1 ± 0.02", True), ("nan", True),
     ("1,200", True), ("0-12", False), ("c-motion", False), ("20-39", False), ("none", False),
     ("1.2.3", False), ("640x480", False)],
)  # fmt: skip
def test_what_a_number_is(text, right):
    (_, (_, cell)) = Cells(table(["a", "b"], [["x", text]])).rows
    assert cell == [text, right]


def test_a_table_without_rows_and_one_with_markup():
    assert Cells(table(["a", "b"], iter([]))).rows == [[["a", False], ["b", False]]]
    assert "<b>&lt;</b>" in table(["a", "b"], [["x", element("b", "<")]])
