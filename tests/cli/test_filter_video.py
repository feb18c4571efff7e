"""`blurgate filter` on videos and streams: tracks, best shots, drawn and cut videos, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import av
import cv2
import numpy as np
import pytest

from blurgate import writing
from blurgate.cli.summary import plain_summary, print_summary, sparkline
from blurgate.counting import Counts, Progress
from blurgate.crops import save_crop
from blurgate.filtering import run_filter
from blurgate.gate import Gate
from blurgate.io.sources import expand
from blurgate.writing import Outputs


def frames(marker, count):
    """A face that walks; sharp in frames 10 to 14, blurred otherwise; gone after frame 20."""
    for i in range(count):
        image = np.full((240, 400, 3), 60, np.uint8)
        if i < 20:
            marker.draw(image, 20 + 4 * i, 40, 140, sharp=10 <= i < 15)
        yield image


def write(target, marker, count=24, **options):
    with av.open(target, "w", **options) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 400, 240, "yuv420p"
        for i, image in enumerate(frames(marker, count)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


def rows(folder):
    with (folder / "faces.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def entry(folder):
    (only,) = json.loads((folder / "summary.json").read_text())["sources"]
    return only


COMMON = ("--detector", "marker", "--model", "laplacian", "--threshold", "0.4", "--detect-every", 1)


@pytest.fixture
def filter_(run, marker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run("filter", *arguments, *COMMON)


def test_the_best_shot_of_a_walk(filter_, marker, tmp_path):
    write(str(tmp_path / "w.mp4"), marker)
    for workers in (1, 3):
        out = f"o{workers}"
        assert filter_("w.mp4", "--out", out, "--best-shot", 1, "--workers", workers).code == 0
    found = rows(tmp_path / "o1")
    assert (tmp_path / "o1/faces.csv").read_bytes() == (tmp_path / "o3/faces.csv").read_bytes()
    assert [int(row["frame"]) for row in found] == list(range(20))
    assert {row["track"] for row in found} == {"1"}
    reasons = [row["reason"] for row in found]
    assert reasons[:10] == ["blur"] * 10
    assert reasons[15:] == ["blur"] * 5
    sharp = found[10:15]
    (kept,) = [row for row in found if row["decision"] == "keep"]
    assert kept["blur_degree"] == min((row["blur_degree"] for row in sharp), key=float)
    assert sorted(reasons[10:15]) == ["", *["not_best_shot"] * 4]
    assert [p.name for p in (tmp_path / "o1/kept").iterdir()] == [kept["crop"].split("/")[1]]
    assert entry(tmp_path / "o1")["kept"] == 1
    before = (tmp_path / "o1/faces.csv").read_bytes()
    assert filter_("w.mp4", "--out", "o1", "--best-shot", 1, "--resume").code == 0
    assert (tmp_path / "o1/faces.csv").read_bytes() == before
    ran = filter_("w.mp4", "--out", "o1", "--best-shot", 2, "--resume")
    assert (ran.code, "begun with best-shot = 1, now it is 2" in ran.err) == (2, True)


def test_videos_at_addresses_keep_names_that_look_like_secrets(filter_, marker, tmp_path):
    pytest.importorskip("fsspec")
    for folder in ("h/user=alice", "h/user=bob"):
        (tmp_path / folder).mkdir(parents=True)
        write(str(tmp_path / folder / "clip.mp4"), marker)
    write(str(tmp_path / "h/a@b.mp4"), marker)
    address = (tmp_path / "h").as_uri()
    assert filter_(address, "--out", "o", "--best-shot", 1).code == 0
    wanted = [f"{address}/{n}" for n in ("a@b.mp4", "user=alice/clip.mp4", "user=bob/clip.mp4")]
    told = json.loads((tmp_path / "o/summary.json").read_text())["sources"]
    assert [source["source"] for source in told] == wanted
    found = rows(tmp_path / "o")
    assert sorted({row["source"] for row in found}) == wanted
    assert len(list((tmp_path / "o/kept").iterdir())) == 3
    assert len({row["crop"] for row in found if row["crop"]}) == 3
    ran = filter_(address, "--out", "o", "--best-shot", 1, "--resume")
    assert ran.code == 0, ran.err


@pytest.fixture
def walk(marker, tmp_path, monkeypatch):
    """Find the best shot of the walk; `stop` interrupts it after so many frames."""
    monkeypatch.chdir(tmp_path)
    write("w.mp4", marker)

    def walk_(out, stop=None, **more):
        def stopping(progress):
            if progress.now.frames == stop:
                raise KeyboardInterrupt

        gate = Gate(0.4, detector="marker", scorer="laplacian", detect_every=1, workers=1)
        outputs = Outputs(tmp_path / out, best_shot=1, **more)
        run_filter(gate, list(expand(["w.mp4"])), outputs, on_progress=stopping)
        return [p.name for p in (tmp_path / out / "kept").iterdir()]

    return walk_


def test_interrupted_best_shots_leave_no_picture_behind(walk, tmp_path):
    """Half of the walk has another best face than the whole of it."""
    whole = walk("whole")
    best = int(whole[0].split("-")[2])
    assert best > 10
    with pytest.raises(KeyboardInterrupt):
        walk("o", stop=best)
    early = [path.name for path in (tmp_path / "o/kept").iterdir()]
    assert early != whole
    assert len(rows(tmp_path / "o")) == best
    assert walk("o", resume=True) == whole
    assert rows(tmp_path / "o") == rows(tmp_path / "whole")


@pytest.mark.parametrize("keep_rejected", [False, True])
def test_killed_while_interrupted_best_shots_are_written(
    walk, tmp_path, monkeypatch, keep_rejected
):
    """A second Ctrl-C, or a kill, while the pictures of half of the walk are written."""
    whole = walk("whole", keep_rejected=keep_rejected)
    best = int(whole[0].split("-")[2])
    kills = []

    def stopped(*arguments):
        name = save_crop(*arguments)
        if name.startswith("kept/"):
            shutil.copytree(tmp_path / "o", tmp_path / "killed")  # as a kill would leave it
            kills.append(name)
            raise KeyboardInterrupt
        return name

    with monkeypatch.context() as patched:
        patched.setattr(writing, "save_crop", stopped)
        with pytest.raises(KeyboardInterrupt):
            walk("o", stop=best, keep_rejected=keep_rejected)
    assert kills
    assert kills != [f"kept/{name}" for name in whole]

    def pictures(out):
        return sorted(p.relative_to(tmp_path / out) for p in (tmp_path / out).rglob("*.png"))

    for out in ("o", "killed"):
        assert walk(out, resume=True, keep_rejected=keep_rejected) == whole
        assert pictures(out) == pictures("whole")
        assert rows(tmp_path / out) == rows(tmp_path / "whole")


def test_rejected_pictures_of_best_shots(filter_, marker, tmp_path):
    write(str(tmp_path / "w.mp4"), marker)
    assert filter_("w.mp4", "--out", "o", "--best-shot", 1, "--keep-rejected").code == 0
    found = rows(tmp_path / "o")
    for row in found:
        folder = {"keep": "kept", "reject": "rejected"}[row["decision"]]
        assert row["crop"].startswith(folder + "/")
        assert cv2.imread(str(tmp_path / "o" / row["crop"])).shape == (112, 112, 3)
    assert len(list((tmp_path / "o/rejected").iterdir())) == 19


def test_pictures_are_not_tracked(filter_, marker, tmp_path):
    for i, image in zip(range(2), list(frames(marker, 12))[10:], strict=True):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    assert filter_("0.png", "1.png", "--out", "o", "--best-shot", 1).code == 0
    assert [(r["track"], r["decision"]) for r in rows(tmp_path / "o")] == [("", "keep")] * 2


def test_drawn_and_cut(filter_, marker, tmp_path):
    write(str(tmp_path / "wälk 写.mp4"), marker)
    ran = filter_("wälk 写.mp4", "--out", "o", "--annotate", "--cut", "--cut-pad", 0.04)
    assert ran.code == 0, ran.err
    made = entry(tmp_path / "o")
    drawn, cut = tmp_path / "o" / made["annotated"], tmp_path / "o" / made["cut"]
    assert (drawn.parent.name, cut.parent.name) == ("annotated", "cut")
    assert drawn.name.startswith("wälk_写-")
    counts = []
    for path in (drawn, cut):
        with av.open(str(path)) as container:
            counts.append(sum(1 for _ in container.decode(video=0)))
    assert counts == [24, 7]  # 10 to 14, and one on each side
    cv2.imwrite(str(tmp_path / "p.png"), list(frames(marker, 11))[10])
    assert filter_("p.png", "--out", "o", "--annotate", "--cut", "--overwrite").code == 0
    made = entry(tmp_path / "o")
    assert cv2.imread(str(tmp_path / "o" / made["annotated"])).shape == (240, 400, 3)
    assert "cut" not in made
    assert sorted(p.name for p in (tmp_path / "o").glob("*/*.mp4")) == []


def test_what_cannot_be_read_cannot_be_drawn(filter_, tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"no video" * 99)
    ran = filter_("b.mp4", "--out", "o", "--annotate", "--cut")
    assert ran.code == 3
    assert entry(tmp_path / "o")["annotated"] == ""
    assert sorted(p.name for p in (tmp_path / "o").glob("*/*")) == []


def spoiled_sources(marker, folder):
    """Two pictures, and between them what no JPEG and no H.264 video can hold."""
    folder.mkdir()
    for name in ("a.png", "d.png"):
        cv2.imwrite(str(folder / name), list(frames(marker, 11))[10])
    wide = np.full((120, 70_000, 3), 60, np.uint8)
    marker.draw(wide, 20, 10, 100, sharp=True)
    cv2.imwrite(str(folder / "b.png"), wide)
    with av.open(str(folder / "c.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 20_000, 8, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(20_000, 8, "yuv420p")))
        container.mux(stream.encode(None))


def test_what_cannot_be_drawn_fails_alone(filter_, marker, tmp_path):
    spoiled_sources(marker, tmp_path / "in")
    command = ("in", "--out", "o", "--annotate", "--cut")
    ran = filter_(*command, "--quiet")
    assert ran.code == 4, ran.err
    picture, video = ran.err.splitlines()
    assert re.fullmatch(
        r"blurgate: in/b\.png: cannot write b-\w+\.jpg: JPEG holds no picture of 70000x120 pixels",
        picture,
    )
    assert re.fullmatch(
        r"blurgate: in/c\.mkv: cannot write c-\w+\.mp4: .+ of 20000x8 pixels.*", video
    )
    report = json.loads((tmp_path / "o/summary.json").read_text())
    assert [s["status"] for s in report["sources"]] == ["ok", "partial", "partial", "ok"]
    assert [f"blurgate: {s['error']}" for s in report["sources"][1:3]] == [picture, video]
    drawn = [s["annotated"] for s in report["sources"]]
    assert [bool(name) for name in drawn] == [True, False, False, True]
    assert sorted(f"annotated/{p.name}" for p in (tmp_path / "o/annotated").iterdir()) == sorted(
        filter(None, drawn)
    )
    # The faces of what could not be drawn stay.
    assert [r["source"] for r in rows(tmp_path / "o")] == ["in/a.png", "in/b.png", "in/d.png"]
    assert all((tmp_path / "o" / r["crop"]).is_file() for r in rows(tmp_path / "o"))
    again = filter_(*command, "--resume", "--quiet")
    assert (again.code, again.err) == (4, ran.err)


def test_a_cut_that_fails_is_told_of_beside_what_else_failed(
    filter_, marker, tmp_path, monkeypatch
):
    write(str(tmp_path / "v.mp4"), marker)

    def broken(why):
        def function(*args, **options):
            raise av.error.ExternalError(-1, why)

        return function

    for name, why in (("annotate_video", "no such\nluck"), ("cut_video", "nor here")):
        monkeypatch.setattr(f"blurgate.writing.{name}", broken(why))
    ran = filter_("v.mp4", "--out", "o", "--annotate", "--cut", "--quiet")
    assert ran.code == 4
    (line,) = ran.err.splitlines()
    one = r"v\.mp4: cannot write v-\w+\.mp4"
    assert re.fullmatch(rf"blurgate: {one}: no such luck; {one}: nor here", line)
    made = entry(tmp_path / "o")
    assert (made["annotated"], made["cut"], made["status"]) == ("", "", "partial")
    assert (made["faces"], len(rows(tmp_path / "o"))) == (20, 20)


def test_a_full_disk_is_no_fault_of_the_source(filter_, marker, tmp_path, monkeypatch):
    write(str(tmp_path / "v.mp4"), marker)

    def full(*args, **options):
        raise av.error.OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("blurgate.writing.cut_video", full)
        ran = filter_("v.mp4", "--out", "o", "--cut", "--quiet")
    assert (ran.code, "make room" in ran.err) == (5, True)
    assert filter_("v.mp4", "--out", "o", "--cut", "--quiet", "--resume").code == 0
    assert entry(tmp_path / "o")["cut"]


@contextmanager
def serve(data, *, stay=True):
    """A TCP stream on the loopback; gives its port."""
    done = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def play():
        connection, _ = listener.accept()
        with connection:
            connection.sendall(data)
            if stay:
                done.wait(60)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        thread.join(5)
        listener.close()


@pytest.fixture
def stream(marker):
    target = io.BytesIO()
    with av.open(target, "w", format="matroska", options={"live": "1"}) as container:
        video = container.add_stream(
            "libx264", rate=25, options={"crf": "12", "bf": "0", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = 400, 240, "yuv420p"
        for i, image in enumerate(frames(marker, 18)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = 25 * i  # one a second, so that nothing is ever late
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return target.getvalue()


def test_a_stream_for_some_seconds_without_its_password(filter_, stream, tmp_path):
    with serve(stream) as port:
        address = f"tcp://me:hunter2@127.0.0.1:{port}"
        ran = filter_(address, "--duration", 4, "--json")
    assert ran.code == 0, ran.err
    (folder,) = tmp_path.iterdir()
    made = entry(folder)
    assert made["source"] == f"tcp://***@127.0.0.1:{port}"
    assert (made["status"], made["reconnects"]) == ("ok", 0)
    assert made["frames"] - made["frames_dropped"] >= 5
    assert made["frames"] >= 12  # some wait in the decoder's threads for the next
    assert json.loads(ran.out)["sources"] == [made]
    everything = ran.out + ran.err + folder.name
    for path in folder.rglob("*"):
        everything += path.name + (path.read_text("latin-1") if path.is_file() else "")
    assert "hunter2" not in everything


def test_what_streams_cannot_do(filter_, marker, tmp_path):
    ran = filter_("tcp://u:pw@127.0.0.1:1/a", "--cut")
    assert (ran.code, "look at a source twice" in ran.err, "pw" in ran.err) == (2, True, False)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mkv")
        for option in ("--annotate", "--cut"):
            ran = filter_("pipe.mkv", option)
            assert (ran.code, "twice, which pipe.mkv does not allow" in ran.err) == (2, True)
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((9, 9, 3), np.uint8))
    ran = filter_("p.png", "--duration", 3)
    assert (ran.code, "there is none among the sources" in ran.err) == (2, True)
    ran = filter_("tcp://127.0.0.1:1", "--duration", -3)
    assert (ran.code, "duration must be a time in seconds" in ran.err) == (2, True)
    ran = filter_("tcp://127.0.0.1:1", "--reconnects", 0, "--out", "o")
    assert (ran.code, entry(tmp_path / "o")["status"]) == (3, "failed")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_stream_that_the_user_ends_is_complete(marker_environment, stream, tmp_path, how):
    with serve(stream) as port:
        command = [
            sys.executable, "-m", "blurgate", "filter", f"tcp://127.0.0.1:{port}", "--out", "o",
            "--best-shot", "1", *map(str, COMMON),
        ]  # fmt: skip
        running = subprocess.Popen(
            command, cwd=tmp_path, env=marker_environment, stderr=subprocess.PIPE, text=True
        )
        journal = tmp_path / "o/journal.jsonl"
        deadline = time.monotonic() + 60
        while not journal.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(6)
        asked = time.monotonic()
        running.send_signal(how)
        _, err = running.communicate(timeout=30)
        assert time.monotonic() - asked < 20
    assert running.returncode == 130, err
    made = entry(tmp_path / "o")
    assert (made["status"], made["error"]) == ("ok", "")
    found = rows(tmp_path / "o")
    assert made["faces"] == len(found) > 0
    assert [r["decision"] for r in found].count("keep") == made["kept"]
    assert "1 sources" in err
    for path in (tmp_path / "o").glob("kept/*"):
        assert cv2.imread(str(path)).shape == (112, 112, 3)


def progress():
    counts = Counts(1500, 2, 40, 10, 5, 25, {"blur": 20, "not_best_shot": 10})
    counts.degrees[0], counts.degrees[-1] = 10, 30
    first = [
        {"source": f"clips/{'x' * 60}[bold]{i}.mp4", "frames": 750, "frames_failed": 1, "faces": 20,
         "kept": 5, "review": 2, "rejected": 13, "status": status, "error": "", **more}
        for i, status, more in ((0, "ok", {}), (1, "partial", {"frames_dropped": 7}))
    ]  # fmt: skip
    done = Progress(counts, sources_ok=30, sources_failed=1, first=first)
    done.elapsed_s = 10.0
    return done


def test_a_summary_for_logs(tmp_path):
    assert list(plain_summary(progress(), tmp_path)) == [
        "31 sources, 1500 frames (2 more could not be read) (7 dropped: not looked at in time)",
        "40 faces: 10 kept, 5 to review, 25 rejected; reasons: 20 blur, 10 not_best_shot",
        f"10.0 s, 150.0 frames/s; results in {tmp_path}",
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_summary_for_terminals(monkeypatch, tmp_path, columns):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    print_summary(progress(), tmp_path)
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    lines = text.splitlines()
    assert max(map(len, lines)) <= max(columns, 30 + len(str(tmp_path)))
    (head,) = [line for line in lines if "source" in line]
    assert head.split() == ["source", "frames", "dropped", "faces", "kept", "review", "rejected"]
    if columns == 120:
        assert "[bold]0.mp4" in text  # a file name is no markup
    assert "partial" in text
    assert "and 29 more" in text
    assert "1,500" in text
    assert "blur degree  0 [▃" in text
    assert "█] 1" in text
    assert "not among the best of its track: 10" in text
    assert "150.0 frames/s" in text


def test_sparklines():
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "  "
    assert sparkline(range(9)) == " ▁▂▃▄▅▆▇█"
    assert sparkline([1, 1000], unicode=False) == "_#"
