"""What the command line does with hostile input is what docs/hostile-input.md says it does.

The cases are made by scripts/make_hostile.py and run by runner.py, each in a process of its own
with limits. Here is compared what came of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "hostile-input.md"
MOST_CPU_S = 10
MOST_MB = 700
FRAMES = 24
PLAYABLE = ("whole: ", "size that changes", "pixel format", "rotation", "no timestamps",
            "timestamps that", "picture with the ending")  # fmt: skip

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the cases run in forks")


def table():
    """Case -> (status, exit code, message) of the table in the docs."""
    text = TABLE.read_text(encoding="utf-8").partition("<!-- cases -->")[2]
    rows = {}
    for line in text.partition("<!-- end of cases -->")[0].splitlines():
        if line.startswith("| ") and not line.startswith(("| case |", "| --- |")):
            name, status, code, message = map(
                unescaped, re.split(r"(?<!\\)\|", line.strip().strip("|"), maxsplit=3)
            )
            rows[name] = (status, int(code), message)
    return rows


def unescaped(cell):
    return re.sub(r"\\([|`<>\\*])", r"\1", cell.strip().rstrip("|").strip())


ROWS = table()


@pytest.fixture(scope="module")
def runner(load):
    return load(Path(__file__).parent / "runner.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Case -> what came of it; half of them are run beside the others."""
    folder = tmp_path_factory.mktemp("hostile")
    pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')
    program = str(Path(__file__).parent / "runner.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-P", program, f"{part}.jsonl", f"cases{part}", "--part", f"{part}/2"],
            cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
        )
        for part in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "".join(said)
    lines = "".join((folder / f"{part}.jsonl").read_text("utf-8") for part in range(2)).splitlines()
    return {result["name"]: result for result in map(json.loads, lines)}


def result_of(results, name):
    result = results[name]
    if "skipped" in result:
        pytest.skip(result["skipped"])
    return result


@pytest.mark.timeout(600)  # the first one runs them all
def test_every_case_is_in_the_table(load, results):
    cases = load(ROOT / "scripts" / "make_hostile.py").CASES
    assert sorted(results) == sorted(cases)
    assert set(cases) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_status_message_and_exit_code_are_the_documented_ones(results, runner, name):
    result = result_of(results, name)
    status, code, message = ROWS[name]
    said = result["stderr"]
    assert not result["timed_out"], "it hung"
    assert (runner.status(result), result["code"]) == (status, code), said
    if not damaged(name):
        assert runner.message(result) == message
    elif av.__version__ == made_with():
        assert without_numbers(runner.message(result)) == without_numbers(message)
    else:
        assert bool(runner.message(result)) == bool(message)


def without_numbers(text):
    return re.sub(r"\d+(\.\d+)?", "N", text)


def damaged(name):
    """Whether libraries of another version may find another number of damaged frames."""
    return name.startswith(("truncated", "bit flips", "header only", "timestamps", "EXIF", "size"))


def made_with():
    return re.search(r"made with PyAV ([\d.]+)", TABLE.read_text(encoding="utf-8"))[1].rstrip(".")


@pytest.mark.parametrize("name", ROWS)
def test_nothing_crashes_hangs_or_eats_memory(results, name):
    result = result_of(results, name)
    said = result["stderr"]
    assert result["code"] in {0, 2, 3, 4, 5}, said
    assert "Traceback" not in said + result["stdout"]
    for line in said.splitlines():
        assert line.startswith("blurgate: ") or result["sources"], line
    assert "\x1b" not in said
    assert result["cpu_seconds"] < MOST_CPU_S
    assert result["megabytes"] < MOST_MB
    assert not result["strays"], "something was written outside"
    if result["code"] in {0, 4}:
        assert result["sources"]


def test_every_frame_of_a_whole_video_is_counted(results):
    whole = {name: r for name, r in results.items() if name.startswith("whole: ")}
    made = {name: r for name, r in whole.items() if "skipped" not in r}
    assert len(made) >= 10
    for name, result in made.items():
        (source,) = result["sources"]
        assert (source["frames"], source["frames_failed"]) == (FRAMES, 0), name


def test_frames_read_and_failed_are_those_that_ffprobe_counts(results):
    """Of every container and codec, and where sizes, formats or times change in the middle."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    told, counted = {}, {}
    for name, result in results.items():
        if name.startswith(PLAYABLE) and "skipped" not in result:
            (path,) = Path(result["folder"]).glob("a.*")
            found = subprocess.run(
                ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames",
                 "-show_entries", "stream=nb_read_frames", "-of", "json", path],
                check=True, capture_output=True,
            ).stdout  # fmt: skip
            counted[name] = int(json.loads(found)["streams"][0]["nb_read_frames"])
            (source,) = result["sources"]
            told[name] = source["frames"] + source["frames_failed"]
    assert len(told) >= 15
    assert told == counted


def test_what_was_lost_is_counted_and_placed(results):
    """Of a damaged video either every frame came out, or the summary says how many, or where."""
    n = 0
    for name, result in results.items():
        if not name.startswith(("truncated: ", "bit flips: ")) or not result.get("sources"):
            continue
        (source,) = result["sources"]
        if source["status"] == "partial":
            n += 1
            assert re.search(r"\d+ of \d+ frames|ends at [\d.]+ of [\d.]+ s|after frame \d+",
                             source["error"]), (name, source["error"])  # fmt: skip
            if source["frames_failed"]:
                assert f"{source['frames_failed']} of " in source["error"]
        elif source["status"] == "ok":
            assert source["error"] == "", name
    assert n >= 8


def test_a_name_cannot_be_taken_for_a_formula(results):
    for name in ("name with a leading =", "name with a leading @", "name with a leading dash"):
        for source in result_of(results, name)["sources"]:
            assert source["source"].startswith("./")
