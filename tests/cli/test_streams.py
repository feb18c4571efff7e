"""How commands end that are interrupted as they start, or whose streams are closed or full."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell and POSIX signals")
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")  # noqa: PTH110
OPTIONS = "--detector marker --model laplacian --workers 1"
FILTER = f"filter in {OPTIONS} --threshold 0.4"


@pytest.fixture
def shell(marker, marker_environment, tmp_path):
    """Run a line of a shell, in which BLURGATE is the command, beside a folder of pictures."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        image = np.full((160, 260, 3), 60, np.uint8)
        marker.draw(image, 10, 20, 100, sharp=True, seed=i)
        cv2.imwrite(str(tmp_path / f"in/{i}.png"), image)

    def run_line(line):
        command = f"{sys.executable} -P -m blurgate"
        return subprocess.run(
            ["bash", "-c", line.replace("BLURGATE", command)],
            cwd=tmp_path, env=marker_environment, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip

    return run_line


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted_before_the_command_begins(name):
    code = (
        "import os, signal\nfrom blurgate import cli\n"
        f"cli.make_app = lambda: os.kill(os.getpid(), signal.{name})\n"
        "cli.main()"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc by its own name")
@pytest.mark.parametrize(("end", "code"), [(130, 130), (0, -signal.SIGABRT)])
def test_libraries_cannot_make_a_crash_of_ctrl_c(end, code):
    """What C++ does at the end of a process is left out; what Python does is not."""
    program = (
        "import atexit, ctypes, sys\n"
        "from blurgate import cli\n"
        "c = ctypes.CDLL(None)\n"
        "c.__cxa_atexit(c.abort, None, None)\n"
        "atexit.register(sys.stdout.write, 'ended')\n"
        f"cli.make_app = lambda: lambda **given: sys.exit({end})\n"
        "cli.program()"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (code, b"ended")


@pytest.mark.parametrize(("silent_s", "end"), [(60, b""), (0, b" and ended")])
def test_a_source_that_keeps_silent_does_not_outlast_the_command(silent_s, end):
    """The interpreter is left out where a thread is held up, and what was written is written."""
    code = (
        "import atexit, sys, time\n"
        "from blurgate import cli\n"
        "from blurgate.pipeline import newest\n"
        "atexit.register(sys.stdout.write, ' and ended')\n"
        "def camera():\n"
        "    yield 'seen'\n"
        f"    time.sleep({silent_s})\n"
        "def command(**given):\n"
        "    frames = newest(camera(), 1, on_drop=print, may_drop=lambda: True)\n"
        "    sys.stdout.write(next(frames))\n"
        "    frames.close()\n"
        "    sys.exit(130)\n"
        "cli.make_app = lambda: command\n"
        "cli.program()"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=30)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"seen" + end, b"")


PRINTING = ["--help", "models", f"score in {OPTIONS} -q", f"{FILTER} --json -q"]


@pytest.mark.parametrize("line", PRINTING)
def test_a_reader_that_has_left_is_no_defect(shell, line):
    # `sleep` outlasts the start, so that the reader is gone in any case.
    ran = shell(f"(sleep 0.2; BLURGATE {line}; echo $? > code) | true; cat code")
    assert (ran.stdout, ran.stderr) == ("141\n", "")


@pytest.mark.parametrize("line", PRINTING)
def test_nor_is_it_on_windows(shell, tmp_path, line):
    """There the C library says something else of it."""
    (tmp_path / "windows.py").write_text(
        "import errno, io, sys\n"
        "from blurgate import cli\n"
        "class Pipe(io.FileIO):\n"
        "    def write(self, data):\n"
        "        try:\n"
        "            return super().write(data)\n"
        "        except BrokenPipeError:\n"
        "            sys.platform = 'win32'\n"
        "            raise OSError(errno.EINVAL, 'Invalid argument') from None\n"
        "sys.stdout = io.TextIOWrapper(io.BufferedWriter(Pipe(1, 'w', closefd=False)))\n"
        "cli.program()\n"
    )
    command = f"{sys.executable} -P windows.py"
    ran = shell(f"(sleep 0.2; {command} {line}; echo $? > code) | true; cat code")
    assert (ran.stdout, ran.stderr) == ("141\n", "")


def test_a_reader_that_has_enough_gets_what_it_read(shell):
    ran = shell(f"BLURGATE score in {OPTIONS} -q | head -1; echo ${{PIPESTATUS[@]}}")
    assert ran.stderr == ""
    head, codes = ran.stdout.splitlines()
    assert head == "file,face,x1,y1,x2,y2,det_score,face_px,blur_degree,status"
    assert codes in {"141 0", "0 0"}  # three pictures fit into a pipe before it is left


def test_results_are_whole_when_nobody_reads_the_summary(shell, tmp_path):
    shell(f"(sleep 0.2; BLURGATE {FILTER} --json -q --out o) | true")
    with (tmp_path / "o/faces.csv").open(newline="") as file:
        names = [row["source"] for row in csv.DictReader(file)]
    assert names == ["in/0.png", "in/1.png", "in/2.png"]
    assert json.loads((tmp_path / "o/summary.json").read_text())["totals"]["kept"] == 3


def test_results_go_up_when_nobody_reads_the_summary(shell, marker_environment, tmp_path):
    pytest.importorskip("fsspec")
    marker_environment["BLURGATE_WORK_DIR"] = str(tmp_path / "work")
    out = (tmp_path / "there").as_uri()
    ran = shell(
        f"(sleep 0.2; BLURGATE {FILTER} --json -q --out {out}; echo $? > code) | true; cat code"
    )
    assert (ran.stdout, ran.stderr) == ("141\n", "")
    with (tmp_path / "there/faces.csv").open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [f"in/{i}.png" for i in range(3)]
    assert (tmp_path / "there/journal.jsonl").is_file()
    assert list((tmp_path / "work").glob("*")) == []  # the folder itself is gone, too


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{FILTER} --out o", 0),
        (f"score in {OPTIONS} --csv o.csv", 0),
        (f"filter nosuch {OPTIONS}", 3),
        ("filter --nosuch", 2),
    ],
)
@pytest.mark.parametrize("to", ["2>&-", pytest.param("2>/dev/full", marks=FULL)])
def test_what_stderr_does_not_take_changes_no_exit_code(shell, line, code, to):
    ran = shell(f"BLURGATE {line} {to}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


@pytest.mark.parametrize("line", [f"score in {OPTIONS} -q", "models"])
@pytest.mark.parametrize(
    ("to", "message"),
    [
        (">&-", "[Errno 9] Bad file descriptor"),
        pytest.param(">/dev/full", "[Errno 28] No space left on device", marks=FULL),
    ],
)
def test_what_stdout_does_not_take_is_one_line(shell, line, to, message):
    ran = shell(f"BLURGATE {line} {to}")
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (5, "", 1)
    assert ran.stderr.startswith(f"blurgate: error: {message}")


def test_a_closed_stdin_lists_nothing(shell):
    ran = shell(f"BLURGATE filter - {OPTIONS} <&-")
    assert (ran.returncode, ran.stderr) == (
        3, "blurgate: error: standard input holds no paths\n",
    )  # fmt: skip


def test_a_closed_stdout_that_nothing_goes_to_is_nothing(shell, tmp_path):
    ran = shell(f"BLURGATE {FILTER} --out o -q >&-")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "o/faces.csv").is_file()
