"""The original's protocol and the leak tests, with scorers and an embedder that are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate.errors import InputError
from blurgate.evaluation import leaks, protocol
from blurgate.evaluation.clean import CleanFaces
from blurgate.evaluation.families import make_family
from blurgate.evaluation.measuring import measure_faces
from blurgate.interfaces import ModelInfo
from blurgate.training.labels import Labeller


class Scorer:
    threshold = 0.5

    def __init__(self, name, function):
        self.info = ModelInfo(name, "")
        self.function = function

    def __call__(self, crops):
        return np.array([self.function(crop) for crop in crops], np.float32)


def brightness(crop):
    return float(crop.mean()) / 255


@pytest.fixture
def clean(tiny):
    def make(n, photos=1):
        crops = [tiny.draw(112, i) for i in range(n)]
        people = [f"p{i // photos}" for i in range(n)]
        return CleanFaces(
            crops, [f"{i}.png" for i in range(n)], people, [{}] * n, np.full(n, 112.0), []
        )

    return make


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(protocol, "LENGTHS", range(0, 100, 33))


def test_the_protocol_equals_a_plain_loop(tiny, clean, short):
    faces = clean(8, photos=2)
    constant, half = Scorer("half", lambda crop: 0.5), Scorer("light", brightness)
    found = protocol.run_protocol(
        faces,
        Labeller(tiny.TinyEmbedder()),
        {"half": constant, "light": half},
        people=3,
        seed=5,
        workers=2,
    )
    assert len(found.identities) == len(set(found.identities)) == 3
    first = {f"p{i}": faces.crops[2 * i] for i in range(4)}
    for number, length in enumerate(range(0, 100, 33)):
        for person, who in enumerate(found.identities):
            image = first[who]
            # an independent horizontal line of this length, on the codes, borders mirrored
            if length:
                at = (np.arange(8 * length) + 0.5) / 8 - length / 2
                kernel = np.zeros(2 * length + 3)
                low = np.floor(at).astype(int)
                np.add.at(kernel, low + length + 1, 1 - (at - low))
                np.add.at(kernel, low + length + 2, at - low)
                row = (kernel / kernel.sum())[None, ::-1]
                pad = cv2.copyMakeBorder(
                    image.astype(np.float64), 0, 0, 110, 110, cv2.BORDER_REFLECT
                )
                # the chain goes through linear light and back where nothing else is asked for
                blurred = cv2.filter2D(pad, -1, row)[:, 110:-110]
            else:
                blurred = image
            label = 1 - tiny.embed_one(image) @ tiny.embed_one(blurred)
            assert found.label["fixed"][number, person] == pytest.approx(label, abs=0.02)
    assert found.label["fixed"][0] == pytest.approx([0, 0, 0], abs=1e-5)
    assert not np.array_equal(found.label["fixed"][1:], found.label["random"][1:])
    # the errors, by hand
    true = found.label["random"]
    errors = found.errors("half", "random")
    assert errors["mse_of_means"] == pytest.approx(((0.5 - true.mean(1)) ** 2).mean())
    assert errors["mae"] == pytest.approx(np.abs(0.5 - true).mean())
    assert errors["mae"] > errors["mae_of_means"] - 1e-12
    facts = found.facts()
    assert len(facts["curves"]["fixed"]["true"]) == 4
    assert set(facts["errors"]) == {"half", "light"}


def test_errors_that_cancel_in_the_mean_do_not_in_single_pictures():
    label = {"fixed": np.array([[0.2, 0.8]] * 4)}
    degree = {"mixed": {"fixed": np.array([[0.8, 0.2]] * 4)}}
    found = protocol.Protocol(["a", "b"], label, degree)
    errors = found.errors("mixed", "fixed")
    assert errors["mse_of_means"] == pytest.approx(0)
    assert errors["mae"] == pytest.approx(0.6)


def test_the_protocol_needs_people(tiny, clean):
    with pytest.raises(InputError, match="needs at least two people"):
        protocol.run_protocol(clean(2, photos=2), Labeller(tiny.TinyEmbedder()), {})


def test_leaks_of_a_scorer_that_looks_at_brightness(tiny, clean):
    faces = clean(5)
    labeller = Labeller(tiny.TinyEmbedder())
    scorers = {
        "light": Scorer("light", brightness),
        "deaf": Scorer("deaf", lambda crop: 0.3),
    }
    found = leaks.run_leaks(faces, labeller, scorers, workers=2)
    assert found.faces == 5
    assert set(found.degree["light"]) == {"sharp", "blurred"}
    for state in leaks.STATES:
        for change in leaks.CHANGES:
            assert found.degree["deaf"][state][change] == leaks.Moved(0, 0, 0)
    light = found.degree["light"]["sharp"]
    changes = [
        brightness(np.clip(c.astype(float) + 40, 0, 255).astype(np.uint8)) - brightness(c)
        for c in faces.crops
    ]
    assert light["brightness +40"].mean == pytest.approx(np.mean(changes), abs=2e-3)
    assert light["brightness +40"].p95_abs == pytest.approx(np.quantile(changes, 0.95), abs=2e-3)
    assert light["mirrored"].mean_abs == pytest.approx(0, abs=1e-7)
    assert light["brightness -40"].mean < 0
    assert found.overall("light", "sharp") > found.overall("deaf", "sharp") == 0
    assert found.label["sharp"]["bar over the eyes"].mean_abs > 0.01
    grey = found.facts()["degree"]["light"]["blurred"]["grey"]["mean_abs"]
    assert grey == pytest.approx(found.degree["light"]["blurred"]["grey"].mean_abs, abs=1e-6)


def test_leaks_are_compared_between_groups(tiny, clean):
    faces = clean(6)
    darker = [(crop * 0.6).astype(np.uint8) for crop in faces.crops[:2]]
    faces.crops[:2] = darker
    faces.groups[:] = [{"tone": "dark"}] * 2 + [{"tone": "light", "age": "0-12"}] * 3 + [{}]
    scorers = {"light": Scorer("light", brightness), "deaf": Scorer("deaf", lambda crop: 0.3)}
    labeller = Labeller(tiny.TinyEmbedder())
    found = leaks.run_leaks(faces, labeller, scorers, workers=2)
    assert found.faces == 5  # nobody without a group
    assert {name: group.faces for name, group in found.groups["tone"].items()} == {
        "dark": 2, "light": 3,
    }  # fmt: skip
    assert list(found.groups["age"]) == ["0-12"]
    dark, light = found.groups["tone"]["dark"], found.groups["tone"]["light"]
    # a scorer that looks at brightness calls dark sharp faces something else; the label does not
    expected = np.mean([brightness(crop) for crop in darker])
    assert dark.degree["light"]["sharp"].mean == pytest.approx(expected, abs=1e-6)
    assert light.degree["light"]["sharp"].mean > 1.3 * dark.degree["light"]["sharp"].mean
    assert dark.label["sharp"].mean == pytest.approx(0, abs=1e-6)
    assert dark.degree["deaf"]["blurred"].mean == pytest.approx(0.3)
    assert dark.degree["deaf"]["blurred"].moved == 0
    sizes = [
        abs(brightness(change(crop)) - brightness(crop))
        for change in leaks.CHANGES.values()
        for crop in darker
    ]
    assert dark.degree["light"]["sharp"].moved == pytest.approx(np.mean(sizes), abs=1e-6)
    assert found.facts()["groups"]["tone"]["dark"]["degree"]["deaf"]["sharp"]["moved"] == 0
    assert leaks.run_leaks(faces, labeller, {}, faces=2).faces == 2


def test_the_changes_do_what_their_names_say():
    face = cv2.GaussianBlur(
        np.random.default_rng(1).integers(60, 180, (112, 112, 3), np.uint8), (0, 0), 2
    )
    change = {name: function(face) for name, function in leaks.CHANGES.items()}
    for name, picture in change.items():
        assert picture.shape == face.shape, name
        assert picture.dtype == np.uint8, name
        assert not np.array_equal(picture, face), name
    spread = {name: float(picture.std()) for name, picture in change.items()}
    assert spread["contrast x0.6"] == pytest.approx(0.6 * face.std(), rel=0.05)
    assert change["brightness -40"].mean() == pytest.approx(face.mean() - 40, abs=0.5)
    assert np.ptp(change["grey"], axis=2).max() == 0
    assert (change["mirrored"][:, ::-1] == face).all()
    expected = 255 * (face / 255) ** 1.6
    np.testing.assert_allclose(change["gamma 1.6"], expected, atol=0.51)
    detail = [cv2.Laplacian(p, cv2.CV_64F).var() for p in (face, change["sharpened x1"])]
    assert detail[1] > detail[0]
    covered = change["bar over the eyes"]
    assert covered[50, 40:80].std() < 3
    assert (covered[70:] == face[70:]).all()


def test_measuring_is_the_same_on_any_number_of_workers(tiny, clean):
    faces = clean(40, photos=4)
    runs = []
    for workers in (1, 3):
        labeller = Labeller(tiny.TinyEmbedder())
        families = [make_family(name, seed=2) for name in ("c-defocus", "c-motion", "sharp")]
        scorers = {"light": Scorer("light", brightness)}
        runs.append(measure_faces(faces, families, labeller, scorers, per_face=2, workers=workers))
    one, three = runs
    assert len(one) == 3 * 2 * 40
    for name in ("source", "identity", "family", "side", "label", "degree", "held_out"):
        assert getattr(one, name) == getattr(three, name), name
    assert [c.row for c in one.worst["light"]] == [c.row for c in three.worst["light"]]
    # the cases are the largest errors, at most three of a family
    error = np.array(one.degree["light"]) - np.array(one.label)
    worst = one.worst["light"]
    assert len(worst) == 9
    assert abs(worst[0].error) == pytest.approx(np.abs(error).max())
    for name in one.held_out:
        own = np.abs(error[[f == name for f in one.family]])
        kept = sorted(abs(c.error) for c in worst if one.family[c.row] == name)
        assert kept == pytest.approx(np.sort(own)[-3:])
    # a row is what its picture says
    row = worst[0].row
    place = int(one.source[row].removesuffix(".png"))
    shown = cv2.imdecode(np.frombuffer(worst[0].clean, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(shown.astype(int) - faces.crops[place]).mean() < 8
