"""`blurgate evaluate` end to end, on pictures that the tests draw."""

from __future__ import annotations

import csv
import errno
import json
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from blurgate.evaluation import leaks, protocol
from blurgate.hookspecs import hookimpl
from blurgate.host import get_host
from blurgate.interfaces import ModelInfo
from blurgate.training.dataset import Dataset

pytestmark = pytest.mark.usefixtures("tiny_plugin")
FEW = ("--family", "sharp", "--family", "c-defocus", "--family", "second-order")


@pytest.fixture
def evaluate(run, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: None)  # it is the whole process's
    monkeypatch.setattr(protocol, "LENGTHS", range(0, 100, 25))
    monkeypatch.setattr(leaks, "CHANGES", dict(list(leaks.CHANGES.items())[:3]))

    def run_evaluate(*arguments):
        return run("evaluate", *arguments, "--embedder", "tiny")

    return run_evaluate


@pytest.fixture
def faces(tiny, tmp_path):
    folder = tmp_path / "in"
    for i in range(9):
        path = folder / f"p{i // 3}" / f"girl_{'ab'[i % 2]}_{i % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), tiny.draw(112 + 58 * (i % 2), i))
    return folder


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.titles, self.lines, self.within = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.within = tag
        if tag == "path" and "line" in given.get("class", "").split():
            self.lines.append(given["d"])

    def handle_data(self, data):
        if self.within in ("h2", "h3") and data.strip():
            self.titles.append(data.strip())


def test_everything_is_written_and_agrees(evaluate, faces, tmp_path, tiny):
    ran = evaluate(
        "in", "--model", "laplacian", "--model", "tenengrad", *FEW, "--out", "o", "--per-face", 2,
        "--groups", r"girl_(\w)_\d", "--groups", "utkface", "--seed", 3,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    # 27 comparisons of different people are too few for an FMR of 1e-3: said, and gone on
    assert "utility is left out" in ran.err
    out = tmp_path / "o"
    names = {path.name for path in out.iterdir()}
    assert {"evaluation.html", "results.json", "rows.csv"} <= names
    with (out / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 2 * 3
    assert list(rows[0]) == [
        "file", "identity", "group", "family", "held_out", "side_px", "label",
        "laplacian", "tenengrad",
    ]  # fmt: skip
    facts = json.loads((out / "results.json").read_text())
    for name in ("laplacian", "tenengrad"):
        error = np.array([float(r[name]) - float(r["label"]) for r in rows])
        found = facts["fidelity"][name]
        assert found["all"]["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-6)
        assert found["all"]["bias"] == pytest.approx(error.mean(), abs=1e-6)
        for family, held_out in (("sharp", "0"), ("c-defocus", "1"), ("second-order", "1")):
            own = [i for i, r in enumerate(rows) if r["family"] == family]
            assert len(own) == 18
            assert {rows[i]["held_out"] for i in own} == {held_out}
            rmse = np.sqrt((error[own] ** 2).mean())
            assert found["families"][family]["rmse"] == pytest.approx(rmse, abs=1e-6)
        a = [i for i, r in enumerate(rows) if r["group"] == "a"]
        group = found["groups"]["group"]["a"]
        assert group["mae"] == pytest.approx(np.abs(error[a]).mean(), abs=1e-6)
        worst = facts["worst"][name][0]
        largest = np.abs(error).max()
        assert abs(worst["degree"] - worst["label"]) == pytest.approx(largest, abs=1e-6)
    assert {r["side_px"] for r in rows} == {"112", "170"}  # the pictures' own; crops have 160
    assert facts["original"]["people"] == 3
    assert facts["leaks"]["faces"] == 9
    assert {k: v["faces"] for k, v in facts["leaks"]["groups"]["group"].items()} == {"a": 5, "b": 4}
    assert facts["material"]["groups"] == {"group": {"a": 5, "b": 4}}
    assert facts["models"][0] == {
        "name": "laplacian", "model": "laplacian", "sha256": "", "threshold": 0.4,
    }  # fmt: skip
    page = Page((out / "evaluation.html").read_text(encoding="utf-8"))
    for title in (
        "Fidelity", "By family of blur", "Reliability", "By face size", "By group of people",
        "Groups without blur", "The original's protocol",
        "What moves the degree when blur does not", "Where scorers lose", "Settings",
    ):  # fmt: skip
        assert title in page.titles
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "a", "form"}
    images = [given for tag, given in page.tags if tag == "img"]
    assert len(images) == 2 * sum(map(len, facts["worst"].values()))
    assert all(given["src"].startswith("data:image/jpeg;base64,") for given in images)
    assert "laplacian" in ran.out
    assert "held-out families" in ran.out
    for table in (
        "Degrees against labels",
        "Without blur",
        "Levels and mean |change| without blur",
    ):
        assert f"{table}, by group" in ran.out


def test_the_same_seed_gives_the_same_bytes(evaluate, faces, tmp_path):
    options = ("in", "--model", "tenengrad", *FEW, "--part", "fidelity", "--json", "--quiet")
    first = evaluate(*options, "--out", "a", "--workers", 1)
    second = evaluate(*options, "--out", "b", "--workers", 3)
    other = evaluate(*options, "--seed", 1)
    assert (first.code, first.err) == (0, "")
    assert first.out == second.out != other.out
    for name in ("evaluation.html", "rows.csv", "results.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads(first.out)["leaks"] is None


def test_a_synth_folder_is_taken_with_its_labels(run, evaluate, faces, tmp_path):
    made = run(
        "synth", "in", "--out", "set", "--blur", "gaussian", "--val", 0.4, "--embedder", "tiny",
        "--per-image", 2, "--quiet",
    )  # fmt: skip
    assert made.code == 0, made.err
    ran = evaluate("set", "--model", "laplacian", "--out", "o", "--json")
    assert ran.code == 0, ran.err
    facts = json.loads(ran.out)
    (line,) = facts["left_out"]
    assert line.startswith("original is left out: the original's protocol needs at least two")
    assert line in ran.err
    with (tmp_path / "set/label_gaussian/label/data_label.csv").open(newline="") as file:
        labels = [float(r["label"]) for r in csv.DictReader(file) if r["split"] == "val"]
    assert facts["material"]["dataset"]["part"] == "val"
    assert facts["set"]["families"]["gaussian"]["pictures"] == len(labels) == 6
    assert facts["set"]["families"]["gaussian"]["label_mean"] == pytest.approx(np.mean(labels))
    assert facts["fidelity"]["laplacian"]["sides"] == {}
    assert facts["leaks"]["faces"] == 3  # the clean twins of one person
    refused = evaluate("set", "--part", "utility")
    assert refused.code == 2
    assert "--part utility needs photos of people and not a synth folder" in refused.err
    for data in (("in", "set"), ("set", "in")):
        refused = evaluate(*data, "--part", "fidelity", "--family", "sharp")
        assert refused.code == 2
        assert refused.err == (
            "blurgate: error: set is a folder of blurgate synth: evaluate takes one such "
            "folder, and nothing beside it\n"
        )


@pytest.mark.parametrize("part", ["fidelity", "leaks"])
def test_groups_of_a_synth_folder_without_pictures(run, evaluate, faces, tmp_path, part):
    made = run("synth", "in", "--out", "set", "--blur", "gaussian", "--embedder", "tiny", "--quiet")
    assert made.code == 0, made.err
    table = tmp_path / "set/label_gaussian/label/data_label.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    settings = tmp_path / "set/dataset.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "rows": 0}))
    ran = evaluate("set", "--groups", "mebeauty", "--part", part)
    assert ran.code == 3
    assert ran.err.endswith("blurgate: error: set holds no labelled pictures\n")


class Dim:
    """A second recogniser: it sees little of a picture."""

    info = ModelInfo("dim", "ab" * 32)

    def __init__(self, embedder):
        self.embedder = embedder

    def __call__(self, crops):
        return self.embedder(crops // 8)


@pytest.fixture
def dim(tiny):
    class Plugin:
        @staticmethod
        @hookimpl
        def register_embedders(register):
            register("dim", lambda model, runtime: Dim(tiny.TinyEmbedder()))

    get_host().add(Plugin, "dim-plugin")
    yield lambda crops: Dim(tiny.TinyEmbedder())(crops)
    get_host().remove("dim-plugin")


def test_a_second_recogniser_labels_too(run, evaluate, faces, dim, tmp_path):
    made = run(
        "synth", "in", "--out", "set", "--blur", "gaussian", "--val", 0.4, "--embedder", "tiny",
        "--per-image", 2, "--quiet",
    )  # fmt: skip
    assert made.code == 0, made.err
    ran = evaluate("set", "--part", "fidelity", "--judge", "dim", "--out", "o", "--seed", 1)
    assert ran.code == 0, ran.err
    data = Dataset(tmp_path / "set", split="val")
    every = range(len(data))
    clean, blurred = dim(data.clean_pictures(every)), dim(data.pictures(every))
    wanted = (1 - (clean * blurred).sum(axis=1)).clip(0, 1)
    assert np.abs(wanted - data.labels).max() > 0.001  # else this would show nothing
    with (tmp_path / "o/rows.csv").open(newline="") as file:
        got = [float(r["label_judge"]) for r in csv.DictReader(file)]
    assert got == pytest.approx(wanted.tolist(), abs=1e-5)
    facts = json.loads((tmp_path / "o/results.json").read_text())
    assert facts["judge"] == {"name": "dim", "sha256": "ab" * 32}
    error = np.abs(wanted - data.labels).mean()
    assert facts["judged"]["all"]["mae"] == pytest.approx(error, abs=1e-5)
    assert facts["judged"]["families"]["gaussian"]["mae"] == pytest.approx(error, abs=1e-5)
    assert f"Labels by dim@{'ab' * 6}" in ran.out
    page = Page((tmp_path / "o/evaluation.html").read_text(encoding="utf-8"))
    assert "How far recognisers agree" in page.titles


def test_a_recogniser_agrees_with_itself(evaluate, faces):
    ran = evaluate("in", *FEW, "--part", "fidelity", "--judge", "tiny", "--json")
    judged = json.loads(ran.out)["judged"]
    assert set(judged["families"]) == {"sharp", "c-defocus", "second-order"}
    for part in (judged["all"], judged["held_out"], *judged["families"].values()):
        assert (part["mae"], part["rmse"]) == (0, 0)
    assert judged["all"]["spearman"] == pytest.approx(1)


def test_a_sample_of_people(evaluate, faces):
    ran = evaluate("in", "--people", 2, "--photos", 1, *FEW, "--part", "fidelity", "--json")
    facts = json.loads(ran.out)
    assert (facts["material"]["faces"], facts["material"]["identities"]) == (2, 2)


def test_pictures_that_cannot_be_read_are_named(evaluate, faces):
    (faces / "p0" / "zz.png").write_bytes(b"no picture")
    ran = evaluate("in", "--model", "laplacian", "--part", "fidelity", "--family", "sharp")
    assert ran.code == 4
    assert "zz.png" in ran.err
    assert "sharp" in ran.out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--part", "speed"), 2, "--part speed: the parts are fidelity, original, leaks, utility"),
        (("--family", "c-motio"), 2, "no blur family is called 'c-motio'"),
        (("--model", "laplacia"), 2, "no scorer is called 'laplacia'; did you mean 'laplacian'"),
        (("--model", "laplacian", "--model", "laplacian"), 2, "laplacian is named twice"),
        (("--negatives", "x"), 2, "--negatives goes with --detector"),
        (("--detector", "x", "--model", "y"), 2, "it goes without the scorers' options"),
        (("--detector", "x", "--per-face", "2"), 2, "scorers' options, such as --per-face"),
        (("--detector", "x", "--device", "cpu"), 2, "scorers' options, such as --device"),
        (("--detector", "x", "--align-with", "y"), 2, "scorers' options, such as --align-with"),
        (
            ("--judge", "tiny"),
            2,
            "--judge tiny is the recogniser that labels: name another",
        ),
        (("--groups", "z(.)", "--part", "fidelity"), 2, "--groups z(.) fits no file name"),
        (("--out", "in/p0/girl_a_0.png"), 2, "is a file; choose another --out"),
        (("--out", "in/p0/girl_a_0.png/o"), 2, "girl_a_0.png is a file; choose another --out"),
        (("--part", "utility"), 3, "comparisons of different people"),
    ],
)
def test_errors_are_one_line(evaluate, faces, options, code, message):
    ran = evaluate("in", *options)
    assert ran.code == code, ran.err
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


def test_only_an_earlier_result_is_replaced(evaluate, faces, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "rows.csv").write_text("my own table")
    (mine / "results.json").write_text('{"keep": 1}')
    few = ("in", "--model", "laplacian", "--part", "fidelity", "--family", "sharp", "--quiet")
    for out in ("mine", "in"):
        ran = evaluate(*few, "--out", out)
        assert ran.code == 2
        assert ran.err == (
            f"blurgate: error: {out} is not empty and holds no result of blurgate evaluate; "
            "choose another --out\n"
        )
    assert (mine / "rows.csv").read_text() == "my own table"
    assert (mine / "results.json").read_text() == '{"keep": 1}'
    assert {path.name for path in faces.iterdir()} == {"p0", "p1", "p2"}
    for seed in (0, 1):
        assert evaluate(*few, "--out", "o", "--seed", seed).code == 0
        facts = json.loads((tmp_path / "o/results.json").read_text())
        assert facts["settings"]["seed"] == seed


def test_a_full_disk_leaves_the_tables_on_stdout(evaluate, faces, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("blurgate.evaluation.output.write_json", full)
    few = ("in", "--model", "laplacian", "--part", "fidelity", "--family", "sharp", "--quiet")
    ran = evaluate(*few, "--out", "o")
    assert (ran.code, "make room" in ran.err) == (5, True)
    assert "Degrees against labels" in ran.out


def test_nothing_stays_of_an_earlier_result(evaluate, faces, tmp_path):
    common = ("in", "--model", "laplacian", "--family", "sharp", "--quiet", "--out", "o")
    assert evaluate(*common, "--part", "fidelity").code == 0
    written = {path.name for path in (tmp_path / "o").iterdir()}
    assert {"rows.csv", "results.json", "evaluation.html"} <= written
    mine = {"notes.txt", "sharp.png"}
    for name in mine:
        (tmp_path / "o" / name).write_text("my own")
    assert evaluate(*common, "--part", "leaks").code == 0
    found = {path.name for path in (tmp_path / "o").iterdir()}
    drawn = {name for name in ("leaks.png",) if "reliability.png" in written}
    assert found == {"results.json", "evaluation.html"} | drawn | mine


def test_a_part_that_was_asked_for_is_not_left_out(evaluate, faces):
    ran = evaluate("in/p0", "--identity", "folder", "--part", "original")
    assert ran.code == 3
    assert "the original's protocol needs at least two people" in ran.err


def test_a_folder_without_faces(evaluate, tmp_path):
    (tmp_path / "none").mkdir()
    ran = evaluate("none")
    assert ran.code == 3
    assert "holds no pictures" in ran.err
