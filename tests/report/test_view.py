"""The page as a file: what it holds, before any browser reads it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from blurgate.errors import ConfigError
from blurgate.report.results import read_results
from blurgate.report.style import STYLE
from blurgate.report.thumbs import Thumbs
from blurgate.report.view import embedded, render, write_page


class Parts(HTMLParser):
    """The elements of a page, and the text of its scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        self._open = given.get("id", tag) if tag in ("script", "style") else None
        if self._open:
            self.texts[self._open] = ""

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.texts[self._open] += data


@pytest.fixture
def rendered(make, tmp_path):
    def render_run(faces, **settings):
        folder = make.write_run(tmp_path / "run", faces, **settings)
        return render(read_results(folder), Thumbs())

    return render_run


HOSTILE = "</script><script>alert(1)</script><!-- \u2028 \udcff &amp; ' \" ]]> @data@"


def test_only_the_pages_own_program_and_looks_may_run(rendered):
    parts = Parts(rendered([{"source": HOSTILE, "degree": "0.1"}]))
    (policy,) = (d["content"] for t, d in parts.elements if t == "meta" and "http-equiv" in d)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == "'none'"
    for name, text in (("script-src", parts.texts["script"]), ("style-src", parts.texts["style"])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert rules == {
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }  # fmt: skip
    tags = [tag for tag, _ in parts.elements]
    assert tags.count("script") == 3
    for tag, given in parts.elements:
        assert not {name for name in given if name.startswith("on") or name in ("style", "src")}, (
            tag
        )
        assert given.get("href", "#").startswith("#")


def test_names_survive_and_cannot_end_their_element(rendered):
    text = rendered([{"source": HOSTILE, "degree": "0.1"}], sources=[])
    parts = Parts(text)
    data = json.loads(parts.texts["data"])
    assert [note["name"] for note in data["sources"]] == [HOSTILE]
    assert "<!--" not in parts.texts["data"]
    assert text.encode("utf-8")  # no lone surrogate is left


@pytest.mark.parametrize("value", [HOSTILE, ["<", ">", "&"], {"</script": "<!--"}])
def test_embedded_json_is_the_value(value):
    text = embedded(value)
    assert json.loads(text) == value
    assert not set("<>&") & set(text)
    assert text.isascii()


def test_the_program_makes_no_markup_of_strings(rendered):
    program = Parts(rendered([])).texts["script"]
    forbidden = [
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(",
        "fetch(", "XMLHttpRequest", "WebSocket", "import(", "localStorage", "http:", "https:",
    ]  # fmt: skip
    found = [
        word for word in forbidden if word in program.replace("http://www.w3.org/2000/svg", "")
    ]
    assert found == []
    assert "</" not in program
    assert "<!--" not in program


def test_the_faces_come_sorted_with_the_numbers_of_the_table(rendered, make):
    faces = make.many_faces(60)
    data = json.loads(Parts(rendered(faces, min_face="30")).texts["data"])
    columns = data["faces"]
    assert columns["degree"] == sorted(float(face["degree"]) for face in faces)
    wanted = {
        (face["source"], float(face["degree"]), float(face["face_px"]), int(face["frame"]))
        for face in faces
    }
    names = [data["sources"][i]["name"] for i in columns["source"]]
    got = set(zip(names, columns["degree"], columns["px"], columns["frame"], strict=True))
    assert got == wanted
    assert data["rule"] == {"threshold": 0.4, "review": 0.0, "min_face": 30.0}


def test_the_command_repeats_what_the_run_was_told(rendered):
    text = rendered(
        [{"source": "a.mp4", "degree": "0.1"}],
        every=3, crops="loose", table="jsonl", detector="own_model@0123456789ab",
        detection="DetectorOptions(long_side=320, min_score=0.7)", **{"blur-kind": True},
    )  # fmt: skip
    command = json.loads(Parts(text).texts["data"])["command"]
    assert " ".join(command["options"]) == (
        "--model laplacian --det-size 320 --min-score 0.7 --every 3 --crops loose --table jsonl "
        "--keep-rejected --blur-kind"
    )
    assert command["sources"] == ["a.mp4"]
    assert command["note"].endswith(
        "The run's detector was the file own_model.onnx: add --detector with its path."
    )


def test_only_a_page_is_replaced(make, tmp_path):
    results = read_results(make.write_run(tmp_path / "run", [{"source": "a", "degree": "0.1"}]))
    out = tmp_path / "deep" / "page.html"
    write_page(results, Thumbs(), out)
    first = out.read_bytes()
    write_page(results, Thumbs(), out)
    assert out.read_bytes() == first
    with pytest.raises(ConfigError, match=r"faces\.csv is not a page of `blurgate report`"):
        write_page(results, Thumbs(), tmp_path / "run" / "faces.csv")
    with pytest.raises(ConfigError, match="is a folder; --out names the page's file"):
        write_page(results, Thumbs(), tmp_path)
    with pytest.raises(ConfigError, match=r"page\.html is a file; choose another --out"):
        write_page(results, Thumbs(), out / "below.html")


def luminance(colour):
    """Relative luminance as WCAG 2.2 has it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("place", [0, 1])
def test_colours_have_the_contrast_that_wcag_aa_asks_for(place):
    values = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in STYLE.split("}")]
    palettes = [block for block in values if "back" in block]
    assert len(palettes) == 3  # light, dark by the system, dark by choice
    assert palettes[1] == palettes[2]
    palette = palettes[place]
    for back in ("back", "card"):
        for name in ("text", "faint", "keep", "review", "reject", "bar"):
            light, dark = sorted((luminance(palette[name]), luminance(palette[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, back)
