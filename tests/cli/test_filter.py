"""`blurgate filter` end to end on pictures and clips that the tests draw."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from blurgate import journal
from blurgate.errors import ConfigError
from blurgate.folders import check_not_replaced, prepare
from blurgate.io.sources import Source

HEADER = (
    "source,frame,time_s,face,track,x1,y1,x2,y2,det_score,face_px,blur_degree,decision,reason,crop"
)
SUMMARY_KEYS = [
    "version",
    "model",
    "detector",
    "threshold",
    "sources",
    "totals",
    "elapsed_s",
    "frames_per_s",
]
SOURCE_KEYS = [
    "source",
    "status",
    "frames",
    "frames_failed",
    "faces",
    "kept",
    "review",
    "rejected",
    "error",
]


def picture(marker, path, *, sharp=True, n=1, side=120):
    image = np.full((240, 400, 3), 60, np.uint8)
    for i in range(n):
        marker.draw(image, 10 + 130 * i, 40, side, sharp=sharp, seed=i)
    assert cv2.imwrite(str(path), image)
    return path


def clip(marker, path, n_frames=30):
    """Frames 0 to 9 sharp, 10 to 19 blurred, the rest without a face; 12.5 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 400, 240, "yuv420p"
        for i in range(n_frames):
            image = np.full((240, 400, 3), 60, np.uint8)
            if i < 20:
                marker.draw(image, 20 + i, 40, 140, sharp=i < 10)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = 2 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def rows(folder):
    with (folder / "faces.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def filter_(run, marker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run_filter(*arguments):
        return run(
            "filter", *arguments, "--detector", "marker", "--model", "laplacian", "--threshold", 0.4
        )

    return run_filter


def test_a_clip_becomes_a_folder(filter_, marker, tmp_path):
    source = clip(marker, tmp_path / "walk.mp4")
    ran = filter_("walk.mp4")
    assert (ran.code, ran.out) == (0, "")
    folder = tmp_path / "walk.blurgate"
    assert (folder / "faces.csv").read_text().splitlines()[0] == HEADER
    found = rows(folder)
    assert [int(r["frame"]) for r in found] == list(range(20))
    # 25 per second with pts 0, 2, 4, ...: every frame lasts 80 ms
    np.testing.assert_allclose([float(r["time_s"]) for r in found], np.arange(20) * 0.08)
    assert [r["decision"] for r in found] == ["keep"] * 10 + ["reject"] * 10
    assert [r["reason"] for r in found] == [""] * 10 + ["blur"] * 10
    assert all(r["source"] == "walk.mp4" and r["track"] == "1" for r in found)
    kept = sorted(p.relative_to(folder).as_posix() for p in (folder / "kept").iterdir())
    assert kept == [r["crop"] for r in found[:10]]
    assert all(r["crop"] == "" for r in found[10:])
    assert all(cv2.imread(str(folder / name)).shape == (112, 112, 3) for name in kept)
    assert not (folder / "rejected").exists()
    report = summary(folder)
    assert list(report) == SUMMARY_KEYS
    (entry,) = report["sources"]
    assert list(entry) == SOURCE_KEYS
    assert entry == {
        "source": "walk.mp4",
        "status": "ok",
        "frames": 30,
        "frames_failed": 0,
        "faces": 20,
        "kept": 10,
        "review": 0,
        "rejected": 10,
        "error": "",
    }
    assert report["totals"] == {key: entry[key] for key in SOURCE_KEYS[2:-1]}
    assert report["model"] == {"name": "laplacian", "sha256": ""}
    assert source.exists()


def test_numbers_have_six_significant_digits(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    filter_("a.png")
    (row,) = rows(tmp_path / "a.blurgate")
    for name in ("x1", "det_score", "face_px", "blur_degree"):
        assert row[name] == f"{float(row[name]):.6g}"
    assert (row["frame"], row["time_s"]) == ("0", "")


def test_review_keep_rejected_and_min_face(filter_, marker, tmp_path):
    picture(marker, tmp_path / "s.png", sharp=True)
    picture(marker, tmp_path / "t.png", sharp=True, side=40)
    picture(marker, tmp_path / "u.png", sharp=False)
    ran = filter_(
        "s.png", "t.png", "u.png", "--keep-rejected", "--min-face", 100, "--review", 0.6,
        "--out", "o",
    )  # fmt: skip
    assert ran.code == 0
    decisions = [(r["decision"], r["reason"]) for r in rows(tmp_path / "o")]
    assert decisions == [("review", "blur"), ("reject", "too_small"), ("review", "blur")]
    files = {p.parent.name for p in (tmp_path / "o").glob("*/*.png")}
    assert files == {"review", "rejected"}
    assert summary(tmp_path / "o")["totals"]["review"] == 2


@pytest.mark.parametrize("style", ["loose", "none"])
def test_crop_styles(filter_, marker, tmp_path, style):
    picture(marker, tmp_path / "a.png")
    assert filter_("a.png", "--crops", style).code == 0
    (row,) = rows(tmp_path / "a.blurgate")
    if style == "none":
        assert row["crop"] == ""
        assert not (tmp_path / "a.blurgate/kept").exists()
    else:
        crop = cv2.imread(str(tmp_path / "a.blurgate" / row["crop"]))
        margin = 36  # 0.3 of the side, and less on the left, where the picture ends
        assert crop.shape == (margin + 120 + margin, 10 + 120 + margin, 3)


def test_bad_files_among_good_ones(filter_, marker, tmp_path):
    (tmp_path / "in").mkdir()
    picture(marker, tmp_path / "in/a.png")
    (tmp_path / "in/b.jpg").write_bytes(b"not a picture")
    picture(marker, tmp_path / "in/c.png")
    ran = filter_("in")
    assert ran.code == 4
    assert [line for line in ran.err.splitlines() if "b.jpg" in line]
    report = summary(tmp_path / "in.blurgate")
    assert [s["status"] for s in report["sources"]] == ["ok", "failed", "ok"]
    assert "b.jpg" in report["sources"][1]["error"]
    assert report["totals"]["frames_failed"] == 1
    assert len(rows(tmp_path / "in.blurgate")) == 2


def test_nothing_but_bad_files(filter_, tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    assert filter_("b.jpg").code == 3
    assert summary(tmp_path / "b.blurgate")["sources"][0]["status"] == "failed"


def test_a_missing_path_is_named(filter_, tmp_path):
    ran = filter_("nowhere.mp4")
    assert ran.code == 3
    assert ran.err.startswith("blurgate: error: ")
    assert "nowhere.mp4" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_usage_errors(run, filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    assert run("filter").code == 2
    for wrong in (("--no-such-option",), ("--best-shot", 0), ("--every", 0), ("--crops", "foo")):
        ran = run("filter", "a.png", *wrong)  # as docs/cli.md says of these
        first, *_, last = ran.err.splitlines()
        assert (ran.code, ran.out, first[:6], last[:6]) == (2, "", "Usage:", "Error:")
    ran = run("filter", "a.png", "--detector", "markr")
    assert ran.code == 2
    assert "did you mean 'marker'?" in ran.err
    ran = run("filter", "a.png", "--detector", "marker", "--table", "xls")
    assert (ran.code, "no sink is called 'xls'" in ran.err) == (2, True)
    ran = run("filter", "a.png", "--detector", "marker", "--threshold", 7)
    assert (ran.code, "threshold must lie in [0, 1]" in ran.err) == (2, True)
    assert filter_("a.png", "--resume", "--overwrite").code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_what_failed_is_named_by_the_run_that_resumes_too(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    said = "blurgate: b.png is not a picture of a known format, or its header is damaged\n"
    ran = [filter_("a.png", "b.png", "--out", "o", *how, "--quiet") for how in ((), ["--resume"])]
    assert [(one.code, one.err) for one in ran] == [(4, said)] * 2


def test_a_used_folder_needs_a_word(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    assert filter_("a.png").code == 0
    before = (tmp_path / "a.blurgate/faces.csv").read_bytes()
    ran = filter_("a.png")
    assert ran.code == 2
    assert "--resume to continue it, --overwrite to begin anew" in ran.err
    assert filter_("a.png", "--overwrite").code == 0
    assert filter_("a.png", "--resume").code == 0
    assert (tmp_path / "a.blurgate/faces.csv").read_bytes() == before
    ran = filter_("a.png", "--resume", "--min-face", 5)
    assert (ran.code, "begun with min-face = 0.0, now it is 5.0" in ran.err) == (2, True)
    picture(marker, tmp_path / "b.png")
    ran = filter_("b.png", "--resume", "--out", "a.blurgate")
    assert (ran.code, "the sources have changed, 'a.png' is missing" in ran.err) == (2, True)


@pytest.mark.parametrize("table", ["csv", "parquet"])
@pytest.mark.parametrize("shard", [(), ("--shard", "1/1")])
def test_a_refused_resume_changes_nothing(filter_, marker, tmp_path, table, shard):
    if table == "parquet":
        pytest.importorskip("pyarrow")
    for name in "ab":
        picture(marker, tmp_path / f"{name}.png")
    options = ("--table", table, "--out", "o", *shard)
    assert filter_("a.png", *options).code == 0

    def files():
        return {p: p.read_bytes() for p in (tmp_path / "o").rglob("*.*") if p.name != "run.lock"}

    before = files()
    ran = filter_("b.png", "--resume", *options)
    assert (ran.code, "the sources have changed, 'a.png' is missing" in ran.err) == (2, True)
    assert files() == before


def test_results_are_not_taken_for_input(filter_, marker, tmp_path, caplog):
    for name in "abc":
        picture(marker, tmp_path / f"{name}.png")
    assert filter_(".").code == 0
    (results,) = tmp_path.glob("*.blurgate")
    first = (results / "faces.csv").read_bytes()
    assert len(rows(results)) == 3
    ran = filter_(".", "--resume")
    assert ran.code == 0
    assert "left out: results of blurgate filter" in caplog.text
    assert filter_(".", "--overwrite").code == 0
    assert (results / "faces.csv").read_bytes() == first
    assert filter_(results.name, "--out", "again").code == 0  # unless it is named
    assert len(summary(tmp_path / "again")["sources"]) == 3


def test_what_would_be_deleted_is_no_source(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    assert filter_("a.png", "--out", "o").code == 0
    ran = filter_("o/kept", "--out", "o", "--overwrite")
    assert (ran.code, "is one of the results in o, which --overwrite deletes" in ran.err) == (
        2,
        True,
    )
    assert len(list((tmp_path / "o/kept").iterdir())) == 1
    assert filter_("a.png", "--out", "o", "--overwrite").code == 0


class KilledError(BaseException):
    """Stands for a signal that nobody can catch."""


@pytest.mark.parametrize("at", [0, 1, 5, 10, 11, 12, 13, 14])
def test_killed_while_it_overwrites(filter_, marker, tmp_path, monkeypatch, at):
    """Killed before its step number `at`: nobody then takes what is left for results."""
    for name in "ab":
        picture(marker, tmp_path / f"{name}.png")
    assert filter_("a.png", "b.png", "--out", "o", "--annotate").code == 0
    folder = tmp_path / "o"
    (folder / "mine.txt").write_text("")  # results are mixed with what is not ours
    steps = 0

    def mortal(step):
        def wrapped(*args, **more):
            nonlocal steps
            steps += 1
            if steps == at + 1:
                raise KilledError
            return step(*args, **more)

        return wrapped

    with monkeypatch.context() as patch, suppress(KilledError):
        patch.setattr("shutil.rmtree", mortal(shutil.rmtree))
        patch.setattr("pathlib.Path.unlink", mortal(Path.unlink))
        filter_("b.png", "--out", "o", "--overwrite")
    ran = filter_("a.png", "b.png", "--out", "o", "--annotate", "--resume")
    names = [r["crop"] for r in rows(folder)] if ran.code == 0 else []
    assert all((folder / name).is_file() for name in names), "rows without their pictures"
    assert ran.code in (0, 2), ran.err
    if ran.code:
        assert "use --overwrite" in ran.err
    assert filter_("b.png", "--out", "o", "--overwrite").code == 0
    (row,) = rows(folder)
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*.png")] == [row["crop"]]
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "faces.csv", "journal.jsonl", "mine.txt", "summary.json",
    ]  # fmt: skip


def test_overwriting_deletes_tables_of_ours_only(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    folder = tmp_path / "k"
    assert filter_("a.png", "--out", "k", "--table", "jsonl").code == 0
    clip(marker, folder / "faces.mp4", 3)
    (folder / "faces.csv.gz").write_bytes(b"mine")
    beside = [f"faces.parquet{end}" for end in (".jsonl.part", ".jsonl.part.tmp", ".tmp")]
    for name in ("faces.csv", "faces.parquet", *beside):
        (folder / name).write_bytes(b"of an earlier run")
    assert filter_("k/faces.mp4", "--out", "k", "--overwrite").code == 0
    assert sorted(p.name for p in folder.glob("faces.*")) == [
        "faces.csv", "faces.csv.gz", "faces.mp4",
    ]  # fmt: skip
    assert {r["source"] for r in rows(folder)} == {"k/faces.mp4"}
    ran = filter_("k/faces.csv", "--out", "k", "--overwrite")
    assert (ran.code, "k/faces.csv is one of the results in k" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "gone"),
    [("mine", True), ("../out", False), ("csv/../../out", False), (5, False), (None, False)],
)
def test_the_table_of_a_plugin_is_overwritten_too(tmp_path, name, gone):
    """The journal tells its format; what it tells does not lead out of the folder."""
    folder = tmp_path / "k"
    folder.mkdir()
    mine, part = folder / "faces.mine", folder / "faces.mine.tmp"
    for path in (mine, part, tmp_path / "out"):
        path.write_text("")
    (folder / "journal.jsonl").write_text(json.dumps({"settings": {"table": name}}) + "\n")
    source = Source(str(mine), "video")
    if gone:
        with pytest.raises(ConfigError, match="is one of the results"):
            check_not_replaced([source], folder)
    else:
        check_not_replaced([source], folder)
    prepare(folder, resume=False, overwrite=True)
    assert [path.exists() for path in (mine, part)] == [not gone] * 2
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "no journal\n", "[]\n", '{"settings": 5}\n', "\xff\n"])
def test_a_damaged_journal_can_be_overwritten(filter_, marker, tmp_path, text):
    picture(marker, tmp_path / "a.png")
    assert filter_("a.png", "--out", "o").code == 0
    (tmp_path / "o/journal.jsonl").write_bytes(text.encode("latin-1"))
    ran = filter_("a.png", "--out", "o", "--resume")
    assert (ran.code, "--overwrite" in ran.err) == (2, True)
    assert filter_("a.png", "--out", "o", "--overwrite").code == 0
    assert len(rows(tmp_path / "o")) == 1


def test_a_strangers_folder_is_left_alone(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    (tmp_path / "mine/kept").mkdir(parents=True)
    (tmp_path / "mine/kept/precious.png").write_bytes(b"x")
    for word in ("--overwrite", "--resume"):
        ran = filter_("a.png", "--out", "mine", word)
        assert (ran.code, "holds no results of blurgate" in ran.err) == (2, True)
    assert (tmp_path / "mine/kept/precious.png").exists()
    (tmp_path / "file").write_text("")
    for out in ("file", "file/below/o"):
        ran = filter_("a.png", "--out", out)
        assert (ran.code, "file is a file; choose another --out" in ran.err) == (2, True)
    ran = filter_("a.png", "--out", "")  # an unset variable of a script: here, and not the default
    assert (ran.code, "holds no results of blurgate" in ran.err) == (2, True)


def test_a_folder_that_cannot_be_listed_is_named_and_fails(
    filter_, run, marker, tmp_path, monkeypatch
):
    (tmp_path / "in/shut").mkdir(parents=True)
    picture(marker, tmp_path / "in/a.png")
    picture(marker, tmp_path / "in/shut/b.png")
    scandir = os.scandir

    def guarded(path="."):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    ran = filter_("in", "--out", "o")
    assert ran.code == 4
    name = str(Path("in/shut"))
    assert f"blurgate: {name} cannot be read as a picture: Permission denied\n" in ran.err
    sources = json.loads((tmp_path / "o/summary.json").read_text())["sources"]
    assert [(s["source"], s["status"]) for s in sources] == [
        (str(Path("in/a.png")), "ok"),
        (name, "failed"),
    ]
    ran = run("score", "in", "--detector", "marker", "--model", "laplacian")
    assert (ran.code, f"{name},,,,,,,,,unreadable" in ran.out) == (4, True)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_nowhere_is_no_folder(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    (tmp_path / "link").symlink_to("nowhere")
    ran = filter_("a.png", "--out", "link")
    assert ran.code == 2
    expected = "link is a link that leads nowhere; choose another --out"
    assert ran.err == f"blurgate: error: {expected}\n"
    assert not (tmp_path / "nowhere").exists()


def test_stdin_json_and_tables(filter_, marker, tmp_path, monkeypatch):
    import io

    picture(marker, tmp_path / "a.png", n=2)
    monkeypatch.setattr("sys.stdin", io.StringIO("a.png\n"))
    ran = filter_("-", "--json", "--table", "jsonl")
    assert ran.code == 0
    assert json.loads(ran.out)["totals"]["faces"] == 2
    lines = (tmp_path / "stdin.blurgate/faces.jsonl").read_text().splitlines()
    assert [json.loads(line)["face"] for line in lines] == [0, 1]
    assert ",".join(json.loads(lines[0])) == HEADER


def test_dry_run_writes_nothing(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    ran = filter_("a.png", "--dry-run")
    assert ran.code == 0
    assert "detector   marker" in ran.out
    assert "threshold  0.4" in ran.out
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_dry_run_as_json(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    ran = filter_("a.png", "--dry-run", "--json", "--review", 0.1, "--out", "o")
    assert (ran.code, ran.err) == (0, "")
    plan = json.loads(ran.out)
    assert plan["sources"] == {"image": 1}
    assert plan["detector"] == {"name": "marker", "sha256": ""}
    assert (plan["threshold"], plan["review"], plan["out"]) == (0.4, 0.1, "o")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_dry_run_counts_its_part(filter_, marker, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(5):
        picture(marker, tmp_path / f"in/{i}.png")
    for part, count in (("1/3", 2), ("2/3", 1), ("3/3", 2)):
        ran = filter_("in", "--shard", part, "--dry-run")
        assert (ran.code, ran.out.splitlines()[0]) == (0, f"sources    {count} ({count} image)")
        assert filter_("in", "--shard", part, "--out", part[0]).code == 0
        assert len(summary(tmp_path / part[0])["sources"]) == count


def test_letters_that_stdout_lacks_are_no_defect(marker, marker_environment, tmp_path):
    """On Windows a pipe is written in a code page."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 60, 3), 60, np.uint8))
    command = [sys.executable, "-m", "blurgate", "filter", "a.png", "--dry-run", "--out", "日本",
               "--detector", "marker", "--model", "laplacian", "--threshold", "0.4"]  # fmt: skip
    environment = {**marker_environment, "PYTHONIOENCODING": "cp1252"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert rb"output     \u65e5\u672c (faces.csv" in ran.stdout


def test_a_dry_run_refuses_the_folders_that_a_run_refuses(filter_, marker, tmp_path):
    picture(marker, tmp_path / "a.png")
    assert filter_("a.png", "--out", "used").code == 0
    shutil.copytree(tmp_path / "used", tmp_path / "emptied")
    notes = tmp_path / "emptied/journal.jsonl"
    head, *rest = notes.read_text().splitlines()
    head = json.dumps({**json.loads(head), "emptying": True})
    notes.write_text("\n".join([head, *rest, ""]))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/letter.txt").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()

    def files():
        # A run's lock may be left behind, and means nothing.
        found = (p for p in tmp_path.rglob("*") if p.name != "run.lock")
        return {p: p.read_bytes() if p.is_file() else b"" for p in found}

    refused = [
        ("used",), ("theirs",), ("theirs", "--resume"), ("theirs", "--overwrite"), ("a.png",),
        ("a.png", "--overwrite"), ("link",), ("emptied",), ("emptied", "--resume"),
        ("used", "--resume", "--min-face", 5),
    ]  # fmt: skip
    before = files()
    for out in refused:
        dry = filter_("a.png", "--dry-run", "--out", *out)
        wet = filter_("a.png", "--out", *out)
        assert (dry.code, dry.out, dry.err) == (2, "", wet.err), out
        assert wet.code == 2
    for out in (
        ("used", "--resume"), ("used", "--overwrite"), ("emptied", "--overwrite"), ("empty",),
        ("new",), ("new", "--resume"),
    ):  # fmt: skip
        ran = filter_("a.png", "--dry-run", "--out", *out)
        assert (ran.code, ran.err) == (0, ""), out
    assert files() == before


def test_results_do_not_depend_on_workers_or_every(filter_, marker, tmp_path):
    clip(marker, tmp_path / "w.mp4")
    exact = "--detect-every", 1
    for way, more in (("f", ()), ("w", exact)):
        for workers in (1, 3):
            to = f"{way}{workers}"
            assert filter_("w.mp4", "--workers", workers, *more, "--out", to).code == 0
        one, three = ((tmp_path / f"{way}{w}/faces.csv").read_bytes() for w in (1, 3))
        assert one == three
    assert filter_("w.mp4", "--every", 4, *exact, "--out", "e").code == 0
    whole, some = rows(tmp_path / "w1"), rows(tmp_path / "e")
    assert some == [{**row, "crop": row["crop"]} for row in whole if int(row["frame"]) % 4 == 0]
    assert summary(tmp_path / "e")["totals"]["frames"] == 30


@pytest.mark.parametrize("at", range(2, 7))
def test_a_signal_while_the_journal_is_written(filter_, marker, tmp_path, monkeypatch, at):
    for name in "abc":
        picture(marker, tmp_path / f"{name}.png")
    sync, calls = os.fsync, []

    def interrupted(handle):
        calls.append(handle)
        if len(calls) == at:  # after the journal's beginning: table, journal, table, journal, ...
            raise KeyboardInterrupt
        sync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "SECONDS_BETWEEN_SYNCS", 0.0)
        patched.setattr(os, "fsync", interrupted)
        assert filter_("a.png", "b.png", "c.png", "--out", "o").code == 130
    done = [(one["source"], one["status"]) for one in summary(tmp_path / "o")["sources"]]
    assert done == [("a.png", "ok"), ("b.png", "ok"), ("c.png", "ok")][: len(done)]
    assert filter_("a.png", "b.png", "c.png", "--out", "o", "--resume").code == 0
    assert [row["source"] for row in rows(tmp_path / "o")] == ["a.png", "b.png", "c.png"]
    assert summary(tmp_path / "o")["totals"]["faces"] == 3


@pytest.mark.parametrize("key", ["faces", "status", "reasons", "degrees"])
def test_a_source_of_which_the_journal_lacks_something_is_made_again(
    filter_, marker, tmp_path, key
):
    for name in "ab":
        picture(marker, tmp_path / f"{name}.png")
    assert filter_("a.png", "b.png", "--out", "o").code == 0
    table = (tmp_path / "o/faces.csv").read_bytes()
    notes = tmp_path / "o/journal.jsonl"
    head, line, end = notes.read_text().splitlines()
    line = json.loads(line)
    del line["done"][1][key]
    notes.write_text("\n".join([head, json.dumps(line), end, ""]))
    assert filter_("a.png", "b.png", "--out", "o", "--resume").code == 0
    assert (tmp_path / "o/faces.csv").read_bytes() == table
    assert summary(tmp_path / "o")["totals"]["faces"] == 2
    assert len(notes.read_text().splitlines()) == 3


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_is_valid_and_can_be_resumed(marker, marker_environment, tmp_path, how):
    (tmp_path / "in").mkdir()
    for i in range(300):
        picture(marker, tmp_path / f"in/{i:03d}.png", sharp=i % 3 > 0)
    command = [
        sys.executable, "-m", "blurgate", "filter", "in", "--detector", "marker", "--model",
        "laplacian", "--threshold", "0.4", "--workers", "2",
    ]  # fmt: skip

    def start(*more):
        return subprocess.Popen(
            [*command, *more],
            cwd=tmp_path,
            env=marker_environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    whole = start("--out", "whole")
    _, err = whole.communicate(timeout=60)
    assert whole.returncode == 0, err
    running = start("--out", "stopped")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("stopped/kept/*[0-9].png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(how)
    _, err = running.communicate(timeout=30)
    stopped = tmp_path / "stopped"
    assert len(list(stopped.glob("kept/*.png"))) < 200, "it was over before it could be stopped"
    for path in stopped.glob("kept/*.png"):
        assert cv2.imread(str(path)).shape == (112, 112, 3)
    if how is signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 130, err
        done = summary(stopped)["sources"]
        assert all(entry["status"] == "ok" for entry in done[:-1])
        assert rows(stopped)[-1]["source"] <= f"in/{len(done):03d}.png"
    resumed = start("--out", "stopped", "--resume")
    _, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert (stopped / "faces.csv").read_bytes() == (tmp_path / "whole/faces.csv").read_bytes()
    names = [sorted(p.name for p in (f / "kept").iterdir()) for f in (stopped, tmp_path / "whole")]
    assert names[0] == names[1]
    assert summary(stopped)["totals"] == summary(tmp_path / "whole")["totals"]
