"""Choosing the best faces of a track: against a plain choice that has seen everything."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate import bestshot
from blurgate.bestshot import APART_S, BestShots, Row, frontality, rank
from blurgate.errors import ConfigError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.types import Verdict


def face(frame, degree, *, track=1, decision="keep", size=112.0, kps=ARCFACE_TEMPLATE, fps=10.0):
    reason = "" if decision == "keep" else "blur"
    verdict = Verdict(
        "v.mp4", frame, frame / fps, 0, track, (0.0, 0.0, size, size), 0.9, size, degree,
        0.5, decision, reason, "m",
    )  # fmt: skip
    return Row(verdict, kps, np.zeros((2, 2, 3), np.uint8))


def run(frames, n, ended=None):
    """Give rows frame by frame; returns the rows as they come out, and those that lost."""
    lost = []
    best = BestShots(n, lambda row: lost.append(row.verdict.frame_index))
    out = []
    for i, rows in enumerate(frames):
        out += best.add(rows, (ended or {}).get(i, ()))
    out += best.finish()
    return out, lost


def kept(rows):
    return [row.verdict.frame_index for row in rows if row.verdict.decision == "keep"]


def plain_choice(rows, n):
    """The documented rule, with everything at hand."""
    slots = {}
    for row in rows:
        slots.setdefault(int(row.verdict.pts_s // APART_S), []).append(row)

    def order(row):
        return (row.verdict.decision != "keep", -rank(row), row.verdict.frame_index)

    chosen = []
    for row in sorted((min(rows, key=order) for rows in slots.values()), key=order):
        gaps = [abs(row.verdict.pts_s - other.verdict.pts_s) for other in chosen]
        apart = [round(gap, 6) >= APART_S for gap in gaps]
        if all(apart) and len(chosen) < n:
            chosen.append(row)
    return sorted(row.verdict.frame_index for row in chosen)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 4), st.integers(1, 120), st.integers(0, 2**32 - 1))
def test_the_choice_is_that_of_one_who_has_seen_everything(n, count, seed):
    rng = np.random.default_rng(seed)
    degrees = np.round(rng.uniform(0, 0.5, count), 2)  # ties
    faces = [face(i, float(degree)) for i, degree in enumerate(degrees)]
    expected = plain_choice(faces, n)
    out, lost = run([[row] for row in faces], n)
    assert kept(out) == expected
    assert [row.verdict.frame_index for row in out] == list(range(count))
    assert sorted(lost) == sorted(set(range(count)) - set(expected))
    for row in out:
        good = row.verdict.frame_index in expected
        assert (row.verdict.decision, row.verdict.reason) == (
            ("keep", "") if good else ("reject", "not_best_shot")
        )


def test_the_sharpest_of_each_track_and_the_last_track_too():
    frames = [[face(i, abs(i - 20) / 100), face(i, abs(i - 33) / 100, track=2)] for i in range(40)]
    out, _ = run(frames, 1)
    chosen = [(r.verdict.track, r.verdict.frame_index) for r in out if r.verdict.decision == "keep"]
    assert sorted(chosen) == [(1, 20), (2, 33)]
    assert [(r.verdict.frame_index, r.verdict.track) for r in out] == [
        (i, t) for i in range(40) for t in (1, 2)
    ]


def test_a_track_that_has_ended_is_decided_about_at_once():
    best = BestShots(1, lambda row: None)
    assert list(best.add([face(0, 0.3)])) == []
    (lost,) = best.add([face(1, 0.2)])  # the better one waits on
    assert (lost.verdict.frame_index, lost.verdict.reason) == (0, "not_best_shot")
    assert kept(best.add([], ended=[1])) == [1]
    assert list(best.finish()) == []


def test_who_does_not_compete():
    frames = [
        [face(0, 0.9, decision="reject")],
        [face(1, 0.1)],
        [face(2, 0.0, track=None)],
        [face(3, 0.2)],
    ]
    out, _ = run(frames, 1)
    assert [(row.verdict.decision, row.verdict.reason) for row in out] == [
        ("reject", "blur"), ("keep", ""), ("keep", ""), ("reject", "not_best_shot")
    ]  # fmt: skip


def test_kept_faces_come_before_those_in_review():
    def rows():
        return [[face(0, 0.1, decision="review")], [face(10, 0.4)], [face(20, 0.2)]]

    assert [row.verdict.decision for row in run(rows(), 1)[0]] == ["reject", "reject", "keep"]
    assert [row.verdict.decision for row in run(rows(), 3)[0]] == ["review", "keep", "keep"]


def test_shots_lie_apart():
    # The three best follow each other; the others are good enough.
    degrees = [0.3] * 60
    degrees[29:32] = [0.02, 0.01, 0.03]
    out, _ = run([[face(i, d)] for i, d in enumerate(degrees)], 3)
    chosen = kept(out)
    assert 30 in chosen
    assert len(chosen) == 3
    assert min(np.diff(chosen)) >= APART_S * 10


def test_half_a_second_apart_is_enough_whatever_floats_say():
    frames = [i for i in range(300) if (i + 15) / 30 - i / 30 < APART_S]
    assert frames
    for i in frames:
        out, _ = run([[face(i, 0.1, fps=30)], [face(i + 15, 0.2, fps=30)]], 2)
        assert kept(out) == [i, i + 15]


def test_memory_is_bounded():
    best = BestShots(2, lambda row: setattr(row, "pixels", None))
    rng = np.random.default_rng(0)
    held = []
    out = []
    for i in range(3000):  # five minutes
        out += best.add([face(i, float(rng.uniform(0, 0.5)))])
        held.append(sum(row.pixels is not None for row in best._rows))
        assert len(best._rows) <= bestshot.LONGEST_S * 10 + 2
    assert max(held) <= 3 * 2 - 1
    out += best.finish()
    assert [row.verdict.frame_index for row in out] == list(range(3000))
    # Two of each stretch of 120 s, for nobody knew whether the person would ever leave.
    assert len(kept(out)) == 6


def test_so_many_faces_wait_and_no_more(monkeypatch):
    monkeypatch.setattr(bestshot, "MOST_ROWS", 50)
    best = BestShots(1, lambda row: None)
    out = []
    for i in range(100):
        out += best.add([face(i, 0.2, track=t) for t in range(7)])
        assert len(best._rows) <= 50
    out += best.finish()
    assert len(out) == 700


def turned(degrees_, pitch=0.0, roll=0.0):
    """Landmarks of a head in space, turned; seen from far away."""
    head = np.array([[-32, -35, 30], [32, -35, 30], [0, 0, 62], [-25, 32, 34], [25, 32, 34]], float)
    y, p, r = np.radians([degrees_, pitch, roll])
    yaw = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (tilt @ nod @ yaw @ head.T).T[:, :2].astype(np.float32) + 200


def test_frontality_falls_as_a_head_turns():
    assert frontality(turned(0)) == 1.0
    for axis in ({}, {"roll": 40}):
        values = [frontality(turned(angle, **axis)) for angle in range(0, 90, 5)]
        assert all(a >= b for a, b in itertools.pairwise(values))
        assert values[2] > 0.9  # 10 degrees
        assert values[9] < 0.5  # 45 degrees
        assert values[-1] == 0.0
    assert frontality(turned(30)) == pytest.approx(frontality(turned(-30)), abs=1e-6)
    assert frontality(turned(0, pitch=40)) < frontality(turned(0, pitch=15))
    assert frontality(np.zeros((5, 2), np.float32)) == 0.0
    assert frontality(turned(0) * 7 - 90) == 1.0


def test_rank_wants_sharp_large_and_frontal():
    base = rank(face(0, 0.2))
    assert base == pytest.approx(0.8)
    assert rank(face(0, 0.3)) < base
    assert rank(face(0, 0.2, size=56.0)) == pytest.approx(base / 2)
    assert rank(face(0, 0.2, size=500.0)) == base  # a recogniser sees 112 px
    assert rank(face(0, 0.2, kps=turned(60))) < base / 3


def test_times_are_not_needed():
    rows = [face(i, 0.4 - i / 1000) for i in range(60)]
    for row in rows:
        row.verdict = replace(row.verdict, pts_s=None)
    out, _ = run([[row] for row in rows], 1)
    assert kept(out) == [59]


def test_at_least_one():
    with pytest.raises(ConfigError, match="best-shot must be at least 1, got 0"):
        BestShots(0, lambda row: None)
