"""Run the command line on every hostile case, each in a process of its own with limits.

    python -P tests/hostile/runner.py results.jsonl [SCRATCH] [--only TEXT] [--part K/N]
    python -P tests/hostile/runner.py --table results.jsonl     # the table of docs/hostile-input.md

Every case runs in a child that is forked once the heavy imports are done, with a limit on its
address space and on its time; what it used is measured from outside.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_S = 100
LIMIT_CPU_S = 20
LIMIT_ADDRESSES = 6 << 30
PIPE_TIMEOUT_S = 1.0
sys.path[:0] = [str(HERE.parent / "data"), str(HERE.parents[1] / "scripts")]


def register_detectors():
    """Add the detector that needs no weights, and those that go wrong."""
    import marker_plugin
    import numpy as np

    from blurgate.hookspecs import hookimpl
    from blurgate.host import get_host
    from blurgate.interfaces import ModelInfo
    from blurgate.types import Detections

    class Wrong:
        def __init__(self, how):
            self.how, self.info = how, ModelInfo(f"hostile-{how}", "")

        def __call__(self, frames):
            if self.how == "raise":
                raise KeyError("lost\nin two lines")
            if self.how == "memory":
                raise MemoryError
            if self.how == "few":
                return []
            box = np.array([[10, 10, 60, 60]], np.float32)
            points = np.array([[[20, 25], [45, 25], [32, 38], [23, 48], [42, 48]]], np.float32)
            if self.how == "nan":
                points[0, 2] = np.nan
            if self.how == "inf":
                box[0, 2] = np.inf
            if self.how == "outside":
                box[:] = 1e9
                points[:] = 1e9
            return [Detections(f, box, np.ones(1, np.float32), points) for f in frames]

    class Plugin:
        @hookimpl
        def register_detectors(self, register):
            for how in ("nan", "inf", "raise", "memory", "few", "outside"):
                register(f"hostile-{how}", lambda model, runtime, options, how=how: Wrong(how))

    host = get_host()
    host.add(marker_plugin, "marker-plugin")
    host.add(Plugin(), "hostile-plugin")


def obey_permissions():
    """Let the permissions of files hold for root too, in this process (Linux).

    Of the capabilities, it gives up those that pass over them (capabilities(7)).
    """
    override_and_search = 1 << 1 | 1 << 2
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.capget(header, sets) == 0
    for number in range(2):
        sets[number] &= ~override_and_search
    if not done or libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "root cannot give up its capabilities")


def run_one(place, arguments):
    """Run one case; gives what it did and what it used."""
    from blurgate import cli

    before = {path.name for path in place.parent.iterdir()}
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.chdir(place)
            if sys.platform == "linux" and os.geteuid() == 0:
                obey_permissions()
            for name, to in (("stdout", 1), ("stderr", 2)):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), to)
            resource.setrlimit(resource.RLIMIT_AS, (LIMIT_ADDRESSES, LIMIT_ADDRESSES))
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_S, LIMIT_CPU_S))
            sys.argv = ["blurgate", *arguments]
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    timed_out = False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > LIMIT_S:
            os.kill(child, signal.SIGKILL)
            timed_out = True
        time.sleep(0.005)
    summary = place / "out" / "summary.json"
    sources = json.loads(summary.read_text())["sources"] if summary.is_file() else []
    return {
        "code": os.waitstatus_to_exitcode(status),
        "timed_out": timed_out,
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "megabytes": round(usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
        "stderr": (place / "stderr").read_text(encoding="utf-8", errors="replace"),
        "stdout": (place / "stdout").read_text(encoding="utf-8", errors="replace"),
        "sources": sources,
        "strays": sorted({path.name for path in place.parent.iterdir()} - before),
    }


def make_all(scratch, only, part):
    """Make the cases, in a child: encoders leave threads, and who has threads must not fork.

    Of a part (K, N) they are every N-th. Gives (name, folder, arguments or why it cannot be made)
    of each.
    """
    told = scratch / "cases.json"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            import make_hostile

            made = []
            for number, one in enumerate(make_hostile.CASES.values()):
                if only in one.name and number % part[1] == part[0]:
                    place = scratch / f"{number:03d}"
                    place.mkdir()
                    try:
                        made.append((one.name, str(place), one.make(place)))
                    except make_hostile.CannotMakeError as error:
                        made.append((one.name, str(place), str(error)))
            told.write_text(json.dumps(made))
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        sys.exit("the cases cannot be made")
    made = json.loads(told.read_text())
    told.unlink()
    return made


def run_all(scratch, results, only, part):
    """Make and run the cases; writes one JSON line for each."""
    os.environ["BLURGATE_DISABLED_PLUGINS"] = "*"
    os.environ["BLURGATE_HOME"] = str(scratch / "home")
    made = make_all(scratch, only, part)
    from blurgate import cli  # all of them before the forks
    from blurgate.cli import progress  # noqa: F401
    from blurgate.filtering import run_filter  # noqa: F401
    from blurgate.host import get_host
    from blurgate.io import video
    from blurgate.runtime import onnxruntime

    onnxruntime()
    cli.make_app()
    for kind in ("detector", "scorer", "sink"):
        list(get_host().registry(kind))
    video.TIMEOUT_S = PIPE_TIMEOUT_S
    register_detectors()
    with results.open("w", encoding="utf-8") as out:
        for name, place, arguments in made:
            if isinstance(arguments, str):
                done = {"skipped": arguments}
            else:
                done = run_one(Path(place), arguments)
            out.write(json.dumps({"name": name, "folder": place, **done}) + "\n")
            out.flush()


def message(result):
    """What a case said on stderr, apart from the summary and the names of the file."""
    lines = [line for line in result["stderr"].splitlines() if line.startswith("blurgate: ")]
    return " / ".join(line.removeprefix("blurgate: ").removeprefix("error: ") for line in lines)


def status(result):
    """The statuses of the sources, or a dash where nothing was begun."""
    return ", ".join(source["status"] for source in result["sources"]) or "-"


def cell(text):
    """Text as it can stand in a table."""
    return re.sub(r"([|`<>\\])", r"\\\1", text).replace("*", r"\*") if text else ""


def main():
    """Run the cases, or print the table."""
    arguments = sys.argv[1:]
    if arguments[0] == "--table":
        for line in Path(arguments[1]).read_text(encoding="utf-8").splitlines():
            result = json.loads(line)
            if "skipped" not in result:
                row = (result["name"], status(result), str(result["code"]), message(result))
                print("| " + " | ".join(map(cell, row)) + " |")  # noqa: T201
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("scratch", type=Path, nargs="?")
    parser.add_argument("--only", default="")
    parser.add_argument("--part", default="0/1")
    given = parser.parse_args()
    part = tuple(map(int, given.part.split("/")))
    with tempfile.TemporaryDirectory() as scratch:
        place = (given.scratch or Path(scratch)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        run_all(place, given.results.resolve(), given.only, part)


if __name__ == "__main__":
    main()
