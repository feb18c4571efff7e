"""Runs that are killed, that run out of room or memory, or whose sources stop: what is left."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate import cli
from blurgate.errors import ConfigError, DecodeError
from blurgate.io.pipe import opened_pipe
from blurgate.io.video import estimate_frames, read_video
from blurgate.locking import LOCK, locked

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX processes")


@posix
@pytest.mark.parametrize("command", ["filter", "score"])
def test_killed_at_random_moments_and_continued_the_result_is_the_same(command):
    pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')
    ran = subprocess.run(
        [sys.executable, "-P", str(ROOT / "scripts/check_faults.py"), command, "--times", "4"],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "every result equals the undisturbed one" in ran.stdout


def pictures(marker, folder, count):
    folder.mkdir()
    for i in range(count):
        image = np.full((160, 260, 3), 60, np.uint8)
        marker.draw(image, 10, 20, 100, sharp=True, seed=i)
        cv2.imwrite(str(folder / f"{i:02d}.png"), image)


FILTER = ("--detector", "marker", "--model", "laplacian", "--threshold", "0.4", "--workers", "2")

LIMITED = """
import resource, sys
from blurgate import cli
kind, most = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(kind, (most, most))
sys.argv = ["blurgate", *sys.argv[3:]]
cli.main()
"""


def limited(kind, most, *arguments, cwd, env):
    """Run the command line in a process with a limit."""
    return subprocess.run(
        [sys.executable, "-P", "-c", LIMITED, kind, str(most), *map(str, arguments)],
        cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@posix
def test_a_full_disk_is_one_line_and_can_be_continued(marker, marker_environment, run, tmp_path,
                                                      monkeypatch):  # fmt: skip
    """A limit on the size of files stands in for a full disk: the table hits it."""
    pictures(marker, tmp_path / "in", 40)
    monkeypatch.chdir(tmp_path)
    ran = limited(
        "RLIMIT_FSIZE", 3000, "filter", "in", *FILTER, "--crops", "none", "--out", "o",
        cwd=tmp_path, env=marker_environment,
    )  # fmt: skip
    assert ran.returncode == 5, ran.stderr
    assert ran.stderr.startswith("blurgate: error: ")
    assert len(ran.stderr.splitlines()) == 1
    assert "Traceback" not in ran.stderr
    # What could be written is whole lines.
    text = (tmp_path / "o/faces.csv").read_text()
    assert text.endswith("\n")
    assert all(len(row) == 15 for row in csv.reader(text.splitlines()))
    assert not list((tmp_path / "o").rglob("*.tmp"))
    assert run("filter", "in", *FILTER, "--crops", "none", "--out", "o", "--resume").code == 0
    assert run("filter", "in", *FILTER, "--crops", "none", "--out", "w").code == 0
    assert (tmp_path / "o/faces.csv").read_bytes() == (tmp_path / "w/faces.csv").read_bytes()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_folder_that_may_not_be_written_is_one_line(marker, run, tmp_path, monkeypatch):
    pictures(marker, tmp_path / "in", 1)
    monkeypatch.chdir(tmp_path)
    ran = run("filter", "in", *FILTER, "--out", "/proc/o")  # not even root can
    assert (ran.code, len(ran.err.splitlines())) == (5, 1), ran.err
    assert "/proc/o" in ran.err


@posix
@pytest.mark.parametrize("command", ["filter", "score", "synth"])
def test_a_folder_without_the_right_to_write_is_one_line(
    marker, marker_environment, tmp_path, command
):
    pictures(marker, tmp_path / "in", 2)
    (tmp_path / "locked").mkdir(mode=0o555)
    arguments = {
        "filter": ("in", *FILTER, "--out", "locked/o"),
        "score": ("in", *FILTER[:4], "--csv", "locked/o.csv"),
        "synth": ("in", "--embedder", "tiny", "--out", "locked/o"),
    }[command]
    if command == "synth":
        plugin = (ROOT / "tests/data/tiny_embedder.py").read_text()
        site = Path(marker_environment["PYTHONPATH"])
        with (site / "marker_plugin.py").open("a") as file:
            file.write(plugin.replace("from __future__ import annotations\n", ""))
    ran = without_privileges(command, *arguments, cwd=tmp_path, env=marker_environment)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (5, 1), ran.stderr
    assert "Permission denied" in ran.stderr
    assert "locked" in ran.stderr
    assert "make room" not in ran.stderr
    assert not list((tmp_path / "locked").iterdir())


@posix
def test_inputs_that_may_not_be_read_fail_alone(marker, marker_environment, tmp_path):
    pictures(marker, tmp_path / "in", 3)
    (tmp_path / "in/01.png").chmod(0)
    ran = without_privileges(
        "score", "in", *FILTER[:4], "--csv", "o.csv", cwd=tmp_path, env=marker_environment
    )
    assert ran.returncode == 4, ran.stderr
    assert "in/01.png cannot be read as a picture: Permission denied" in ran.stderr
    with (tmp_path / "o.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "unreadable", "ok"]


def without_privileges(*arguments, cwd, env):
    """Run the command line as somebody for whom the permissions of files hold."""
    before = []
    if os.geteuid() == 0:  # root stays the files' owner, and no more
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if (
            shutil.which("setpriv") is None
            or subprocess.run([*before, "true"], check=False, capture_output=True).returncode
        ):
            pytest.skip("root cannot give up its privileges here")
    command = [*before, sys.executable, "-P", "-m", "blurgate", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=100
    )


def test_a_source_that_vanishes_in_mid_run_fails_alone(marker, run, tmp_path, monkeypatch):
    pictures(marker, tmp_path / "in", 40)
    monkeypatch.chdir(tmp_path)
    find = marker.MarkerDetector._find

    def spoil(self, frame):
        (tmp_path / "in/39.png").unlink(missing_ok=True)
        return find(self, frame)

    monkeypatch.setattr(marker.MarkerDetector, "_find", spoil)
    ran = run("filter", "in", *FILTER, "--crops", "none", "--out", "o")
    assert ran.code == 4
    assert "in/39.png cannot be read as a picture: No such file or directory" in ran.err
    summary = json.loads((tmp_path / "o/summary.json").read_text())
    assert [s["status"] for s in summary["sources"]] == ["ok"] * 39 + ["failed"]


@posix
def test_a_machine_without_memory_for_a_thread_is_one_line(run, marker, tmp_path, monkeypatch):
    pictures(marker, tmp_path / "in", 2)
    monkeypatch.chdir(tmp_path)

    def none(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        ran = run("filter", "in", *FILTER, "--out", "o")
    assert (ran.code, len(ran.err.splitlines())) == (5, 1), ran.err
    assert "out of memory; use fewer --workers, a smaller --det-size" in ran.err
    assert run("filter", "in", *FILTER, "--out", "o", "--resume").code == 0


def test_a_source_that_vanishes_fails_alone(marker, run, tmp_path, monkeypatch):
    pictures(marker, tmp_path / "in", 3)
    (tmp_path / "gone.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    listing = [*sorted(str(p) for p in (tmp_path / "in").iterdir()), "gone.png"]
    (tmp_path / "gone.png").unlink()
    monkeypatch.setattr("sys.stdin", [f"{name}\n" for name in listing])
    ran = run("filter", "-", *FILTER, "--out", "o")
    assert ran.code == 4
    statuses = [
        s["status"] for s in json.loads((tmp_path / "o/summary.json").read_text())["sources"]
    ]
    assert statuses == ["ok", "ok", "ok", "failed"]


# Streams that stop


@posix
def test_a_pipe_that_stalls_is_given_up(tmp_path):
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    (end,) = read_video(str(path), timeout_s=0.3)
    assert (end.status, "nothing came for 0.3 seconds" in end.error) == ("failed", True)


@posix
def test_a_video_through_a_pipe_is_read(tmp_path):
    import av

    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, np.uint8), format="bgr24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    path = tmp_path / "pipe.mkv"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(clip.read_bytes()), daemon=True)
    writer.start()
    time.sleep(0.2)
    assert estimate_frames(str(path)) is None
    time.sleep(0.2)
    assert writer.is_alive()  # it waits for its first reader
    *frames, end = read_video(str(path), timeout_s=5)
    writer.join(timeout=20)
    assert (len(frames), end.status, end.frames) == (5, "ok", 5)


@posix
def test_devices_and_sockets_are_refused(tmp_path, monkeypatch):
    with (
        pytest.raises(DecodeError, match="/dev/null is a device or a socket"),
        opened_pipe("/dev/null", 1),
    ):
        pass
    monkeypatch.chdir(tmp_path)  # an address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(DecodeError, match="s is a device or a socket"), opened_pipe("s", 1):
            pass


def test_a_server_that_stops_in_the_middle_is_given_up():
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve():
        connection, _ = server.accept()
        held.append(connection)
        connection.sendall(b"G" + bytes(187))  # a packet of a transport stream, then silence

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    (end,) = read_video(address, timeout_s=0.5)
    thread.join(timeout=5)
    held[0].close()
    server.close()
    assert (end.status, end.frames) == ("failed", 0)
    assert end.error


# Plugins that fail


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyError("x"), 5, "the detector marker failed: KeyError: 'x'"),
        (SystemExit(3), 5, "the detector marker failed: SystemExit: 3"),
        (MemoryError(), 5, "out of memory; use fewer --workers, a smaller --det-size"),
        (cv2.error("(-4:Insufficient memory) Failed to allocate 9 bytes"), 5, "out of memory; "),
        (ValueError("Maximum allowed dimension exceeded"), 5, "out of memory; "),
        (OSError(28, "No space left on device"), 5, "No space left on device"),
    ],
)
def test_a_worker_that_raises_ends_the_run_cleanly(
    run, marker, tmp_path, monkeypatch, error, code, message
):
    pictures(marker, tmp_path / "in", 12)
    monkeypatch.chdir(tmp_path)
    right = marker.MarkerDetector._find

    def find(self, frame):
        if frame.source.endswith("05.png"):
            raise error
        return right(self, frame)

    monkeypatch.setattr(marker.MarkerDetector, "_find", find)
    before = threading.active_count()
    ran = run("filter", "in", *FILTER, "--out", "o")
    assert (ran.code, len(ran.err.splitlines())) == (code, 1), ran.err
    assert message in ran.err
    assert threading.active_count() <= before, "a thread was left"
    json.loads((tmp_path / "o/summary.json").read_text())
    monkeypatch.setattr(marker.MarkerDetector, "_find", right)
    assert run("filter", "in", *FILTER, "--out", "o", "--resume").code == 0
    assert len((tmp_path / "o/faces.csv").read_text().splitlines()) == 13


def test_a_defect_is_one_line_and_shown_when_asked_for(run, marker, tmp_path, monkeypatch, caplog):
    pictures(marker, tmp_path / "in", 1)
    monkeypatch.chdir(tmp_path)

    def broken(*args, **more):
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr("blurgate.filtering.run_filter", broken)
    with caplog.at_level("INFO"):
        ran = run("filter", "in", *FILTER)
    assert ran.code == 1
    assert ran.err == (
        "blurgate: error: ZeroDivisionError: by nothing; this is a defect of blurgate or of a "
        "plugin: `blurgate -v ...` shows where\n"
    )
    assert "in broken" in caplog.text


def test_a_library_that_the_system_lacks_is_the_environments_fault(run, monkeypatch):
    def broken(*args, **more):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr("blurgate.filtering.run_filter", broken)
    ran = run("filter", ROOT / "examples/sample.mp4", "--out", "o")
    assert ran.code == 5
    assert ran.err == (
        "blurgate: error: libGL.so.1: cannot open shared object file; `blurgate doctor` says what "
        "is missing\n"
    )


def test_what_a_message_holds_cannot_steer_the_terminal(capfd):
    cli.warn("a model named x\x1b]0;owned\x07\x1b[2J\nand caf\udce9")
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "blurgate: a model named x\\x1b]0;owned\\x07\\x1b[2J and caf\\udce9"


# Locks


def test_a_lock_is_held_by_one_process_and_dies_with_it(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom blurgate.locking import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "in\n"
    got = threading.Event()

    def wait():
        with locked(path):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.wait(0.4), "two hold it"
    holder.kill()
    holder.communicate()
    assert got.wait(20)
    waiting.join()
    assert not path.exists()


def test_no_two_threads_are_inside_a_lock(tmp_path):
    inside, most = [0], [0]

    def work():
        for _ in range(5):
            with locked(tmp_path / "lock"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.parametrize("word", ["--resume", "--overwrite"])
def test_two_runs_do_not_share_a_folder(run, marker, tmp_path, monkeypatch, word):
    pictures(marker, tmp_path / "in", 2)
    monkeypatch.chdir(tmp_path)
    command = ("filter", "in", *FILTER, "--out", "o")
    assert run(*command).code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "o").rglob("*") if p.is_file()}
    with locked(tmp_path / "o" / LOCK):  # as the other run does
        ran = run(*command, word)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert "another run is writing to o" in ran.err
    assert {p: p.read_bytes() for p in (tmp_path / "o").rglob("*") if p.is_file()} == before
    assert run(*command, word).code == 0
    assert not (tmp_path / "o" / LOCK).exists()


@pytest.mark.parametrize("words", [(), ("--resume",)])
def test_two_runs_do_not_share_a_table(run, marker, tmp_path, monkeypatch, words):
    pictures(marker, tmp_path / "in", 2)
    monkeypatch.chdir(tmp_path)
    command = ("score", "in", *FILTER[:4], "--csv", "o.csv")
    with locked(tmp_path / "o.csv.lock"):  # as the other run does
        # It has begun: what it has written must stay as it is.
        for name in ("o.csv", "o.csv.journal", "o.csv.part.json"):
            (tmp_path / name).write_text("mine")
        ran = run(*command, *words)
        found = {p.name for p in tmp_path.glob("o.csv*") if p.read_text() == "mine"}
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert "another run is writing to o.csv; wait until it ends, or choose another --csv" in ran.err
    assert found == {"o.csv", "o.csv.journal", "o.csv.part.json"}
    for name in found:
        (tmp_path / name).unlink()
    (tmp_path / "o.csv.lock").touch()  # of a run that was killed
    assert run(*command, *words).code == 0
    assert [p.name for p in tmp_path.glob("o.csv*")] == ["o.csv"]


def test_the_lock_of_a_killed_run_is_no_result(run, marker, tmp_path, monkeypatch):
    pictures(marker, tmp_path / "in", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / LOCK).touch()  # it was killed before it wrote anything
    assert run("filter", "in", *FILTER, "--out", "o").code == 0
    assert not (tmp_path / "o" / LOCK).exists()


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_where_there_are_no_locks_one_goes_on_without(tmp_path, monkeypatch, number):
    def none(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", none)
    with locked(tmp_path / "lock"), locked(tmp_path / "lock", busy=ConfigError("taken")):
        pass
    assert not (tmp_path / "lock").exists()
