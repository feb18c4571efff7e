"""`blurgate score` and `merge` end to end on pictures that the tests draw."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.sharding import Shard

HEADER = "file,face,x1,y1,x2,y2,det_score,face_px,blur_degree,status"


@pytest.fixture
def score(run, marker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run_score(*arguments):
        return run("score", *arguments, "--detector", "marker", "--model", "laplacian")

    return run_score


def make_folder(marker, folder, n=12, broken=()):
    folder.mkdir()
    for i in range(n):
        path = folder / f"{i:03d}.png"
        if i in broken:
            path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
            continue
        image = np.full((160, 320, 3), 60, np.uint8)
        for face in range(i % 3):
            marker.draw(image, 10 + 150 * face, 20, 120, sharp=i % 2 == 0, seed=i)
        assert cv2.imwrite(str(path), image)


def parse(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_for_every_face_and_every_file_without(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", broken=[4])
    ran = score("in", "--csv", "out.csv")
    assert ran.code == 4
    assert "004.png" in ran.err
    text = (tmp_path / "out.csv").read_text()
    assert text.splitlines()[0] == HEADER
    found = parse(text)
    expected = [(f"in/{i:03d}.png", i) for i in range(12)]
    assert [r["file"] for r in found] == [
        file for file, i in expected for _ in range(1 if i == 4 else max(1, i % 3))
    ]
    for row in found:
        i = int(row["file"][3:6])
        assert row["status"] == ("unreadable" if i == 4 else "ok" if i % 3 else "no_face")
        if row["status"] == "ok":
            assert (float(row["blur_degree"]) < 0.4) == (i % 2 == 0)
            assert float(row["face_px"]) == 120
        else:
            assert [row[name] for name in HEADER.split(",")[1:-1]] == [""] * 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.csv"]


def test_patterns_are_resolved_by_the_command_on_windows_too(score, marker, tmp_path, monkeypatch):
    class Windows:
        name = "nt"

        def __getattr__(self, name):
            return getattr(os, name)

    monkeypatch.setattr("typer.core.os", Windows())  # there it resolves patterns itself
    make_folder(marker, tmp_path / "in", n=3)
    (tmp_path / "in/000.png").rename(tmp_path / "clip1.png")
    (tmp_path / "in/001.png").rename(tmp_path / "clip[1].png")
    assert [row["file"] for row in parse(score("clip[1].png").out)] == ["clip[1].png"]
    (tmp_path / "clip1.png").rename(tmp_path / "in/a.png")
    (tmp_path / "in/journal.jsonl").write_text("{}")  # as results of filter have it
    (tmp_path / "all").mkdir()
    (tmp_path / "in/002.png").rename(tmp_path / "all/b.png")
    (tmp_path / "in").rename(tmp_path / "all/in")
    ran = score("all/**", "clip?1?.png")
    assert {row["file"] for row in parse(ran.out)} == {"all/b.png", "clip[1].png"}


def test_nothing_that_a_list_names_is_lost(score, marker, tmp_path, monkeypatch):
    """A picture, a missing file without an ending, a video, and a folder with another video."""
    make_folder(marker, tmp_path / "in", n=2)
    (tmp_path / "clip.mp4").write_bytes(b"video")
    (tmp_path / "in/other.mp4").write_bytes(b"video")
    listed = "in/001.png\nlost_without_ending\nclip.mp4\nin\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    ran = score("-", "--csv", "out.csv")
    assert ran.code == 4
    found = [(row["file"], row["status"]) for row in parse((tmp_path / "out.csv").read_text())]
    assert found == [
        ("clip.mp4", "unreadable"),
        ("in/000.png", "no_face"),
        ("in/001.png", "ok"),
        ("lost_without_ending", "unreadable"),
    ]


def test_lists_are_utf8_whatever_the_code_page_of_a_pipe_is(marker, marker_environment, tmp_path):
    """On Windows that is cp1252 or the like."""
    make_folder(marker, tmp_path / "in", n=2)
    (tmp_path / "in/001.png").rename(tmp_path / "in/日本.png")
    environment = {**marker_environment, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "blurgate", "score", "-", "--csv", "o.csv",
               "--detector", "marker", "--model", "laplacian"]  # fmt: skip
    listed = "\ufeffin/日本.png\nin/000.png\n".encode()
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, input=listed, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = parse((tmp_path / "o.csv").read_text(encoding="utf-8"))
    assert [row["file"] for row in found] == ["in/000.png", "in/日本.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have names of Unicode only")
def test_names_on_standard_input_may_be_any_bytes(marker, marker_environment, tmp_path):
    make_folder(marker, tmp_path / "in", n=2)
    name = b"in/caf\xe9.png"
    (tmp_path / "in/001.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    environment = {**marker_environment, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "blurgate", "score", "-", "--csv", "o.csv",
               "--detector", "marker", "--model", "laplacian"]  # fmt: skip
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, input=name + b"\n", capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert len((tmp_path / "o.csv").read_bytes().splitlines()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows have names of Unicode only")
@pytest.mark.parametrize("table", ["csv", "jsonl", "parquet"])
def test_names_that_are_no_utf8_are_resumed_and_joined(score, run, marker, tmp_path, table):
    if table == "parquet":
        pytest.importorskip("pyarrow")
    make_folder(marker, tmp_path / "in", n=3)
    for i, name in enumerate(("Ren\udce9.png", "Ren\udce8.png", "\uff21.png")):
        (tmp_path / f"in/{i:03d}.png").rename(tmp_path / "in" / name)
    options = ("in", f"--{table}")
    ran = [score(*options, f"all.{table}"), score(*options, f"all.{table}", "--resume")]
    assert [one.code for one in ran] == [0, 0], ran[-1].err
    assert f"all.{table} is complete; nothing was left" in ran[-1].err
    parts = [f"{i}.{table}" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        assert score(*options, part, "--shard", f"{i}/3").code == 0
    ran = run("merge", *parts, "--out", f"joined.{table}")
    assert ran.code == 0, ran.err
    assert (tmp_path / f"joined.{table}").read_bytes() == (tmp_path / f"all.{table}").read_bytes()


def test_a_folder_that_is_left_out_is_named_on_stderr(marker, marker_environment, tmp_path):
    make_folder(marker, tmp_path / "in", n=2)
    make_folder(marker, tmp_path / "in/old", n=2)
    (tmp_path / "in/old/journal.jsonl").write_text("")
    ran = subprocess.run(
        [sys.executable, "-m", "blurgate", "score", "in", "--detector", "marker", "--model",
         "laplacian"],
        cwd=tmp_path, env=marker_environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 3
    warning, summary = ran.stderr.splitlines()
    assert f"{Path('in/old')} is left out: results of blurgate filter" in warning
    assert summary.startswith("2 pictures")


def test_stdout_is_the_default_and_holds_nothing_else(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", n=3)
    ran = score("in")
    assert ran.code == 0
    assert ran.out == score("in", "--csv", "-", "--quiet").out
    assert len(parse(ran.out)) == 4
    lines = score("in", "--jsonl", "-").out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["no_face", "ok", "ok", "ok"]
    assert ",".join(json.loads(lines[0])) == HEADER


def test_parquet(score, marker, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    make_folder(marker, tmp_path / "in", n=3)
    assert score("in", "--parquet", "o.parquet").code == 0
    table = pq.read_table(tmp_path / "o.parquet")
    assert ",".join(table.column_names) == HEADER
    assert table.column("face").to_pylist() == [None, 0, 0, 1]


def test_only_a_table_is_replaced(score, marker, tmp_path):
    """A shell that expands `--csv *.png` gives the first photo to --csv."""
    make_folder(marker, tmp_path / "in", n=3)
    (tmp_path / "notes.json").write_text('{"a": 1}\n')
    (tmp_path / "x.md").write_text("# Words\n")
    for form, name in [
        ("csv", "in/000.png"),
        ("jsonl", "in/000.png"),
        ("jsonl", "notes.json"),
        ("csv", "x.md"),
    ]:
        before = (tmp_path / name).read_bytes()
        ran = score("in/001.png", f"--{form}", name)
        assert (ran.code, ran.out) == (2, "")
        expected = f"{Path(name)} is not a table of `blurgate score`; choose another --{form}"
        assert ran.err == f"blurgate: error: {expected}\n"
        assert (tmp_path / name).read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "notes.json", "x.md"]


def test_a_table_is_replaced_whatever_its_format(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", n=3)
    (tmp_path / "o").write_text("")
    for form in ("csv", "jsonl", "csv"):
        assert score("in", f"--{form}", "o").code == 0
    assert len(parse((tmp_path / "o").read_text())) == 4
    empty = next(i for i in (1, 2) if "in/000.png" not in Shard(i, 2))
    for _ in range(2):  # a part without pictures has a head only
        assert score("in/000.png", "--csv", "o", "--shard", f"{empty}/2").code == 0
    assert (tmp_path / "o").read_text() == HEADER + "\n"


def test_a_table_of_parquet_is_replaced_and_another_is_not(score, marker, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    make_folder(marker, tmp_path / "in", n=3)
    for _ in range(2):
        assert score("in", "--parquet", "o").code == 0
    pq.write_table(pa.table({"a": [1]}), tmp_path / "o")
    before = (tmp_path / "o").read_bytes()
    ran = score("in", "--parquet", "o")
    assert (ran.code, "o is not a table of `blurgate score`" in ran.err) == (2, True)
    assert (tmp_path / "o").read_bytes() == before


def test_the_folder_of_a_table_is_made_and_a_folder_is_no_table(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", n=2)
    assert score("in", "--csv", "new/folder/t.csv").code == 0
    assert len(parse((tmp_path / "new/folder/t.csv").read_text())) == 2
    ran = score("in", "--csv", "new")
    assert (ran.code, "new is not a regular file; choose another --csv" in ran.err) == (2, True)
    ran = score("in", "--csv", "new/folder/t.csv/u.csv")
    assert (ran.code, "t.csv is a file; choose another --csv" in ran.err) == (2, True)
    assert not (tmp_path / "new.journal").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_table(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", n=2)
    os.mkfifo(tmp_path / "pipe")
    ran = score("in", "--csv", "pipe")
    assert (ran.code, "pipe is not a regular file; choose another --csv" in ran.err) == (2, True)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["in", "pipe"]


def test_aligned_crops_are_scored_as_they_are(run, tmp_path, monkeypatch):
    from blurgate import blur_degree

    monkeypatch.chdir(tmp_path)
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    soft = cv2.GaussianBlur(crop, (0, 0), 3)
    cv2.imwrite("a.png", crop)
    cv2.imwrite("b.png", soft)
    ran = run("score", "b.png", "a.png", "a.png", "--aligned", "--model", "laplacian")
    assert ran.code == 0  # no detector is needed
    rows = parse(ran.out)
    assert [r["file"] for r in rows] == ["a.png", "b.png"]
    degrees = blur_degree(np.stack([crop, soft]), model="laplacian")
    np.testing.assert_allclose([float(r["blur_degree"]) for r in rows], degrees, rtol=1e-5)
    assert all(r["x1"] == r["det_score"] == "" and r["face_px"] == "112" for r in rows)


def test_a_thousand_faces_with_three_broken_files(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (14, 14, 3), np.uint8) for _ in range(10)]
    encoded = [cv2.imencode(".png", cv2.resize(s, (112, 112)))[1].tobytes() for s in small]
    broken = {
        3: b"",
        500: encoded[0][: len(encoded[0]) // 2],
        998: b"GIF89a, or so it says",
    }
    for i in range(1000):
        (tmp_path / f"faces/{i:04d}.png").write_bytes(broken.get(i, encoded[i % 10]))
    ran = run("score", "faces", "--aligned", "--model", "laplacian", "--csv", "out.csv")
    assert ran.code == 4
    rows = parse((tmp_path / "out.csv").read_text())
    assert [row["file"] for row in rows] == [f"faces/{i:04d}.png" for i in range(1000)]
    assert [i for i, row in enumerate(rows) if row["status"] == "unreadable"] == [3, 500, 998]
    assert sum(row["status"] == "ok" for row in rows) == 997
    assert "997, no face in 0, 3 unreadable" in ran.err


def test_the_table_does_not_depend_on_workers_or_shards(score, marker, run, tmp_path):
    make_folder(marker, tmp_path / "in", n=30, broken=[7])
    assert score("in", "--csv", "1.csv", "--workers", 1).code == 4
    assert score("in", "--csv", "4.csv", "--workers", 4).code == 4
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "4.csv").read_bytes()
    for i in (1, 2, 3):
        assert score("in", "--csv", f"part{i}.csv", "--shard", f"{i}/3").code in {0, 4}
    assert run("merge", "part2.csv", "part1.csv", "part3.csv", "--out", "all.csv").code == 0
    assert run("merge", "part?.csv", "--out", "again.csv").code == 0  # as on Windows
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "all.csv").read_bytes()
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()


def test_videos_and_missing_files(score, tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"")
    ran = score("v.mp4")
    assert (ran.code, "use: blurgate filter" in ran.err) == (3, True)
    ran = score("nowhere")
    assert (ran.code, "nowhere" in ran.err) == (3, True)
    (tmp_path / "x.png").write_bytes(b"")
    assert score("x.png").code == 3
    ran = score("x.png", "--csv", "a.csv", "--jsonl", "a.jsonl")
    assert (ran.code, "choose one of" in ran.err) == (2, True)
    ran = score("x.png", "--resume")
    assert (ran.code, "stdout cannot be resumed" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("rtsp://u:secret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("=v.mp4", f".{os.sep}=v.mp4"),
    ],
)
def test_a_video_or_stream_that_is_named_is_refused(score, marker, tmp_path, named, said):
    """Also beside pictures, and whatever its name becomes."""
    make_folder(marker, tmp_path / "in", n=2)
    (tmp_path / "=v.mp4").write_bytes(b"")
    ran = score("in", named)
    assert (ran.code, ran.out) == (3, "")
    expected = f"{said} is a video or stream and score takes pictures; use: blurgate filter"
    assert ran.err == f"blurgate: error: {expected}\n"


def test_a_folder_may_hold_videos_beside_pictures(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", n=2)
    (tmp_path / "in/clip.mp4").write_bytes(b"")
    assert [row["file"] for row in parse(score("in").out)] == ["in/000.png", "in/001.png"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only/clip.mp4").write_bytes(b"")
    ran = score("only")
    assert (ran.code, "holds no pictures" in ran.err) == (3, True)


@pytest.mark.parametrize("table", ["csv", "jsonl", "parquet"])
def test_resuming_what_is_complete_does_nothing(score, marker, tmp_path, table):
    if table == "parquet":
        pytest.importorskip("pyarrow")
    make_folder(marker, tmp_path / "in", n=6, broken=[4])
    target = "--" + table, "o.table"
    assert score("in", *target).code == 4
    before = (tmp_path / "o.table").stat().st_mtime_ns
    ran = score("in", *target, "--resume")
    assert (ran.code, "is complete" in ran.err) == (4, True)  # a picture is unreadable still
    assert "blurgate: in/004.png could not be read before\n" in ran.err
    assert (tmp_path / "o.table").stat().st_mtime_ns == before
    picture = (tmp_path / "in/005.png").rename(tmp_path / "in/006.png")
    ran = score("in", *target, "--resume")
    assert (ran.code, "'in/005.png' is not where it would be now" in ran.err) == (2, True)
    picture.unlink()
    (tmp_path / "in/003.png").unlink()
    assert score("in/000.png", "in/001.png", *target, "--resume").code == 2
    assert (tmp_path / "o.table").stat().st_mtime_ns == before


def test_a_table_without_a_journal_must_hold_the_files(score, marker, tmp_path):
    make_folder(marker, tmp_path / "in", n=3)
    assert score("in", "--csv", "o.csv").code == 0
    whole = (tmp_path / "o.csv").read_text()
    for text, why in [
        ("hello\n", "'in/000.png' is missing in it"),
        (whole.replace("no_face", "fine"), "'fine' is not a status"),
        (whole.rsplit("\n", 3)[0] + "\n", "'in/002.png' is missing in it"),
        (whole.replace("in/001.png,0", "in/001.png,x"), "is not a table of blurgate score"),
    ]:
        (tmp_path / "o.csv").write_text(text)
        ran = score("in", "--csv", "o.csv", "--resume")
        assert (ran.code, why in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
        assert (tmp_path / "o.csv").read_text() == text


@pytest.mark.parametrize(
    "change", [{"status": "fine"}, {"status": None}, {"faces": "1"}, {"file": 3}]
)
def test_a_file_of_which_the_journal_lacks_something_is_scored_again(
    score, marker, tmp_path, monkeypatch, change
):
    make_folder(marker, tmp_path / "in", n=3)
    assert score("in", "--csv", "whole.csv").code == 0

    def interrupted(journal):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("blurgate.journal.Journal.remove", interrupted)
        assert score("in", "--csv", "o.csv").code == 130
    notes = tmp_path / "o.csv.journal"
    head, line = notes.read_text().splitlines()
    line = json.loads(line)
    line["done"][1].update(change)
    notes.write_text("\n".join([head, json.dumps(line), ""]))
    assert score("in", "--csv", "o.csv", "--resume").code == 0
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_table_is_continued(score, marker, marker_environment, tmp_path, how):
    make_folder(marker, tmp_path / "in", n=400, broken=[5])
    assert score("in", "--csv", "whole.csv").code == 4
    command = [
        sys.executable, "-m", "blurgate", "score", "in", "--csv", "o.csv", "--resume",
        "--detector", "marker", "--model", "laplacian", "--workers", "1",
    ]  # fmt: skip

    def start():
        return subprocess.Popen(
            command, cwd=tmp_path, env=marker_environment, stderr=subprocess.PIPE, text=True
        )

    running = start()
    deadline = time.monotonic() + 30
    table = tmp_path / "o.csv"
    while not (table.exists() and table.stat().st_size > 200) and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(how)
    running.communicate(timeout=30)
    assert running.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
    assert (tmp_path / "o.csv.journal").exists(), "it was over before it could be stopped"
    again = start()
    _, err = again.communicate(timeout=60)
    assert again.returncode == 4, err
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "o.csv.journal").exists()
