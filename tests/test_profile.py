"""Profiles: written, read back, checked, and taken by a gate."""

from __future__ import annotations

import json

import numpy as np
import pytest

import blurgate
from blurgate.errors import ConfigError, InputError
from blurgate.interfaces import ModelInfo
from blurgate.profile import Profile, read_profile, write_profile

FACTS = {
    "schema": 1,
    "model": {"name": "laplacian", "sha256": ""},
    "threshold": 0.25,
    "ci": [0.2, 0.3],
    "target": {"kind": "keep-rate", "share": 0.9},
}


@pytest.fixture
def write(tmp_path):
    def write_facts(**changes):
        facts = {**FACTS, **changes}
        path = tmp_path / "gate.json"
        path.write_text(json.dumps({k: v for k, v in facts.items() if v is not ...}))
        return path

    return write_facts


def test_what_is_written_is_read(tmp_path):
    profile = Profile(
        model=ModelInfo("m", "ab" * 32),
        threshold=0.4,
        ci=(0.3, 0.5),
        target={"kind": "fnmr", "fmr": 0.001, "rate": 0.02},
        review=0.05,
        min_face=40.0,
        reached={"fnmr": 0.019},
        n={"faces": 100},
        embedder=ModelInfo("e", "cd" * 32),
        material={"blur": []},
        seed=3,
        version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
    )
    path = tmp_path / "p.json"
    write_profile(profile, path)
    assert read_profile(path) == profile
    assert list(tmp_path.iterdir()) == [path]
    assert next(iter(json.loads(path.read_text()))) == "schema"


def test_the_least_profile_is_enough(write):
    profile = read_profile(write())
    assert (profile.threshold, profile.ci, profile.review) == (0.25, (0.2, 0.3), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"treshold": 0.3}, "unknown key 'treshold'; did you mean 'threshold'"),
        ({"colour": 1}, "unknown key 'colour'; known: model, threshold"),
        ({"threshold": ...}, "has no 'threshold'"),
        ({"model": ...}, "has no 'model'"),
        ({"threshold": "0.3"}, r"threshold must be a number in \[0, 1\], not \"0.3\""),
        ({"threshold": 1.5}, r"threshold must be a number in \[0, 1\], not 1.5"),
        ({"threshold": True}, "threshold must be a number"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"ci": [0.1]}, "ci must be two numbers"),
        ({"ci": [0.1, 2]}, r"ci must be a number in \[0, 1\], not 2"),
        ({"min_face": -1}, "min_face must be a number in 0 or more, not -1"),
        ({"review": 2}, r"review must be a number in \[0, 1\]"),
        ({"model": "laplacian"}, "model must be an object"),
        ({"model": {"name": "x", "sha": ""}}, "model must be an object"),
        ({"embedder": {"sha256": ""}}, "embedder must be an object"),
        ({"target": []}, "target must be an object"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"version": 1}, "version must be a text"),
        ({"schema": 2}, "has the schema 2, and this blurgate reads 1; make it again"),
        ({"schema": True}, "has the schema True"),
        ({"schema": ...}, "is not a profile of blurgate calibrate: it has no 'schema'"),
    ],
)
def test_wrong_profiles_are_refused(write, changes, message):
    with pytest.raises(ConfigError, match=message):
        read_profile(write(**changes))


def test_a_byte_order_mark_is_no_part_of_a_profile(write):
    path = write()
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_profile(path).threshold == 0.25


def test_files_that_are_no_profile(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(InputError, match=r"cannot read the profile .*x.json: No such file"):
        read_profile(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"the profile .*x.json is not JSON"):
        read_profile(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="is not a profile of blurgate calibrate"):
        read_profile(path)


def test_a_profile_belongs_to_one_model(write):
    weightless = read_profile(write())
    weightless.check_model(ModelInfo("laplacian", ""), "p")
    with pytest.raises(
        ConfigError,
        match=r"p was made for the model laplacian, and this run uses tenengrad; .*--model, or",
    ):
        weightless.check_model(ModelInfo("tenengrad", ""), "p")
    with pytest.raises(ConfigError, match="laplacian, and this run uses laplacian@abababababab"):
        weightless.check_model(ModelInfo("laplacian", "ab" * 32), "p")
    trained = read_profile(write(model={"name": "net", "sha256": "cd" * 32}))
    trained.check_model(ModelInfo("renamed", "cd" * 32), "p")  # the file is the same
    with pytest.raises(ConfigError, match="net@cdcdcdcdcdcd, and this run uses net@abababababab"):
        trained.check_model(ModelInfo("net", "ab" * 32), "p")


def test_a_gate_takes_a_profile(write):
    path = write(review=0.02, min_face=30)
    rule = blurgate.Gate(profile=path, scorer="laplacian", detector=object()).rule
    assert (rule.threshold, rule.review, rule.min_face_px) == (0.25, 0.02, 30)
    own = blurgate.Gate(profile=path, scorer="laplacian", review=0, min_face=9, detector=object())
    assert (own.rule.threshold, own.rule.review, own.rule.min_face_px) == (0.25, 0, 9)
    with pytest.raises(ConfigError, match="gives a threshold, and so does --threshold; name one"):
        blurgate.Gate(0.5, profile=path, scorer="laplacian", detector=object())

    class Other:
        info, threshold = ModelInfo("other", ""), 0.5

        def __call__(self, crops):
            return np.zeros(len(crops), np.float32)

    with pytest.raises(ConfigError, match="this run uses other"):
        blurgate.Gate(profile=path, scorer=Other(), detector=object())
