"""Detectors side by side: matching, average precision, errors, and the command."""

from __future__ import annotations

import errno
import json
import re
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, InputError, MissingModelError
from blurgate.evaluation import detection, detection_command, detection_sets
from blurgate.evaluation.detection import Contender, Found, Results, Truth
from blurgate.evaluation.detection_ap import Matches, average_precision, match
from blurgate.evaluation.detection_gallery import MOST, Gallery, sheet
from blurgate.evaluation.detection_timing import time_detectors
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.hookspecs import hookimpl
from blurgate.host import get_host
from blurgate.interfaces import ModelInfo
from blurgate.training.detection.annotations import Face, read_annotations, write_annotations
from blurgate.types import Detections, Frame


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def flags(*values):
    return np.array(values, np.bool_)


A, B, C = (0, 0, 10, 10), (100, 0, 110, 10), (200, 0, 210, 10)


def ap(faces, found, scores, *, ignore=None, iou=0.5, least_px=0.0):
    """AP of one picture."""
    faces, found = boxes(*faces), boxes(*found)
    ignore = np.zeros(len(faces), np.bool_) if ignore is None else flags(*ignore)
    counted = ~ignore & ((faces[:, 2:] - faces[:, :2]).min(axis=1) >= least_px)
    matches = match(faces, ignore, found, iou, least_px)
    return average_precision([np.float32(scores)], [matches], int(counted.sum()))


# --- the metric, by hand


@pytest.mark.parametrize(
    ("found", "scores", "expected"),
    [
        ([A, B], [0.9, 0.8], 1.0),
        ([], [], 0.0),
        ([A], [0.9], 0.5),
        ([C, A, B], [0.9, 0.8, 0.7], 2 / 3),  # precision 0, 1/2, 2/3, made to fall: 2/3 throughout
        ([A, C, B], [0.9, 0.8, 0.7], 0.5 * 1 + 0.5 * 2 / 3),
        ([A, A, B], [0.9, 0.8, 0.7], 0.5 * 1 + 0.5 * 2 / 3),  # the second find of a face is wrong
        ([A, C, B], [0.9, 0.7, 0.7], 0.5 * 1 + 0.5 * 2 / 3),  # a tie, in either order
        ([A, B, C], [0.9, 0.7, 0.7], 0.5 * 1 + 0.5 * 2 / 3),
    ],
)
def test_average_precision_of_two_faces(found, scores, expected):
    assert ap([A, B], found, scores) == pytest.approx(expected)


def test_without_faces_there_is_no_average_precision():
    assert ap([], [A], [0.9]) is None
    assert ap([A], [A], [0.9], ignore=[True]) is None
    assert average_precision([], [], 0) is None


def test_what_lies_on_an_ignored_region_does_not_count():
    assert ap([A, B], [B, A], [0.9, 0.8], ignore=[False, True]) == 1.0
    # Much smaller than the region, several of them: IoU says nothing, the covered share does.
    inside = [(100, 0, 104, 4), (104, 4, 108, 8), A]
    assert ap([A, B], inside, [0.9, 0.85, 0.8], ignore=[False, True]) == 1.0
    # Only a quarter of it lies on the region.
    assert ap([A, B], [(105, 5, 115, 15), A], [0.9, 0.8], ignore=[False, True]) == 0.5
    # A face that counts goes first, even where an ignored region covers the find.
    both = [A, (-5, -5, 15, 15)]
    assert ap(both, [A], [0.9], ignore=[False, True]) == 1.0


def test_small_faces_are_ignored_and_so_are_small_finds():
    small = (50, 50, 55, 55)
    assert ap([A, small], [small, A, (70, 70, 75, 75)], [0.9, 0.8, 0.95], least_px=8) == 1.0
    assert ap([A, small], [(70, 70, 79, 79), A], [0.9, 0.8], least_px=8) == 0.5
    # A large find of a small face is one of an ignored face, if it overlaps it as finds must.
    little, large = (50, 50, 57, 57), (48, 48, 59, 59)  # 49 of its 121 pixels are on the face
    assert ap([A, little], [large, A], [0.9, 0.8], iou=0.4, least_px=8) == 1.0
    assert ap([A, little], [large, A], [0.9, 0.8], iou=0.5, least_px=8) == 0.5
    # A small find of a large face is right all the same.
    assert ap([(0, 0, 10, 10)], [(0, 0, 7, 10)], [0.9], least_px=8) == 1.0


def test_a_find_takes_the_face_it_covers_most_and_each_face_is_found_once():
    faces = boxes((0, 0, 10, 10), (4, 0, 14, 10))
    found = boxes((3, 0, 13, 10), (3, 0, 13, 10), (3, 0, 13, 10))
    matches = match(faces, flags(False, False), found, 0.5)
    assert matches.face.tolist() == [1, 0, -1]
    assert matches.wrong.tolist() == [False, False, True]


def test_the_overlap_that_is_asked_for_is_enough():
    half = (0, 0, 10, 5)
    assert ap([A], [half], [0.9]) == 1.0
    assert ap([A], [(0, 0, 10, 4.9)], [0.9]) == 0.0
    assert ap([A], [(0, 0, 10, 4.9)], [0.9], iou=0.3) == 1.0


# --- the metric, against another implementation


def slow_iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - shared
    return shared / area if area > 0 else 0


def slow_ap(pictures, iou):
    """At every threshold match anew; then add up the best precision at or beyond each recall."""
    thresholds = sorted({s for _, _, _, scores in pictures for s in scores}, reverse=True)
    n_faces = sum(not i for _, ignore, _, _ in pictures for i in ignore)
    points = []
    for threshold in thresholds:
        right = wrong = 0
        for faces, ignore, found, scores in pictures:
            free = set(range(len(faces)))
            for box, score in zip(found, scores, strict=True):
                if score < threshold:
                    continue
                good = [(slow_iou(box, faces[i]), -i) for i in free if not ignore[i]]
                best = max(good, default=(0, 0))
                if good and best[0] >= iou:
                    free.discard(-best[1])
                    right += 1
                    continue
                area = (box[2] - box[0]) * (box[3] - box[1])
                on_ignored = any(
                    max(min(box[2], f[2]) - max(box[0], f[0]), 0)
                    * max(min(box[3], f[3]) - max(box[1], f[1]), 0)
                    >= 0.5 * area
                    or slow_iou(box, f) >= iou
                    for f, i in zip(faces, ignore, strict=True)
                    if i
                )
                wrong += not on_ignored
        if right + wrong:
            points.append((right / n_faces, right / (right + wrong)))
    total = 0.0
    before = 0.0
    for recall in sorted({r for r, _ in points}):
        total += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return total


@pytest.mark.parametrize("seed", range(25))
def test_average_precision_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(4):
        corner = rng.integers(0, 60, (rng.integers(1, 5), 2))
        faces = np.concatenate([corner, corner + rng.integers(8, 30, corner.shape)], axis=1)
        ignore = rng.random(len(faces)) < 0.25
        near = faces[rng.integers(0, len(faces), rng.integers(0, 9))]
        found = near + rng.integers(-6, 7, near.shape)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        scores = np.sort(rng.integers(1, 6, len(found)))[::-1] / 8  # many ties
        pictures.append((faces, ignore, found, scores))
    pictures[0][1][0] = False
    iou = float(rng.choice([0.3, 0.5]))
    matches = [match(boxes(*f), i, boxes(*d), iou) for f, i, d, _ in pictures]
    n_faces = sum(int((~i).sum()) for _, i, _, _ in pictures)
    got = average_precision([np.float32(s) for *_, s in pictures], matches, n_faces)
    assert got == pytest.approx(slow_ap(pictures, iou))


# --- figures of a set


def truth(name, *faces, kps=None, ignore=None, degrees=None):
    n = len(faces)
    points = np.full((n, 5, 2), np.nan, np.float32) if kps is None else np.float32(kps)
    ignored = np.zeros(n, np.bool_) if ignore is None else flags(*ignore)
    return Truth(name, boxes(*faces), points, ignored, degrees)


def found(*rows, kps=None):
    points = np.zeros((len(rows), 5, 2), np.float32) if kps is None else np.float32(kps)
    return Found(boxes(*(r[:4] for r in rows)), np.float32([r[4] for r in rows]), points)


@pytest.fixture
def hurried(monkeypatch):
    """Time each detector once: the tests need a figure and no good one."""
    once = partial(time_detectors, rounds=1)
    monkeypatch.setattr(detection_command, "time_detectors", once)


POINTS = np.float32([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]])


def moved(x, y):
    return POINTS + np.float32([x, y])


def test_landmark_errors_are_of_faces_that_all_detectors_found():
    faces = [(0, 0, 40, 40), (100, 0, 140, 40), (200, 0, 220, 20)]  # the last is too small
    kps = [POINTS, moved(100, 0), POINTS / 2 + np.float32([200, 0])]
    results = Results([truth("p", *faces, kps=kps)])
    off = [
        moved(3, 4),
        moved(100, 0),
        POINTS / 2 + np.float32([207, 0]),
    ]  # 5 px of 20 between the eyes
    results.default = {
        "both": [found(*((*f, 0.9) for f in faces), kps=off)],
        "first": [found((*faces[0], 0.9), kps=[moved(0, 2)])],
    }
    errors = detection.landmark_errors(results)
    assert errors["both"] == {
        "mean": pytest.approx(0.25),
        "median": pytest.approx(0.25),
        "faces": 1,
    }
    assert errors["first"]["mean"] == pytest.approx(0.1)
    del results.default["first"]
    errors = detection.landmark_errors(results)
    assert errors["both"] == {
        "mean": pytest.approx(0.125),
        "median": pytest.approx(0.125),
        "faces": 2,
    }


def test_recall_by_size_and_degree_and_false_alarms():
    faces = [(0, 0, 20, 20), (100, 0, 140, 60), (200, 0, 300, 100), (400, 0, 440, 40)]
    degrees = np.float32([0.1, 0.3, 1.0, 0.5])
    results = Results([truth("p", *faces, ignore=[0, 0, 0, 1], degrees=degrees)])
    hits = found((*faces[1], 0.9), (*faces[2], 0.8), (500, 0, 540, 40, 0.7), (*faces[3], 0.6))
    results.default = {"d": [hits]}
    part = detection.summarise(results)["d"]["default"]
    assert (part["faces"], part["false_alarms"]) == (3, 1)
    assert part["recall"] == pytest.approx(2 / 3)
    assert part["precision"] == pytest.approx(2 / 3)
    assert part["recall_by_size"]["16-32"] == {"recall": 0.0, "faces": 1}
    assert part["recall_by_size"]["32-64"] == {"recall": 1.0, "faces": 1}
    assert part["recall_by_size"]["128-"] == {"recall": None, "faces": 0}
    assert part["recall_by_degree"]["0-0.3"] == {"recall": 0.0, "faces": 1}
    assert part["recall_by_degree"]["0.3-0.7"] == {"recall": 1.0, "faces": 1}
    assert part["recall_by_degree"]["0.7-1"] == {"recall": 1.0, "faces": 1}


class Fixed:
    """A detector that finds what it is told to."""

    def __init__(self, *rows):
        self.info = ModelInfo("fixed", "")
        self._found = found(*rows)

    def __call__(self, frames):
        f = self._found
        return [Detections(frame, f.boxes, f.scores, f.kps) for frame in frames]


def test_both_runs_go_into_the_curve_and_boxes_are_cut_at_the_border():
    image = np.zeros((50, 60, 3), np.uint8)
    pictures = iter([(image, truth("p", (-20, 0, 20, 40), (70, 0, 90, 20)))])
    low = Fixed((-20, 0, 20, 40, 0.1), (45, 30, 55, 50, 0.05))  # so the default run looks again
    default = Fixed((-40, 0, 20, 40, 0.6), (30, 10, 40, 20, 0.55))
    results = detection.run_set(pictures, [Contender("c", low, default)])
    (seen,) = results.truths
    assert seen.boxes[0].tolist() == [0, 0, 20, 40]
    assert seen.ignore.tolist() == [False, True]  # the second lies outside
    (joined,) = results.low["c"]
    assert joined.boxes.tolist() == [[0, 0, 20, 40], [30, 10, 40, 20], [45, 30, 55, 50]]
    assert joined.scores.tolist() == pytest.approx([0.6, 0.55, 0.05])
    assert detection.summarise(results)["c"]["ap"]["0.5"]["all"] == 1  # as at the default score


def test_what_both_runs_found_is_in_the_curve_once():
    image = np.zeros((50, 60, 3), np.uint8)
    low = Fixed((0, 0, 20, 40, 0.8), (4, 0, 24, 40, 0.3), (30, 0, 50, 40, 0.2))
    default = Fixed((0, 0, 20, 40, np.nextafter(np.float32(0.8), 1)))  # in another batch
    for runs in ((low, default), (low, Fixed((0, 0, 20, 40, 0.8))), (low, Fixed())):
        results = detection.run_set(iter([(image, truth("p"))]), [Contender("c", *runs)])
        assert results.low["c"][0].scores.tolist() == pytest.approx([0.8, 0.3, 0.2])


# --- blurred pictures


def checker(size=150, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (size // 6, size // 6, 3)).astype(np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_NEAREST)


class Contrast:
    """An embedder whose vector turns with the contrast of fine detail."""

    info = ModelInfo("contrast", "")

    def __call__(self, crops):
        fine = [float(np.abs(np.diff(c.astype(float), axis=1)).mean()) for c in crops]
        angle = np.array(fine) / 60
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_blurred_pictures_have_degrees_of_their_faces(tmp_path):
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", checker())[1].tobytes())
    kps = (ARCFACE_TEMPLATE + 20).tolist()
    faces = [Face((40, 40, 120, 130), kps), Face((0, 0, 40, 40)), Face((0, 0, 20, 20), kps)]
    write_annotations(tmp_path, {"a.png": faces})
    (annotated,) = read_annotations(tmp_path)
    assert detection_sets.has_landmarks(annotated)
    given = list(detection_sets.blurred_pictures([annotated], Contrast(), per_picture=6, seed=3))
    again = list(detection_sets.blurred_pictures([annotated], Contrast(), per_picture=6, seed=3))
    assert len(given) == 6
    for (image, row), (other, _) in zip(given, again, strict=True):
        assert (image == other).all()
        assert image.shape == (150, 150, 3)
        assert row.ignore.tolist() == [False, True, True]
        assert 0 <= row.degrees[0] <= 1
        assert np.isnan(row.degrees[1:]).all()
    # More blur takes more of the contrast, and so a larger degree.
    softness = [-float(np.abs(np.diff(i.astype(float), axis=1)).mean()) for i, _ in given]
    order = np.argsort(softness)
    degrees = np.array([row.degrees[0] for _, row in given])[order]
    assert degrees[-1] > degrees[0]
    assert np.corrcoef(np.argsort(np.argsort(degrees)), np.arange(6))[0, 1] > 0.5


def test_boxes_without_landmarks_are_not_blurred(tmp_path):
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", checker())[1].tobytes())
    write_annotations(tmp_path, {"a.png": [Face((40, 40, 120, 130))]})
    assert not detection_sets.has_landmarks(read_annotations(tmp_path)[0])


# --- failures and the command


def test_the_gallery_keeps_the_worst(tmp_path):
    gallery = Gallery()
    image = np.zeros((100, 200, 3), np.uint8)
    for i in range(MOST + 6):
        alarms = [(40 * j, 50, 40 * j + 30, 80, 0.5) for j in range(i % 3)]
        gallery.add("d", image, truth(f"p{i}", (0, 0, 40, 40)), found((0, 0, 40, 40, 0.9), *alarms))
    kept = gallery.failures("d")
    weights = [failure.weight for failure in kept]
    assert weights == sorted(weights, reverse=True)
    assert set(weights) == {1, 2}
    assert kept[0].caption == "p2: 0 missed, 2 false alarms"
    assert len(kept) == sum(i % 3 > 0 for i in range(MOST + 6))
    for i in range(MOST):
        gallery.add("d", image, truth(f"q{i}", (0, 0, 40, 40)), found((90, 0, 130, 40, 0.9)))
    kept = gallery.failures("d")
    assert len(kept) == MOST
    assert {f.weight for f in kept} == {2}
    drawn = sheet(kept, "title")
    for colour in ((40, 40, 230), (0, 215, 255)):  # a miss, a false alarm
        assert (drawn == colour).all(axis=2).any()


@pytest.fixture
def folder(tmp_path, marker):
    """Two pictures with two markers each; of one, one is not annotated, and one is nowhere."""
    where = tmp_path / "set <1>"
    where.mkdir()
    rows = {}
    for i in range(2):
        image = np.full((200, 320, 3), 90, np.uint8)
        marker.draw(image, 20, 30, 80, sharp=True)
        marker.draw(image, 200, 60, 100, sharp=True, seed=1)
        cv2.imwrite(str(where / f"{i}.png"), image)
        (seen,) = marker.MarkerDetector()([Frame(image, "", 0, None)])
        rows[f"{i}.png"] = [
            Face(tuple(b.tolist()), k.tolist()) for b, k in zip(seen.boxes, seen.kps, strict=True)
        ]
    rows["1.png"][1] = Face((150, 150, 190, 190))
    write_annotations(where, rows)
    empty = tmp_path / "empty"
    empty.mkdir()
    cv2.imwrite(str(empty / "e.png"), image)
    return where, empty


class Double:
    """Finds what the marker detector finds, each moved by its size: all wrong."""

    info = ModelInfo("double", "")

    def __init__(self, marker):
        self._marker = marker.MarkerDetector()

    def __call__(self, frames):
        out = []
        for seen in self._marker(frames):
            sides = np.tile(seen.boxes[:, 2:] - seen.boxes[:, :2], 2)
            out.append(Detections(seen.frame, seen.boxes + sides, seen.det_scores, seen.kps))
        return out


@pytest.fixture
def double(marker):
    class Plugin:
        @hookimpl
        def register_detectors(self, register):
            register("double", lambda model, runtime, options: Double(marker))

        @hookimpl
        def register_embedders(self, register):
            register("contrast", lambda model, runtime: Contrast())

    host = get_host()
    host.add(Plugin(), "double-plugin")
    try:
        yield
    finally:
        host.remove("double-plugin")


def test_the_command_compares_detectors(folder, double, hurried, tmp_path, run):
    where, empty = folder
    out = tmp_path / "out"
    ran = run(
        "evaluate", where, "--detector", "marker", "--detector", "double",
        "--negatives", empty, "--embedder", "contrast", "--out", out,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    results = json.loads((out / "results.json").read_text())
    quality = results["sets"]["set <1>"]
    # Three of four found and one false alarm: scores .9 .9 right, .6 right, .6 wrong.
    assert quality["marker"]["ap"]["0.5"]["all"] == pytest.approx(0.5 + 0.25 * 0.75)
    assert quality["marker"]["default"]["recall"] == 0.75
    assert quality["marker"]["default"]["false_alarms"] == 1
    assert quality["double"]["ap"]["0.3"]["all"] == 0
    assert quality["double"]["default"]["false_alarms"] == 4
    blurred = results["sets"]["set <1>, blurred"]
    assert "ap" not in blurred["marker"]
    by_degree = blurred["marker"]["default"]["recall_by_degree"]
    assert sum(part["faces"] for part in by_degree.values()) == 2 * 3  # two blurs of three faces
    assert results["sets"]["without faces"]["marker"]["default"]["false_alarms"] == 2
    assert results["timing"]["marker"]["network_ms"] is None
    assert results["timing"]["marker"]["call_ms"] > 0
    assert re.search(r"marker +0\.688 +0\.688", ran.out)
    assert re.search(r"without faces\ndetector.*\nmarker +1 +2 +200\.00", ran.out)
    page = (out / "detection.html").read_text()
    assert "set &lt;1&gt;" in page
    assert "set <1>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    drawn = cv2.imread(str(out / "set__1__marker.png"))
    assert drawn is not None
    assert {path.suffix for path in out.iterdir()} == {".json", ".html", ".png"}


def test_sets_of_one_name_have_a_sheet_each(folder, double, hurried, tmp_path, run, monkeypatch):
    for parent in ("a", "b"):
        shutil.copytree(folder[0], tmp_path / parent / "val")
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", "a/val", "b/val", "--detector", "double", "--out", "out")
    assert ran.code == 0, ran.err
    sheets = {path.name for path in Path("out").glob("*.png")}
    assert sheets == {"a_val_double.png", "b_val_double.png"}
    ran = run("evaluate", "a/val", "a/val", "--detector", "double")
    assert (ran.code, "a set of pictures is given twice" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("my set", "my_set"), "the sets 'my set' and 'my_set' would have one name"),
        (("without faces",), "the sets 'without faces' and 'without faces' would have one name"),
        (("a", "a, blurred"), "the sets 'a, blurred' and 'a, blurred' would have one name"),
    ],
)
def test_sets_do_not_replace_each_other(folder, tmp_path, run, monkeypatch, sets, message):
    for name in sets:
        shutil.copytree(folder[0], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    ran = run("evaluate", *sets, "--detector", "marker", "--out", "out")
    assert ran.code == 2
    assert message in ran.err
    assert not Path("out").exists()


def test_no_sheet_stays_of_an_earlier_result(folder, double, hurried, tmp_path):
    out = tmp_path / "out"

    def names_after(detector):
        detection_command.run([detector], [str(folder[0])], out, blurs=0, quiet=True)
        return {path.name for path in out.iterdir()}

    wanted = {"results.json", "detection.html"}
    assert names_after("double") == wanted | {"set__1__double.png"}
    for name in ("set__1__other.png", "notes.txt"):
        (out / name).write_text("my own")
    (out / "evaluation.html").write_text("left by an evaluation of scorers")
    wanted |= {"set__1__other.png", "notes.txt"}
    assert names_after("marker") == wanted | {"set__1__marker.png"}


@pytest.mark.parametrize(
    ("options", "long_side", "least", "canvas"),
    [((), 640, 0.5, [384, 640]), (("--det-size", 320, "--min-score", 0.7), 320, 0.7, [192, 320])],
)
def test_size_and_least_score_are_those_of_the_user(
    folder, marker, hurried, run, options, long_side, least, canvas
):
    seen = []

    class Plugin:
        @hookimpl
        def register_detectors(self, register):
            def make(model, runtime, options):
                seen.append((options.long_side, options.min_score))
                return marker.MarkerDetector()

            register("noting", make)

    plugin = Plugin()
    get_host().add(plugin, "noting-plugin")
    try:
        ran = run("evaluate", folder[0], "--detector", "noting", *options, "--json", "--quiet")
    finally:
        get_host().remove("noting-plugin")
    assert ran.code == 0, ran.err
    assert seen == [(long_side, 0.02), (long_side, least)]
    facts = json.loads(ran.out)
    assert (facts["det_size"], facts["default_score"]) == (long_side, least)
    assert facts["timing"]["noting"]["size"] == canvas


def test_results_as_json(folder, double, hurried, run):
    ran = run("evaluate", folder[0], "--detector", "marker", "--embedder", "contrast", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["detectors"] == {"marker": "marker"}


def test_without_an_embedder_nothing_is_blurred_and_it_says_so(folder, hurried, run, monkeypatch):
    monkeypatch.setattr("blurgate.zoo.default_name", _missing)
    ran = run("evaluate", folder[0], "--detector", "marker")
    assert ran.code == 0, ran.err
    assert "no pictures are blurred" in ran.err
    assert "blurred" not in ran.out


def _missing(kind):
    raise MissingModelError(f"no {kind} model is on this machine")


def test_a_detector_given_twice_and_an_out_that_is_a_file(tmp_path):
    with pytest.raises(ConfigError, match="a detector is given twice"):
        detection_command.run(["a", "a"], [str(tmp_path)])
    (tmp_path / "f").write_text("")
    with pytest.raises(ConfigError, match="is a file; choose another --out"):
        detection_command.run(["a"], [str(tmp_path)], tmp_path / "f")
    with pytest.raises(ConfigError, match="f is a file; choose another --out"):
        detection_command.run(["a"], [str(tmp_path)], tmp_path / "f" / "below")


def test_only_an_earlier_result_is_replaced(folder, hurried, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "results.json").write_text("keep")

    def compare(out):
        detection_command.run(["marker"], [str(folder[0])], out, blurs=0, quiet=True)

    with pytest.raises(ConfigError, match=r"mine is not empty and holds no result of blurgate"):
        compare(mine)
    assert (mine / "results.json").read_text() == "keep"
    results = tmp_path / "out/results.json"
    compare(results.parent)
    text = results.read_text()
    results.write_text(text.replace('"timing"', '"more": 1, "timing"'))
    compare(results.parent)
    assert "more" not in json.loads(results.read_text())


def test_a_full_disk_leaves_the_tables_on_stdout(folder, hurried, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(detection_command, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        detection_command.run(["marker"], [str(folder[0])], tmp_path / "out", blurs=0, quiet=True)
    assert "recall" in capsys.readouterr().out


def test_a_folder_without_annotations_and_one_without_pictures(folder, tmp_path):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    with pytest.raises(InputError, match="holds no annotations"):
        detection_command.run(["marker"], [str(nothing)])
    (nothing / "a.txt").write_text("")
    with pytest.raises(InputError, match="nothing"):
        detection_command.run(["marker"], [str(folder[0])], negatives=[str(nothing)])


def test_sets_of_one_name_are_told_apart(folder, double, tmp_path):
    other = tmp_path / "other" / folder[0].name
    other.parent.mkdir()
    folder[0].rename(other)
    again = tmp_path / folder[0].name
    again.mkdir()
    for file in other.iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    facts = detection_command.run(
        ["marker"], [str(other), str(again)], blurs=0, timing=False, quiet=True
    )
    assert list(facts["sets"]) == [str(other), str(again)]


@pytest.mark.parametrize("layout", ["wider", "parts"])
def test_of_training_and_validation_the_latter_is_measured(folder, hurried, tmp_path, layout):
    data = tmp_path / "data"
    wider = data / "wider_face_split"
    for part, count in (("train", 2), ("val", 1)):
        if layout == "parts":
            shutil.copytree(folder[0], data / part)
            rows = {f"{i}.png": [[20, 30, 100, 110]] for i in range(count)}
            (data / part / "annotations.json").write_text(json.dumps(rows))
            continue
        shutil.copytree(folder[0], data / f"WIDER_{part}" / "images")
        wider.mkdir(exist_ok=True)
        rows = "".join(f"{i}.png\n1\n20 30 80 80 0 0 0 0 0 0\n" for i in range(count))
        (wider / f"wider_face_{part}_bbx_gt.txt").write_text(rows)

    def measured(where):
        facts = detection_command.run(["marker"], [str(where)], blurs=0, timing=False, quiet=True)
        (found,) = facts["sets"].values()
        return found["marker"]["pictures"]

    assert measured(data) == 1
    train = data / "train" if layout == "parts" else wider / "wider_face_train_bbx_gt.txt"
    assert measured(train) == 2
    if layout == "parts":  # a file of its own says what the folder is
        rows = {"train/0.png": [], "train/1.png": [], "val/0.png": [[20, 30, 100, 110]]}
        (data / "annotations.json").write_text(json.dumps(rows))
        assert measured(data) == 3


def test_detectors_take_turns_when_they_are_timed(monkeypatch):
    order = []

    class Noting:
        def __init__(self, name):
            self._name = name
            self.info = ModelInfo(name, "")

        def __call__(self, frames):
            order.append((self._name, frames[0].image.shape))
            return []

    monkeypatch.setattr("blurgate.zoo.resolve", lambda kind, name: None)
    contenders = [Contender(name, Noting(name), Noting(name)) for name in "ab"]
    times = time_detectors(contenders, rounds=4)
    assert order == [(name, (384, 640, 3)) for _ in range(4) for name in "aabb"]
    assert times["a"]["call_fastest_ms"] <= times["a"]["call_ms"]
    assert times["a"]["network_ms"] is None


def test_what_is_found_once_is_not_found_again():
    """A match is an object of its own; nothing of the input is changed."""
    faces, ignore = boxes(A, B), flags(False, False)
    first = match(faces, ignore, boxes(A), 0.5)
    assert isinstance(first, Matches)
    assert ignore.tolist() == [False, False]
    assert match(faces, ignore, boxes(A), 0.5).found.tolist() == [True, False]


@pytest.mark.shared
def test_scrfd_on_annotated_photographs(shared, tmp_path):
    """The figures of the manifest: SCRFD-2.5G finds 43 of 43 faces of dlib's nine pictures."""
    rows = json.loads((shared / "data/detection/annotations.json").read_text())
    names = [name for name in rows if "dlib" in name][:1]
    assert names
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((shared / "data/detection" / name).read_bytes())
    (tmp_path / "annotations.json").write_text(json.dumps({name: rows[name] for name in names}))
    weights = str(shared / "data/weights/scrfd_2.5g_bnkps.onnx")
    facts = detection_command.run([weights], [str(tmp_path)], blurs=0, timing=False, quiet=True)
    (row,) = next(iter(facts["sets"].values())).values()
    assert row["default"]["recall"] == 1.0
    assert row["ap"]["0.5"]["all"] > 0.95
