"""`--detect-every` and `--profile-stages` of `blurgate filter`, and who has threads."""

from __future__ import annotations

import inspect
import json

import cv2
import numpy as np
import pytest

from blurgate.cli.filter import filter_command
from blurgate.finding import DETECT_EVERY, MOST_DETECT_EVERY
from blurgate.gate import Gate
from blurgate.profiling import STAGES


@pytest.fixture
def filter_(run, marker, tmp_path, monkeypatch):
    """Filter one picture in the current folder."""
    monkeypatch.chdir(tmp_path)
    image = np.full((240, 400, 3), 60, np.uint8)
    marker.draw(image, 20, 40, 140, sharp=True)
    assert cv2.imwrite("a.png", image)

    def filter_one(*arguments):
        return run(
            "filter", "a.png", "--detector", "marker", "--model", "laplacian", "--threshold", 0.4,
            "--out", "out", *arguments,
        )  # fmt: skip

    return filter_one


def summary(tmp_path):
    return json.loads((tmp_path / "out/summary.json").read_text())


def test_the_default_is_the_same_everywhere():
    of_filter = inspect.signature(filter_command).parameters["detect_every"].default
    of_gate = inspect.signature(Gate).parameters["detect_every"].default
    assert of_filter == of_gate == DETECT_EVERY


def test_a_profile_is_told_and_kept_when_asked_for(filter_, tmp_path):
    ran = filter_("--profile-stages", "--quiet")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.err.splitlines()[: 1 + len(STAGES)]] == [
        "stage",
        *STAGES,
    ]
    assert "bottleneck: " in ran.err
    profile = summary(tmp_path)["profile"]
    assert profile["frames"] == 1
    assert profile["stages"]["decode"]["calls"] == 1
    assert profile["stages"]["align"]["calls"] == 1
    assert profile["bottleneck"] in STAGES
    assert profile["stages"]["draw"]["calls"] == 0


def test_a_profile_tells_drawing_from_writing(filter_, tmp_path):
    assert filter_("--profile-stages", "--annotate", "--quiet").code == 0
    stages = summary(tmp_path)["profile"]["stages"]
    assert stages["draw"]["calls"] == 1
    assert stages["draw"]["seconds"] > 0


def test_no_profile_unless_asked_for(filter_, tmp_path):
    ran = filter_("--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "profile" not in summary(tmp_path)


@pytest.mark.parametrize("every", [0, MOST_DETECT_EVERY + 1])
def test_detect_every_out_of_range_is_wrong_usage(filter_, every):
    ran = filter_("--detect-every", every)
    assert ran.code == 2
    assert "--detect-every" in ran.err


def test_a_run_is_not_resumed_with_another_detect_every(filter_):
    assert filter_("--quiet").code == 0
    ran = filter_("--quiet", "--resume", "--detect-every", 1)
    assert ran.code == 2


@pytest.mark.parametrize("command", ["synth", "evaluate", "calibrate"])
def test_the_workers_are_all_the_threads_there_are(run, tmp_path, monkeypatch, command):
    asked = []
    monkeypatch.setattr(cv2, "setNumThreads", asked.append)
    ran = run(command, tmp_path, "--out", tmp_path / "out")  # there are no pictures
    assert ran.code != 0
    assert asked == [1]
