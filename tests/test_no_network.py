"""Nothing goes over the network unless it is asked for: run with the network watched and blocked.

An audit hook sees every connection that Python begins. What libraries do by themselves it does not
see: as root on Linux the commands also run in a namespace that has no network at all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WATCHED = """
import json, sys
seen = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind",
                 "socket.sendto", "socket.sendmsg", "urllib.Request", "http.client.connect"):
        seen.append([event, repr(arguments)])
        raise OSError("the network is blocked")
sys.addaudithook(watch)
from blurgate import cli
sys.argv = ["blurgate", *sys.argv[1:]]
try:
    cli.main()
finally:
    print("\\nSEEN", json.dumps(seen), file=sys.stderr)
"""


def no_network():
    """The beginning of a command that runs the rest without a network; empty where nobody may."""
    program = shutil.which("unshare")
    if program is None or sys.platform != "linux":
        return []
    tried = subprocess.run([program, "--net", "true"], capture_output=True, check=False)
    return [program, "--net"] if tried.returncode == 0 else []


def blurgate(*arguments, place):
    """Run the command line; gives (exit code, stderr, connections that were begun)."""
    pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')
    environment = {**os.environ, "BLURGATE_HOME": str(place / "home")}
    ran = subprocess.run(
        [*no_network(), sys.executable, "-P", "-c", WATCHED, *map(str, arguments)],
        cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    err, _, seen = ran.stderr.rpartition("\nSEEN ")
    return ran.returncode, err, json.loads(seen)


def test_what_works_on_files_needs_no_network(tmp_path):
    """The models in the box find and score: nothing is fetched, nothing is told to anybody."""
    clip = ROOT / "examples/sample.mp4"
    for arguments, code in (
        (("filter", clip, "--every", 10, "--out", "o"), 0),
        (("report", "o"), 0),
        (("score", "o/kept", "--aligned", "--csv", "o.csv"), 0),
        (("models", "--json"), 0),
        (("plugins",), 0),
    ):
        got, err, seen = blurgate(*arguments, place=tmp_path)
        assert seen == [], arguments
        assert got == code, err


def test_what_asks_for_the_network_says_that_there_is_none(tmp_path):
    """The other way round: that the watch sees what it is to see."""
    code, err, seen = blurgate("models", "pull", "buffalo_sc", "--yes", place=tmp_path)
    assert code == 5, err
    assert seen
    assert len(err.strip().splitlines()[-1].split("blurgate: error: ")) == 2
    assert "Traceback" not in err
