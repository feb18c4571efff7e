"""Utility: conditions, bounds and gates, against re-computation by hand from the same pictures."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import astuple, replace

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, InputError
from blurgate.evaluation.families import Blurred, clean_twins
from blurgate.evaluation.findings import GRID
from blurgate.evaluation.natural import QUALITY, SMALL_PX, natural_families
from blurgate.evaluation.utility import evaluate_utility
from blurgate.evaluation.verification import make_pairs
from blurgate.interfaces import ModelInfo
from blurgate.training.faces import Face


class Smooth:
    """A family: the face of number i is blurred i times as much as that of number 1."""

    name, held_out = "smooth", True

    def make(self, crops, index):
        pictures = clean_twins(
            [cv2.GaussianBlur(c, (0, 0), 0.3 * i) if i else c for c, i in zip(crops, index)]  # noqa: B905
        )
        return Blurred(pictures, [{}] * len(crops), [0.0] * len(crops))


class Flatness:
    """A scorer."""

    info, threshold = ModelInfo("flatness", ""), 0.3

    def __call__(self, crops):
        return np.float32([1 / (1 + cv2.Laplacian(c, cv2.CV_32F).var() / 900) for c in crops])


class Turned:
    """A judge that sees other things than the tiny embedder."""

    info = ModelInfo("turned", "")

    def __init__(self, embedder):
        self._embedder = embedder

    def __call__(self, crops):
        return self._embedder(np.ascontiguousarray(255 - crops[:, :, ::-1]))


@pytest.fixture(scope="module")
def material(tiny):
    """24 people with three photos each: one drawing under different light and noise."""
    rng = np.random.default_rng(0)
    faces, crops = [], []
    for person in range(24):
        # People look alike, or nobody would ever be mistaken.
        base = 0.55 * tiny.draw(128, 99) + 0.45 * tiny.draw(128, person)
        for _ in range(3):
            photo = base * rng.uniform(0.6, 1.1) + rng.normal(0, 25, base.shape)
            faces.append(Face(len(faces), f"p{person}/{len(faces)}.png", f"p{person}"))
            crops.append(photo.clip(0, 255).astype(np.uint8))
    return faces, crops


@pytest.fixture(scope="module")
def result(material, tiny):
    embedder = tiny.TinyEmbedder()
    found = evaluate_utility(
        {"flatness": Flatness()},
        *material,
        embedder=embedder,
        judge=Turned(tiny.TinyEmbedder()),
        families=[Smooth()],
        impostors=2000,
        seed=3,
    )
    return found, embedder


class Blind:
    """Knows no picture again, as a recogniser does that is given other pixels than it learnt on."""

    info = ModelInfo("blind", "")

    def __call__(self, crops, /):
        seeds = [int.from_bytes(hashlib.sha256(crop.tobytes()).digest()[:8]) for crop in crops]
        vectors = np.stack([np.random.default_rng(s).normal(size=64) for s in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_recogniser_that_recognises_nobody_is_named(result, material, tiny):
    assert result[0].doubts() == []
    found = evaluate_utility(
        {"flatness": Flatness()},
        *material,
        embedder=tiny.TinyEmbedder(),
        judge=Blind(),
        impostors=2000,
    )
    (line,) = found.doubts()
    assert re.match(r"blind does not recognise (9\d|100)% of the clean pairs at FMR 0.01: ", line)


def by_hand(material, tiny):
    """What the comparisons of the blurred condition look like, computed one by one."""
    faces, crops = material
    pairs = make_pairs([f.identity for f in faces], impostors=2000, seed=3).sided(3)
    twins = clean_twins(crops)
    blurred = Smooth().make(crops, range(len(crops))).pictures
    score = Flatness()
    rows = []
    for kind, part in (("same", pairs.genuine), ("other", pairs.impostor)):
        for a, b in part.tolist():
            rows.append((kind, a, b))
    clean = [tiny.embed_one(c).astype(float) for c in twins]
    after = [tiny.embed_one(c).astype(float) for c in blurred]
    degree = [float(f"{d:.6g}") for d in np.concatenate([score(twins), score(blurred)])]
    return rows, clean, after, degree


def test_the_curve_of_a_scorer_is_that_of_its_comparisons(result, material, tiny):
    rows, clean, after, degree = by_hand(material, tiny)
    others = sorted((float(clean[a] @ clean[b]) for k, a, b in rows if k == "other"), reverse=True)
    n = len(material[0])
    (curve,) = [
        c
        for c in result[0].curves
        if (c.recogniser, c.condition, c.mode, c.point, c.scorer)
        == ("tiny", "smooth", "FNMR", "FMR 0.01", "flatness")
    ]
    assert others[20] - 1e-6 < curve.match_threshold <= others[19] + 1e-6  # 1 % of 2000
    mated = [
        (float(clean[a] @ after[b]) < curve.match_threshold, max(degree[a], degree[n + b]))
        for k, a, b in rows
        if k == "same"
    ]
    assert 0.1 < curve.start < 0.9  # the test would say nothing otherwise
    assert curve.start == pytest.approx(sum(wrong for wrong, _ in mated) / len(mated))
    worst = sorted({d for _, d in mated}, reverse=True)
    for share, error in zip(GRID, curve.error, strict=True):
        left = mated
        for limit in worst:  # throw out degree after degree, as long as the share allows
            fewer = [row for row in mated if row[1] < limit]
            if 1 - len(fewer) / len(mated) > share + 1e-12:
                break
            left = fewer
        assert error == pytest.approx(sum(w for w, _ in left) / len(left) if left else 0)
    (gate,) = [
        g
        for g in result[0].gates
        if (g.recogniser, g.condition, g.point) == ("tiny", "smooth", "FMR 0.01")
    ]
    kept = [wrong for wrong, d in mated if d <= 0.3]
    assert gate.kept_faces == np.mean([d <= 0.3 for d in degree[n:]])
    assert gate.kept_comparisons == pytest.approx(len(kept) / len(mated))
    assert gate.fnmr_without == curve.start
    assert gate.fnmr == pytest.approx(np.mean(kept))


def test_recognisers_of_one_name_are_told_apart(result, material, tiny):
    embedder, judge = tiny.TinyEmbedder(), Turned(tiny.TinyEmbedder())
    embedder.info, judge.info = (ModelInfo("tiny", sha * 32) for sha in ("ab", "cd"))
    options = {"embedder": embedder, "impostors": 2000, "seed": 3}
    found = evaluate_utility({"flatness": Flatness()}, *material, judge=judge, **options)
    renamed = {"tiny@ababab": "tiny", "tiny@cdcdcd": "turned"}
    assert [row["name"] for row in found.facts["recognisers"]] == list(renamed)
    wanted = [astuple(curve) for curve in result[0].curves if curve.condition == "clean"]
    got = [astuple(replace(c, recogniser=renamed[c.recogniser])) for c in found.curves]
    assert got == wanted
    with pytest.raises(ConfigError, match="the model tiny is named twice"):
        evaluate_utility({"flatness": Flatness()}, *material, judge=embedder, **options)


def test_bounds(result):
    found = result[0]
    groups = {}
    for curve in found.curves:
        key = curve.recogniser, curve.condition, curve.mode, curve.point
        groups.setdefault(key, {})[curve.scorer] = curve
    assert len(groups) == 2 * 2 * 2 * 3  # recognisers, conditions, modes, points
    for (_, condition, mode, point), curves in groups.items():
        assert ("oracle" in curves) == (condition != "clean")  # clean labels order nothing
        start = curves["random"].start
        assert curves["random"].pauc20 == pytest.approx(0.2 * start)
        assert curves["random"].halved_at is None
        for curve in curves.values():
            assert curve.start == start
            assert curves["best"].pauc30 <= curve.pauc30 + 1e-12
            assert np.all(np.array(curves["best"].error) <= np.array(curve.error) + 1e-12)
        if mode == "FNMR" and point == "FNMR 0.1":
            assert 0.05 < start <= 0.1
        if mode == "FNMR" and condition == "smooth":
            assert curves["oracle"].pauc30 < curves["random"].pauc30
    assert {c.recogniser for c in found.curves} == {"tiny", "turned"}


def test_every_picture_is_embedded_once(result, material):
    found, embedder = result
    assert embedder.n_crops == 2 * len(material[0])
    assert found.facts["recognisers"][0]["thresholds"].keys() == {"FMR 0.01", "FMR 0.001"}


def test_what_is_found_is_json(result):
    facts = json.loads(json.dumps(result[0].json(), allow_nan=False))
    assert facts["faces"] == 72
    assert facts["identities"] == 24
    assert facts["pairs"]["genuine"] == 72
    assert [row["name"] for row in facts["conditions"]] == ["clean", "smooth"]
    assert facts["conditions"][0]["mean_label"] == 0
    assert len(facts["discard"]) == len(facts["curves"][0]["error"]) == 201
    assert len(facts["gates"]) == 12


def test_losing_cases_show_the_worst_mistakes(result, material, tiny):
    missed, wasted = (c for c in result[0].cases if c.condition == "smooth")
    assert (missed.kind, wasted.kind) == ("missed", "wasted")
    level = result[0].facts["recognisers"][0]["thresholds"]["FMR 0.001"]
    rows, clean, after, degree = by_hand(material, tiny)
    n = len(material[0])
    mated = [
        (float(clean[a] @ after[b]) >= level, max(degree[a], degree[n + b]))
        for k, a, b in rows
        if k == "same"
    ]
    assert missed.similarity < level <= wasted.similarity
    assert missed.degree == min(value for known, value in mated if not known)
    assert wasted.degree == max(value for known, value in mated if known)
    for case in (missed, wasted):
        assert case.pictures.shape == (2, 112, 112, 3)
        places = [[f.source for f in material[0]].index(source) for source in case.sources]
        assert max(degree[places[0]], degree[n + places[1]]) == case.degree
        np.testing.assert_array_equal(case.pictures[0], clean_twins(material[1])[places[0]])


def test_a_scorer_that_knows_the_labels_is_the_oracle(material, tiny):
    faces, crops = material
    twins = clean_twins(crops)
    blurred = Smooth().make(crops, range(len(crops))).pictures
    known = {p.tobytes(): 0.0 for p in twins}
    for a, b in zip(twins, blurred, strict=True):
        known[b.tobytes()] = max(0.0, 1 - float(tiny.embed_one(a) @ tiny.embed_one(b)))

    class Knows:
        info, threshold = ModelInfo("knows", ""), 0.5

        def __call__(self, pictures):
            return np.float32([known[p.tobytes()] for p in pictures])

    found = evaluate_utility(
        {"knows": Knows()},
        faces,
        crops,
        embedder=tiny.TinyEmbedder(),
        families=[Smooth()],
        impostors=2000,
    )
    curves = {(c.condition, c.mode, c.point, c.scorer): c for c in found.curves}
    for (condition, mode, point, scorer), curve in curves.items():
        if scorer == "knows" and condition == "smooth":
            oracle = curves[condition, mode, point, "oracle"]
            np.testing.assert_allclose(curve.error, oracle.error, atol=1e-6)
            assert curve.pauc30 == pytest.approx(oracle.pauc30)


def test_natural_families_do_what_they_say():
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (s, s, 3), np.uint8) for s in (112, 224, 160)]
    for family in natural_families(5):
        made = family.make(crops, [0, 1, 2])
        one = family.make(crops[1:2], [1])
        np.testing.assert_array_equal(one.pictures[0], made.pictures[1])  # its number decides
        assert one.params == made.params[1:2]
    compressed, small = (family.make(crops * 20, range(60)) for family in natural_families(5))
    qualities = [row["quality"] for row in compressed.params]
    assert QUALITY[0] <= min(qualities) <= max(qualities) <= QUALITY[1]
    _, data = cv2.imencode(".jpg", crops[0], [cv2.IMWRITE_JPEG_QUALITY, qualities[0]])
    np.testing.assert_array_equal(compressed.pictures[0], cv2.imdecode(data, cv2.IMREAD_COLOR))
    assert SMALL_PX[0] <= min(small.sides) <= max(small.sides) <= SMALL_PX[1]
    # A picture made of k pixels a side holds no more than k * k of them: its rank says so.
    side = int(small.sides[0])
    assert np.linalg.matrix_rank(small.pictures[0, :, :, 0].astype(float), tol=60) <= side


def test_what_cannot_be_evaluated(material, tiny):
    faces, crops = material
    embedder = tiny.TinyEmbedder()
    with pytest.raises(InputError, match="no person appears twice among the 3 faces"):
        evaluate_utility({"flatness": Flatness()}, faces[::24], crops[::24], embedder=embedder)
    with pytest.raises(InputError, match="names that differ"):
        evaluate_utility({"oracle": Flatness()}, faces, crops, embedder=embedder)
    with pytest.raises(
        InputError, match="takes at least 100 comparisons of different people, and there are 9"
    ):
        evaluate_utility({"flatness": Flatness()}, faces[:6], crops[:6], embedder=embedder)
