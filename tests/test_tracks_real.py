"""Tracks and best shots on real clips, against people who were told apart by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "check_tracks.py"
CLIPS = ("intel_asl_again.mkv", "intel_asl_learn.mkv")
"""Two people in one room: the cut between them is a hard one to see."""


@pytest.mark.shared
@pytest.mark.slow
def test_people_keep_their_numbers(shared, load):
    data = shared / "data"
    detector = str(data / "weights/scrfd_500m_bnkps.onnx")
    results = load(SCRIPT).check(data / "video", detector, CLIPS)
    for name, figures in results.items():
        people = 2 if name.startswith("joined") else 1
        assert figures["people"] == people
        assert figures["switches"] == 0, name
        if not name.startswith("joined"):
            assert (figures["tracks"], figures["IDF1"]) == (1, 1.0)


@pytest.mark.shared
@pytest.mark.slow
def test_one_person_gives_one_track_and_its_sharpest_frames(shared, run, tmp_path):
    data = shared / "data"
    ran = run(
        "filter", data / "video" / CLIPS[1], "--out", tmp_path / "o", "--best-shot", 2,
        "--detector", data / "weights/scrfd_500m_bnkps.onnx", "--model", "laplacian",
        "--threshold", 1,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    with (tmp_path / "o/faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["track"] for row in rows} == {"1"}
    kept = [row for row in rows if row["decision"] == "keep"]
    assert len(kept) == 2
    assert all(row["reason"] == "not_best_shot" for row in rows if row not in kept)
    assert float(kept[1]["time_s"]) - float(kept[0]["time_s"]) >= 0.5
    degrees = sorted(float(row["blur_degree"]) for row in rows)
    # Frontality and size have a say too: among the sharpest fifth.
    assert min(float(row["blur_degree"]) for row in kept) <= degrees[len(degrees) // 5]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([(0, 1, 1), (0.1, 1, 1)], {"switches": 0, "returns": 0, "mergers": 0, "IDF1": 1.0}),
        ([(0, 1, 1), (0.1, 1, 2)], {"switches": 1, "returns": 0, "mergers": 0, "IDF1": 0.5}),
        ([(0, 1, 1), (9.0, 1, 2)], {"switches": 0, "returns": 1, "mergers": 0, "IDF1": 0.5}),
        ([(0, 1, 1), (0.1, 2, 1)], {"switches": 0, "returns": 0, "mergers": 1, "IDF1": 0.5}),
    ],
)
def test_what_the_figures_mean(load, seen, expected):
    figures = load(SCRIPT).figures(seen)
    assert {key: figures[key] for key in expected} == expected


def test_labels_lie_between_labels(load):
    module = load(SCRIPT)
    labels = [[0, 10, 20, 1], [10, 20, 40, 1], [50, 0, 0, 1], [4, 5, 6, 2]]
    assert module.place_of(labels, 5) == {1: (15.0, 30.0)}
    assert module.place_of(labels, 4) == {1: (14.0, 28.0), 2: (5.0, 6.0)}
    assert module.place_of(labels, 30) == {}
