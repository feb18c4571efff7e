"""`blurgate report`: the page of results, and the figures of training data."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

HEAD = "file clean_file identity split method parameters seed index label embedder".split()  # noqa: SIM905
LABELS = {
    "linear": [i / 40 for i in range(41)],
    "gaussian": [0.02, 0.05, 0.1, 0.12, 0.499, 0.501],
}


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.classes = [], [], []
        self.images, self.texts, self.last = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.images.append(given)
        self.last = tag

    def handle_data(self, data):
        if self.last in ("td", "th") and data.strip():
            self.tables[-1][-1][-1] += data.strip()
        if self.last not in ("style", "title") and data.strip():
            self.texts.append(data.strip())

    def numbers(self):
        """Method -> column -> text of the table of numbers."""
        (table,) = (t for t in self.tables if t[0][0] == "method")
        return {row[0]: dict(zip(table[0], row, strict=True)) for row in table[1:]}

    def counts(self):
        """The counts of each figure: overall, then each method."""
        found = [t for t in self.tables if t[0] == ["from - to", "count"]]
        return [[int(row[1].replace(",", "")) for row in t[1:]] for t in found]


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((112, 112, 3), value, np.uint8))


def write_dataset(folder, *, tag="a", methods=LABELS, settings=None):
    """A dataset whose picture of label v has the grey value 200 * v; clean ones are 255."""
    folder.mkdir()
    facts = {"format": 1, "seed": 7, "rows": sum(map(len, methods.values())), **(settings or {})}
    (folder / "dataset.json").write_text(json.dumps(facts))
    picture(folder / "clean" / f"{tag}.png", 255)
    for method, labels in methods.items():
        table = folder / f"label_{method}" / "label" / "data_label.csv"
        table.parent.mkdir(parents=True)
        with table.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(HEAD)
            for k, label in enumerate(labels):
                name = f"blur_{method}/{tag}_{k}.png"
                picture(folder / name, round(200 * label))
                split = "val" if k % 4 == 0 else "train"
                row = [name, f"clean/{tag}.png", tag, split, method, "{}", 7, k, f"{label:.6g}"]
                rows.writerow([*row, "arcface@0123456789ab"])
    return folder


@pytest.fixture
def report(run):
    pytest.importorskip("matplotlib", reason="`blurgate report --data` needs the extra `plot`")

    def make(folder, *options, code=0):
        ran = run("report", "--data", folder, *options)
        assert ran.code == code, ran.err
        where = folder / "report" / "report.html"
        return ran, where.read_text(encoding="utf-8") if where.is_file() else ""

    return make


def shown_values(page):
    """The mean grey value of every picture in the page."""
    values = []
    for image in page.images:
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"), validate=True)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (112, 112, 3)
        values.append(float(decoded.mean()))
    return values


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("name", ["report.html", "labels.png"])
def test_what_does_not_fit_on_the_disk_leaves_the_earlier_report(report, run, tmp_path, name):
    """A limit on the size of files stands in for a full disk."""
    import resource

    folder = write_dataset(tmp_path / "set")
    report(folder)
    before = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[name]) - 100, limits[1]))
    try:
        ran = run("report", "--data", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (ran.code, len(ran.err.splitlines())) == (5, 1), ran.err
    assert f"/{name}" in ran.err
    assert {path.name: path.read_bytes() for path in (folder / "report").iterdir()} == before


def test_counts_equal_the_tables(report, tmp_path):
    folder = write_dataset(tmp_path / "set")
    ran, text = report(folder)
    assert (ran.out, "47 labels in" in ran.err) == ("", True)
    assert sorted(path.name for path in (folder / "report").iterdir()) == [
        "labels.png",
        "labels_gaussian.png",
        "labels_linear.png",
        "report.html",
    ]
    page = Page(text)
    wanted = {}
    for method in ("gaussian", "linear"):
        with (folder / f"label_{method}/label/data_label.csv").open(newline="") as file:
            labels = [float(row["label"]) for row in csv.DictReader(file)]
        bins = [sum(i / 20 <= v and (v < (i + 1) / 20 or i == 19) for v in labels)
                for i in range(20)]  # fmt: skip
        assert sum(bins) == len(labels)
        wanted[method] = bins
    both = [sum(pair) for pair in zip(*wanted.values(), strict=True)]
    assert page.counts() == [both, wanted["gaussian"], wanted["linear"]]
    numbers = page.numbers()
    assert list(numbers) == ["all", "gaussian", "linear"]
    assert [numbers["all"][k] for k in ("labels", "train", "val", "clean")] == [
        "47", "34", "13", "1",
    ]  # fmt: skip
    linear = numbers["linear"]
    assert [linear[k] for k in ("min", "5 %", "25 %", "50 %", "75 %", "95 %", "max")] == [
        "0.0000", "0.0500", "0.2500", "0.5000", "0.7500", "0.9500", "1.0000",
    ]  # fmt: skip
    assert (linear["mean"], linear["at 1"], numbers["gaussian"]["at 1"]) == ("0.5000", "1", "0")


def test_the_bars_are_as_high_as_the_counts(report, tmp_path):
    _, text = report(write_dataset(tmp_path / "set", methods={"linear": LABELS["linear"]}))
    (outline,) = {d["d"] for tag, d in Page(text).tags if d.get("class") == "bar"}
    # M left bottom, then V height H right for each bar, V bottom Z.
    heights = [float(v) for v in re.findall(r"V([\d.]+)H", outline)]
    bottom = float(re.match(r"M[\d.]+ ([\d.]+)", outline)[1])
    tall = bottom - np.array(heights)
    np.testing.assert_allclose(tall / tall[0], [1] * 19 + [1.5], atol=0.01)


def test_examples_are_the_rows_nearest_to_five_degrees(report, tmp_path):
    ran, text = report(write_dataset(tmp_path / "set"))
    page = Page(text)
    assert ran.err.count("\n") == 1
    # gaussian: 0.1 and 0.499 (0.12 is 0.18 away from 0.3); linear: all five
    captions = [t for t in page.texts if re.fullmatch(r"\d\.\d{3}", t)]
    assert captions == ["0.100", "0.499", "0.100", "0.300", "0.500", "0.700", "0.900"]
    near = [t for t in page.texts if t.startswith("no label near")]
    assert near == [f"no label near {v}" for v in (0.3, 0.7, 0.9)]
    values = shown_values(page)
    np.testing.assert_allclose(values[::2], 255, atol=1)
    np.testing.assert_allclose(values[1::2], [200 * float(v) for v in captions], atol=1.5)


def test_the_page_needs_nothing_from_elsewhere(report, tmp_path):
    settings = {"embedder": {"name": "https://example.org/x.onnx", "sha256": "ab" * 32}}
    _, text = report(write_dataset(tmp_path / "set", settings=settings))
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "a", "form", "use"}
    for tag, given in page.tags:
        for name, value in given.items():
            assert name not in ("href", "srcset", "action", "background", "style")
            assert not name.startswith("on"), (tag, name)
            if name == "src":
                assert value.startswith("data:image/jpeg;base64,")
    assert "url(" not in text
    assert "@import" not in text
    # The one address that was in the settings is there as text, and as nothing else.
    assert re.findall(r".{4}https?:", text) == ["<dd>https:"]
    (policy,) = (d["content"] for t, d in page.tags if t == "meta" and "http-equiv" in d)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        d for t, d in page.tags if t == "meta"
    ]


def test_names_are_text_and_never_markup(report, tmp_path):
    tag = "<img src=x onerror=alert(1)>\"'&amp;"
    skipped = [{"file": f"<u>{i}", "why": "x"} for i in range(42)]
    settings = {"<script>": {"a<b": ["</dd>", True, None]}, "plain": {}, "skipped": skipped}
    folder = tmp_path / "<b>set"
    write_dataset(folder, tag=tag, methods={"<i>'&": [0.1]}, settings=settings)
    _, text = report(folder)
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "b", "i", "u"} & set(tags)
    assert tags.count("img") == len(page.images) == 2
    assert [image["alt"] for image in page.images] == [
        f"clean: clean/{tag}.png",
        f"blurred: blur_<i>'&/{tag}_0.png",
    ]
    assert all(set(image) == {"src", "alt", "width", "height", "loading"} for image in page.images)
    assert "Training data: <b>set" in page.texts
    assert {"<script>.a<b", "</dd>, yes, none"} <= set(page.texts)
    (listed,) = (line for line in page.texts if line.startswith("file: <u>0; why: x, file: <u>1;"))
    assert listed.endswith("file: <u>39; why: x, and 2 more")
    assert list(page.numbers()) == ["all", "<i>'&"]


def test_pictures_that_are_missing_or_elsewhere(report, tmp_path):
    picture(tmp_path / "secret.png", 10)
    folder = write_dataset(tmp_path / "set", methods={"linear": [0.1, 0.5]})
    (folder / "blur_linear" / "a_0.png").unlink()
    (folder / "blur_linear" / "a_1.png").unlink()
    (folder / "blur_linear" / "a_1.png").symlink_to(tmp_path / "secret.png")
    ran, text = report(folder, code=4)
    lines = ran.err.splitlines()
    assert len(lines) == 3
    assert "a_0.png" in lines[0]
    assert "blur_linear/a_1.png lies outside of" in lines[1]
    page = Page(text)
    assert page.texts.count("blurred picture missing") == 2
    np.testing.assert_allclose(shown_values(page), 255, atol=1)


def test_a_table_that_names_pictures_elsewhere_is_refused(report, tmp_path):
    picture(tmp_path / "secret.png", 10)
    folder = write_dataset(tmp_path / "set", methods={"linear": [0.1, 0.5]})
    table = folder / "label_linear" / "label" / "data_label.csv"
    table.write_text(table.read_text().replace("blur_linear/a_1.png", "../secret.png"))
    ran, text = report(folder, code=3)
    assert "data_label.csv: '../secret.png' is not a path within the dataset" in ran.err
    assert text == ""


def test_warnings_stand_on_the_page(report, tmp_path):
    folder = write_dataset(tmp_path / "set", methods={"linear": [0.1, 0.2], "gaussian": []})
    table = folder / "label_linear" / "label" / "data_label.csv"
    table.write_text(table.read_text().replace("arcface@", "other@", 1))
    _, text = report(folder)
    page = Page(text)
    warnings = [d for _, d in page.tags if d.get("class") == "warning"]
    assert len(warnings) == 2
    assert "Labels of several embedders are mixed: arcface@0123456789ab, other@0123456789ab." in (
        page.texts
    )
    assert "No labels: gaussian." in page.texts
    assert page.counts()[1] == [0] * 20


def test_another_folder_and_a_second_report(report, tmp_path):
    folder = write_dataset(tmp_path / "set", methods={"linear": [0.1, 0.2]})
    ran, _ = report(folder, "--out", tmp_path / "a" / "b")
    assert ran.err.startswith(f"2 labels in {tmp_path / 'a' / 'b' / 'report.html'}, 2 figures")
    assert not (folder / "report").exists()
    first = (tmp_path / "a" / "b" / "report.html").read_bytes()
    report(folder, "--out", tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "report.html").read_bytes() == first


def test_bad_folders_are_one_line(run, tmp_path):
    pytest.importorskip("matplotlib", reason="`blurgate report --data` needs the extra `plot`")
    ran = run("report", "--data", tmp_path / "nowhere")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "nowhere holds no dataset of blurgate synth" in ran.err
    folder = write_dataset(tmp_path / "set")
    (folder / "journal.jsonl").write_text("")
    ran = run("report", "--data", folder)
    assert (ran.code, "is not finished; continue it with --resume" in ran.err) == (2, True)
    assert not (folder / "report").exists()
    assert run("report").code == 2
    (tmp_path / "page.html").write_text("mine")
    whole = write_dataset(tmp_path / "whole")
    ran = run("report", "--data", whole, "--out", tmp_path / "page.html")
    expected = f"blurgate: error: {tmp_path}/page.html is a file; choose another --out\n"
    assert (ran.code, ran.err) == (2, expected)
    assert (tmp_path / "page.html").read_text() == "mine"


def filtered(run, marker, tmp_path, *options):
    """A folder of `blurgate filter`: two pictures of two faces, and one that cannot be read."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, sharp in (("sharp", True), ("soft", False)):
        image = np.full((240, 400, 3), 60, np.uint8)
        for i in range(2):
            marker.draw(image, 10 + 150 * i, 40, 120, sharp=sharp, seed=i)
        assert cv2.imwrite(str(photos / f"{name}.png"), image)
    (photos / "bad.png").write_bytes(b"no picture")
    ran = run("filter", photos, "--detector", "marker", "--out", tmp_path / "out", "-q", *options)
    assert ran.code == 4
    return tmp_path / "out"


def page_data(path):
    text = path.read_text(encoding="utf-8")
    scripts = re.findall(
        r'<script type="application/json" id="(\w+)">(.*?)</script>', text, re.DOTALL
    )
    return {name: json.loads(body) for name, body in scripts}


def test_a_folder_of_filter_becomes_a_page(run, marker, tmp_path):
    folder = filtered(run, marker, tmp_path, "--keep-rejected", "--threshold", "0.3")
    ran = run("report", folder)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"4 faces of 3 sources, 4 with a picture, in {folder / 'report.html'}\n"
    page = page_data(folder / "report.html")
    data = page["data"]
    with (folder / "faces.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["blur_degree"]))
    assert data["faces"]["degree"] == [float(row["blur_degree"]) for row in rows]
    assert data["faces"]["crop"] == [row["crop"] for row in rows]
    assert data["rule"] == {"threshold": 0.3, "review": 0, "min_face": 0}
    assert sorted(note["status"] for note in data["sources"]) == ["failed", "ok", "ok"]
    assert page["thumbs"]["rows"] == [0, 1, 2, 3]
    ran = run("report", folder, "--thumbs", "2", "--threshold", "0.5", "-q")
    assert (ran.code, ran.err) == (0, "")
    page = page_data(folder / "report.html")
    assert page["thumbs"]["rows"] == [0, 3]
    assert page["data"]["rule"]["threshold"] == 0.5
    # What the page is made beside stays a folder of results.
    assert run("filter", tmp_path / "photos", "--detector", "marker", "--out", folder, "-q",
               "--threshold", "0.3", "--keep-rejected", "--resume").code == 4  # fmt: skip


def test_rejected_faces_of_pictures_are_cut_out_again(run, marker, tmp_path):
    folder = filtered(
        run, marker, tmp_path, "--model", "laplacian", "--threshold", "0", "--table", "jsonl"
    )
    assert run("report", folder).code == 0
    page = page_data(folder / "report.html")
    assert page["data"]["faces"]["crop"] == [""] * 4
    assert len(page["thumbs"]["jpeg"]) == 4


def test_a_table_of_score_becomes_a_page(run, marker, tmp_path):
    filtered(run, marker, tmp_path)
    table = tmp_path / "scores.csv"
    run("score", tmp_path / "photos", "--detector", "marker", "--csv", table, "-q")
    ran = run("report", table, "--out", tmp_path / "pages" / "p.html")
    assert (ran.code, "4 faces of 3 sources, 4 with a picture" in ran.err) == (0, True)
    data = page_data(tmp_path / "pages" / "p.html")["data"]
    assert (data["kind"], data["decided"]) == ("score", False)
    assert data["rule"] == {"threshold": 0.4, "review": 0, "min_face": 0}
    for picture in (tmp_path / "photos").iterdir():
        picture.unlink()
    ran = run("report", table)
    assert (ran.code, "4 faces of 3 sources, 0 with a picture" in ran.err) == (0, True)
    assert (tmp_path / "scores.report.html").is_file()


def test_a_folder_of_synth_becomes_a_page(run, tmp_path):
    folder = write_dataset(tmp_path / "set", methods={"linear": [0.5, 0.1], "gaussian": [0.3]})
    assert run("report", folder).code == 0
    page = page_data(folder / "report.html")
    assert page["data"]["faces"]["degree"] == [0.1, 0.3, 0.5]
    assert [note["name"] for note in page["data"]["sources"]] == ["gaussian", "linear"]
    assert len(page["thumbs"]["jpeg"]) == 3


def test_crops_that_are_gone_are_one_line(run, marker, tmp_path):
    folder = filtered(run, marker, tmp_path, "--keep-rejected", "--threshold", "1")
    for crop in (folder / "kept").iterdir():
        crop.unlink()
    ran = run("report", folder)
    assert ran.code == 4
    assert len(ran.err.splitlines()) == 2
    assert ran.err.splitlines()[0].endswith(", and 3 more")


def test_wrong_use_is_one_line(run, marker, tmp_path):
    folder = filtered(run, marker, tmp_path)
    for arguments, code, match in (
        ((), 2, "name the results: blurgate report RESULTS"),
        ((folder, "--data", folder), 2, "RESULTS and --data DIR are two reports: give one"),
        ((tmp_path / "nowhere",), 3, "there is no such folder or table"),
        ((tmp_path / "photos",), 3, "holds no results"),
        ((folder, "--out", folder / "faces.csv"), 2, "is not a page of `blurgate report`"),
    ):
        ran = run("report", *arguments)
        assert (ran.code, len(ran.err.splitlines()), match in ran.err) == (code, 1, True), ran.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link to nothing", "link to a page"])
def test_only_a_page_is_replaced(run, marker, tmp_path, kind):
    folder = filtered(run, marker, tmp_path)
    assert run("report", folder).code == 0
    os.mkfifo(tmp_path / "fifo")
    out = tmp_path / "fifo"
    if kind != "pipe":
        target = {"pipe": "fifo", "nothing": "nothing", "page": folder / "report.html"}
        out = tmp_path / "link"
        out.symlink_to(target[kind.split()[-1]])
    before = out.lstat().st_mode, out.lstat().st_ino
    ran = run("report", folder, "--out", out)
    assert ran.code == 2
    expected = f"{out} is not a page of `blurgate report`; choose another --out"
    assert ran.err == f"blurgate: error: {expected}\n"
    assert (out.lstat().st_mode, out.lstat().st_ino) == before
