"""Errors, correlations and reliability curves against SciPy, brute force and worked cases."""

from __future__ import annotations

import numpy as np
import pytest

from blurgate.errors import ConfigError
from blurgate.evaluation import fidelity, groups
from blurgate.evaluation.evaluating import Plan, compare_all
from blurgate.evaluation.groups import GroupNames
from blurgate.evaluation.measuring import Rows
from blurgate.evaluation.names import name_models
from blurgate.interfaces import ModelInfo


def sample(n=400, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    label = rng.random(n)
    degree = (0.2 + 0.6 * label + 0.1 * rng.standard_normal(n)).clip(0, 1)
    return (degree.round(1) if ties else degree), label


@pytest.mark.parametrize("ties", [False, True])
def test_agreement_equals_scipy(ties):
    stats = pytest.importorskip("scipy.stats")
    degree, label = sample(ties=ties)
    found = fidelity.agreement(degree, label)
    assert found.n == 400
    assert found.spearman == pytest.approx(stats.spearmanr(degree, label).statistic, abs=1e-12)
    assert found.pearson == pytest.approx(stats.pearsonr(degree, label).statistic, abs=1e-12)


def test_agreement_by_hand():
    found = fidelity.agreement(np.array([0.5, 0.5, 0.2]), np.array([0.1, 0.7, 0.2]))
    assert found.mae == pytest.approx(0.2)
    assert found.rmse == pytest.approx(np.sqrt((0.16 + 0.04) / 3))
    assert found.bias == pytest.approx(0.2 / 3)
    # ranks 2.5 2.5 1 against 1 3 2
    assert found.spearman == pytest.approx(0.0)
    constant = fidelity.agreement(np.full(3, 0.5), np.array([0.1, 0.7, 0.2]))
    assert (constant.spearman, constant.pearson) == (0, 0)


def test_reliability_equals_brute_force():
    degree, label = sample()
    degree[0] = 1.0  # the upper bound belongs to the last bin
    found = fidelity.reliability(degree, label)
    expected = []
    for i in range(10):
        inside = [
            (d, t)
            for d, t in zip(degree, label, strict=True)
            if i / 10 <= d < (i + 1) / 10 or (i == 9 and d == 1)
        ]
        if inside:
            d, t = np.array(inside).T
            expected.append((d.mean(), t.mean(), len(inside)))
    np.testing.assert_allclose(
        list(zip(found.degree, found.label, found.n, strict=True)), expected, rtol=1e-12
    )
    gap = sum(abs(d - t) * n for d, t, n in expected) / 400
    assert found.gap == pytest.approx(gap, rel=1e-12)
    assert fidelity.reliability(label, label).gap == pytest.approx(0)


def test_parts_are_compared_on_their_own():
    degree, label = sample()
    keys = ["b" if i % 3 else "a" for i in range(400)]
    keys[5] = ""
    found = fidelity.compare(degree, label, keys)
    assert list(found) == ["a", "b"]
    mask = np.array([k == "b" for k in keys])
    assert found["b"]["mae"] == pytest.approx(np.abs(degree - label)[mask].mean())
    assert found["a"]["n"] + found["b"]["n"] == 399
    curve = found["b"]["reliability"]
    assert sum(curve["n"]) == mask.sum()
    assert np.average(curve["degree"], weights=curve["n"]) == pytest.approx(degree[mask].mean())
    assert np.average(curve["label"], weights=curve["n"]) == pytest.approx(label[mask].mean())
    assert (np.floor(np.array(curve["degree"]) * 10) == np.arange(len(curve["n"]))).all()


def test_sides_have_names_in_order():
    sides = [0.5, 31.9, 32, 50, 112, 144, 191.9, 192, 4000]
    names = [fidelity.side_name(side) for side in sides]
    assert names == [
        "0-32", "0-32", "32-48", "48-64", "112-144", "144-192", "144-192", "192+", "192+",
    ]  # fmt: skip
    assert sorted(set(names), key=fidelity.side_order) == list(dict.fromkeys(names))


def test_groups_are_read_from_names():
    both = GroupNames(["mebeauty", "utkface"])
    assert both("a/female_asian_01543eda.jpg") == {"sex": "female", "ethnicity": "asian"}
    utk = {"age": "0-12", "sex": "male", "ethnicity": "indian"}
    assert both("10_0_3_20161220222308131.jpg") == utk
    # as `blurgate synth` names the clean twin of a picture
    assert both("clean/61_1_1_20170110224238891-033a0a3ed8ef462a.png") == {
        "age": "60+", "sex": "female", "ethnicity": "black",
    }  # fmt: skip
    for other in ("portrait.jpg", "Bill_Clancy_0001.jpg", "10_2_3_20161220222308131.jpg"):
        assert both(other) == {}
    ages = [groups.age_group(str(years)) for years in (0, 12, 13, 19, 20, 39, 40, 59, 60, 116)]
    assert ages == [name for name in ("0-12", "13-19", "20-39", "40-59", "60+") for _ in range(2)]
    assert GroupNames([r"(?P<light>\w)-(?P<glasses>\w+)"])("x-yes.png") == {
        "light": "x", "glasses": "yes",
    }  # fmt: skip
    assert GroupNames([r"(\w)-(\w)?"])("x-.png") == {"group": "x"}
    assert GroupNames([])("female_asian_1.jpg") == {}
    harmless = [
        GroupNames([r"(.+)-\d"])(name)["group"] for name in ("=1+1-1.png", "x\x1b[31m-1.png")
    ]
    assert harmless == ["./=1+1", r"'x\x1b[31m'"]
    with pytest.raises(ConfigError, match=r"put the part that names the group in parentheses"):
        GroupNames(["abc"])
    with pytest.raises(ConfigError, match=r"--groups \(: .*unterminated"):
        GroupNames(["utkface", "("])
    with pytest.raises(ConfigError, match=r"--groups \(a\{9+\}\): the repetition number is too"):
        GroupNames(["(a{" + "9" * 20 + "})"])
    with pytest.raises(ConfigError, match=r"--groups utkface fits no file name, such as a/b.jpg"):
        groups.check_fit(["utkface"], ["a/b.jpg"])


def test_groups_are_compared_with_intervals_over_people():
    rng = np.random.default_rng(4)
    n = 240
    person = rng.integers(0, 30, n)
    shift = rng.normal(0, 0.1, 30)[person]  # errors of one person hang together
    label = rng.uniform(0.2, 0.8, n)
    degree = label + shift + rng.normal(0, 0.02, n)
    own = [{"sex": "ab"[p % 2], "age": "y"} if p < 25 else {} for p in person]
    found = groups.compare_groups(degree, label, own, [f"p{p}" for p in person])
    assert list(found) == ["age", "sex"]
    assert list(found["sex"]) == ["a", "b"]
    mask = (person < 25) & (person % 2 == 0)
    one = found["sex"]["a"]
    error = (degree - label)[mask]
    assert one["n"] == mask.sum()
    assert one["persons"] == len(set(person[mask]))
    assert one["bias"] == pytest.approx(error.mean())
    assert one["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    # the interval of a bootstrap that draws whole people, and not that of single pictures
    people = [error[person[mask] == p] for p in sorted(set(person[mask]))]
    drawn = [
        np.concatenate([people[i] for i in rng.integers(0, len(people), len(people))]).mean()
        for _ in range(4000)
    ]
    assert one["bias_pm"] == pytest.approx(1.96 * np.std(drawn), rel=0.12)
    assert one["bias_pm"] > 1.5 * 1.96 * error.std() / np.sqrt(len(error))
    alone = groups.compare_groups(degree[:3], label[:3], [{"sex": "a"}] * 3, ["p"] * 3)
    assert alone["sex"]["a"]["mae_pm"] is None
    # people of one picture each: the usual interval of a mean
    values = rng.normal(0, 1, 50)
    usual = 1.959964 * values.std(ddof=1) / np.sqrt(50)
    assert groups.half_width(values, [str(i) for i in range(50)]) == pytest.approx(usual)


def test_small_groups_get_their_turn():
    own = [{"sex": "f"}] * 50 + [{}] * 5 + [{"sex": "m"}] * 3
    chosen = groups.take_in_turn(own, reversed(range(58)), 10)
    assert len(chosen) == len(set(chosen)) == 10
    assert sorted(i for i in chosen if i > 49) == [55, 56, 57]
    assert chosen[0] == 49  # the first of its group in the order that was given
    assert len(groups.take_in_turn(own, range(58), 99)) == 53


def test_trained_and_held_out_and_sharp_groups():
    n = 12
    family = ["sharp", "c-motion", "linear"] * 4
    group = [{"tone": "x"}] * 6 + [{"tone": "y"}] * 6
    label = np.linspace(0, 1, n)
    rows = Rows(
        [f"{i}.jpg" for i in range(n)], ["p"] * n, group, family, [100.0] * 11 + [0.0],
        label.tolist(), held_out={"sharp": False, "c-motion": True, "linear": False},
    )  # fmt: skip
    degrees = {"one": (label + 0.1).clip(0, 1).tolist(), "two": [0.5] * n}
    found = compare_all(rows, degrees)["one"]
    assert list(found["families"]) == ["sharp", "c-motion", "linear"]  # in the plan's order
    assert (found["all"]["n"], found["trained"]["n"], found["held_out"]["n"]) == (12, 8, 4)
    assert found["sides"]["96-112"]["n"] == 11  # a side of 0 is not known
    assert {k: v["n"] for k, v in found["groups_sharp"]["tone"].items()} == {"x": 2, "y": 2}
    picked = [i for i in range(n) if family[i] == "c-motion"]
    bias = np.mean([min(label[i] + 0.1, 1) - label[i] for i in picked])
    assert found["held_out"]["bias"] == pytest.approx(bias)


class Fake:
    threshold = 0.3

    def __init__(self, name, sha256=""):
        self.info = ModelInfo(name, sha256)

    def __call__(self, crops):
        return np.full(len(crops), 0.25, np.float32)


def test_models_of_one_name_get_a_piece_of_their_checksums():
    models = name_models([Fake("net", "ab" * 32), Fake("net", "cd" * 32), Fake("other")])
    assert list(models) == ["net@ababab", "net@cdcdcd", "other"]
    assert [model.info.name for model in models.values()] == ["net", "net", "other"]
    assert [model.info.sha256[:2] for model in models.values()] == ["ab", "cd", ""]
    with pytest.raises(ConfigError, match="the model laplacian is named twice"):
        name_models([Fake("laplacian"), Fake("laplacian")])
    for column in ("label", "side_px", "group", "group_sex"):
        with pytest.raises(ConfigError, match=f"a model cannot be called {column}, as a column is"):
            name_models([Fake(column)])


def test_a_plan_checks_its_names():
    with pytest.raises(ConfigError, match="name each blur family once"):
        Plan(families=("sharp", "sharp"))
