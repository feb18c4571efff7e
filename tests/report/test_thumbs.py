"""Small pictures: from crops, or cut out of what the sources were."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from blurgate.report.results import read_results
from blurgate.report.thumbs import make_thumbs, small
from blurgate.tables import SCORE_COLUMNS


def grey(value, shape=(112, 112)):
    return np.full((*shape, 3), value, np.uint8)


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def score_table(path, rows):
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [c.name for c in SCORE_COLUMNS], lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({"face": 0, "face_px": 80, "blur_degree": 0.2, "status": "ok", **row})
    return path


@pytest.mark.parametrize("workers", [1, 3])
def test_crops_become_small_and_stay_with_their_faces(make, tmp_path, workers):
    faces = [{"source": "a.mp4", "time_s": "1", "degree": f"0.{9 - i}", "picture": grey(20 * i)}
             for i in range(9)]  # fmt: skip
    results = read_results(make.write_run(tmp_path / "run", faces))
    thumbs = make_thumbs(results, 99, workers=workers)
    assert sorted(thumbs.jpeg) == list(range(9))
    for i, jpeg in thumbs.jpeg.items():
        picture = decoded(jpeg)
        assert picture.shape == (72, 72, 3)
        np.testing.assert_allclose(picture, 20 * i, atol=2)


def test_too_many_are_thinned_evenly_from_sharp_to_blurred(make, tmp_path):
    faces = [{"source": "a.mp4", "time_s": "1", "degree": f"{i / 100:.6g}", "picture": grey(2 * i)}
             for i in reversed(range(101))]  # fmt: skip
    results = read_results(make.write_run(tmp_path / "run", faces))
    thumbs = make_thumbs(results, 11)
    assert sorted(results.faces[i].blur_degree for i in thumbs.jpeg) == pytest.approx(
        [k / 10 for k in range(11)]
    )
    assert (thumbs.possible, thumbs.asked) == (101, 11)
    assert make_thumbs(results, 0).jpeg == {}


def test_faces_without_crops_are_cut_out_of_their_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = grey(10, (200, 300))
    image[50:110, 100:160] = (0, 0, 250)
    (tmp_path / "photos").mkdir()
    assert cv2.imwrite(str(tmp_path / "photos" / "a.png"), image)
    box = {"x1": 100, "y1": 50, "x2": 160, "y2": 110}
    table = score_table(tmp_path / "t.csv", [
        {"file": "photos/a.png", **box},
        {"file": "photos/a.png", "face": 1, "x1": 0, "y1": 0, "x2": 40, "y2": 40},
        {"file": "photos/gone.png", **box},
        {"file": "photos/a.png", "face": 2},
    ])  # fmt: skip
    thumbs = make_thumbs(read_results(table), 99)
    assert (sorted(thumbs.jpeg), thumbs.gone, thumbs.broken) == ([0, 1, 3], 1, [])
    # The box and three tenths of it on each side: 96 x 96, shown at 72.
    face = decoded(thumbs.jpeg[0])
    assert face.shape == (72, 72, 3)
    inner, outer = face[20:52, 20:52].mean(axis=(0, 1)), face[:8].mean(axis=(0, 1))
    np.testing.assert_allclose(inner, (0, 0, 250), atol=12)
    np.testing.assert_allclose(outer, 10, atol=12)
    assert decoded(thumbs.jpeg[1]).shape == (52, 52, 3)  # clipped at the edge, and not enlarged
    assert decoded(thumbs.jpeg[3]).shape == (48, 72, 3)  # no box: the picture is the face


def test_pictures_of_faces_that_have_crops_are_not_looked_into(make, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("blurgate.report.thumbs.is_image", lambda path: asked.append(path.name))
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(tmp_path / name), grey(9))
    faces = [
        {"source": str(tmp_path / "a.png"), "degree": "0.1", "picture": grey(9)},
        {"source": str(tmp_path / "b.png"), "degree": "0.9"},
    ]
    assert len(make_thumbs(read_results(make.write_run(tmp_path / "run", faces)), 99).jpeg) == 1
    assert asked == ["b.png"]


def test_tables_are_found_with_their_pictures_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    assert cv2.imwrite(str(tmp_path / "set" / "a.png"), grey(99))
    table = score_table(tmp_path / "set" / "t.csv", [{"file": "a.png"}])
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert len(make_thumbs(read_results(table), 99).jpeg) == 1


def test_crops_that_are_gone_broken_or_elsewhere_are_told(make, tmp_path):
    assert cv2.imwrite(str(tmp_path / "secret.png"), grey(200))
    faces = [
        {"source": "a.mp4", "time_s": "1", "degree": f"0.{i}", "picture": grey(9)} for i in range(4)
    ]
    folder = make.write_run(tmp_path / "run", faces)
    (folder / "kept" / "0.png").unlink()
    (folder / "kept" / "1.png").write_bytes(b"no picture")
    table = folder / "faces.csv"
    table.write_text(table.read_text().replace("kept/2.png", "../secret.png"))
    thumbs = make_thumbs(read_results(folder), 99)
    assert sorted(thumbs.jpeg) == [3]
    told = "\n".join(sorted(thumbs.broken))
    assert len(thumbs.broken) == 3
    for part in ("0.png", "1.png", "secret.png lies outside of"):
        assert part in told


def test_streams_and_videos_give_none(make, tmp_path):
    faces = [
        {"source": "rtsp://camera/1", "degree": "0.1"},
        {"source": "0", "degree": "0.1"},
        {"source": "walk.mp4", "time_s": "0.5", "degree": "0.1"},
    ]
    thumbs = make_thumbs(read_results(make.write_run(tmp_path / "run", faces)), 99)
    assert (thumbs.jpeg, thumbs.possible, thumbs.gone) == ({}, 0, 0)


def test_long_pictures_keep_their_shape():
    assert decoded(small(grey(5, (300, 100)))).shape == (72, 24, 3)
    assert decoded(small(grey(5, (2000, 1)))).shape == (72, 1, 3)
