"""Choosing thresholds, against brute force and closed forms; intervals, against known truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate.errors import ConfigError, InputError
from blurgate.evaluation import bootstrap, calibration, comparing
from blurgate.evaluation.calibration import Fnmr, KeepRate, MeanDegree, choose
from blurgate.evaluation.comparing import compare
from blurgate.evaluation.material import Measured
from blurgate.evaluation.verification import Pairs, genuine_pairs, impostor_pairs, make_pairs


def measured_of(identities, reference_degree, reference, owner, degree, embedding, label=None):
    return Measured(
        identities=tuple(identities),
        faces=(),
        reference_degree=reference_degree,
        reference_embedding=reference,
        owner=owner,
        degree=degree,
        embedding=embedding,
        label=label,
        facts={},
    )


def material(degree, label=None, identities=None):
    """Faces that are their own probes."""
    degree = np.asarray(degree, float)
    n = len(degree)
    people = tuple(identities or map(str, range(n)))
    return measured_of(people, degree, None, np.arange(n), degree, None, label)


def unit(angle):
    """Embeddings on a circle, so that a similarity is the cosine of a difference of angles."""
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


DEGREES = st.lists(st.integers(0, 20), min_size=30, max_size=60).map(lambda n: np.array(n) / 20)


@given(DEGREES, st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_a_keep_rate_takes_the_lowest_threshold_that_keeps_enough(degree, share):
    choice = choose(material(degree), KeepRate(share), replicates=2)
    enough = [t for t in np.unique(degree) if (degree <= t).sum() >= share * len(degree) - 1e-9]
    assert choice.threshold == min(enough)
    assert choice.reached["kept_faces"] == (degree <= choice.threshold).mean() >= share - 1e-9


@given(DEGREES, st.floats(0.05, 1), st.booleans(), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_a_mean_degree_takes_the_highest_threshold_below_it(degree, limit, has_labels, seed):
    label = np.random.default_rng(seed).random(len(degree)) if has_labels else None
    value = degree if label is None else label
    possible = [
        t
        for t in np.unique(degree)
        if (degree <= t).sum() >= 30 and value[degree <= t].mean() <= limit + 1e-12
    ]
    measured = material(degree, label)
    if possible:
        choice = choose(measured, MeanDegree(limit), replicates=2)
        assert choice.threshold == max(possible)
        wanted = "mean_label" if has_labels else "mean_degree"
        assert choice.reached[wanted] <= limit + 1e-9
    else:
        lowest = min(
            value[degree <= t].mean() for t in np.unique(degree) if (degree <= t).sum() >= 30
        )
        with pytest.raises(ConfigError, match=r"cannot be reached: the lowest is [\d.]+") as error:
            choose(measured, MeanDegree(limit), replicates=2)
        named = float(str(error.value).partition("the lowest is ")[2].partition(",")[0])
        assert named == pytest.approx(lowest, abs=1e-3)  # four digits, rounded either way


def test_pictures_of_one_face_are_drawn_together_and_count_as_one_face():
    degree = np.random.default_rng(0).random(40).round(6)
    people = tuple(map(str, range(40)))

    def blurred(faces):
        owner = np.repeat(np.arange(faces), 10)
        return measured_of(people[:faces], np.zeros(faces), None, owner, degree[owner], None)

    alone, tenfold = (
        choose(measured, KeepRate(0.7)) for measured in (material(degree), blurred(40))
    )
    assert (tenfold.threshold, tenfold.ci) == (alone.threshold, alone.ci)
    assert tenfold.n == {"faces": 40, "pictures": 400, "identities": 40, "replicates": 1000}
    with pytest.raises(InputError, match="at least 30 faces, and there are only 29"):
        choose(blurred(29), KeepRate(0.7))


def faces_on_a_circle(seed, people=40, photos=4):
    """Faces whose blur adds noise to their embedding: the more, the less they look like anybody."""
    rng = np.random.default_rng(seed)
    identities = [f"p{i // photos}" for i in range(people * photos)]
    own = np.repeat(rng.permutation(people) * 2 * np.pi / people, photos)
    degree = (rng.integers(0, 100, len(own)) / 100).round(2)
    vectors = unit(own + rng.normal(0, 1, len(own)) * degree * 0.3)
    places = np.arange(len(own))
    return measured_of(identities, degree, vectors, places, degree, vectors)


@pytest.mark.parametrize("target", [Fnmr(0.1, 0.3), Fnmr(0.1, ratio=0.5), Fnmr(0.02, 0.9)])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_fnmr_takes_the_highest_threshold_that_reaches_it(target, seed):
    measured = faces_on_a_circle(seed)
    pairs = make_pairs(measured.identities, impostors=3000, seed=seed)
    comparisons = compare(measured, pairs)
    choice = choose(measured, target, comparisons, replicates=3)

    vectors, degree = measured.embedding.astype(float), measured.degree
    others = sorted((float(vectors[a] @ vectors[b]) for a, b in pairs.impostor), reverse=True)
    match = choice.reached["match_threshold"]
    allowed = int(target.fmr * len(others))
    assert others[allowed] < match <= others[allowed - 1]
    rows = [
        (float(vectors[a] @ vectors[b]) < match, max(degree[a], degree[b]))
        for a, b in pairs.genuine
    ]

    def rate(limit):
        kept = [wrong for wrong, worst in rows if worst <= limit]
        return sum(kept) / len(kept) if len(kept) >= 30 else 1.0

    limit = target.rate if target.rate is not None else target.ratio * rate(1.0)
    reached = [t for t in np.unique(degree) if rate(t) <= limit]
    assert choice.threshold == max(reached)
    assert choice.reached["fnmr"] == pytest.approx(rate(choice.threshold))
    assert choice.reached["fnmr_without_gate"] == pytest.approx(rate(1.0))
    assert choice.n["genuine"] == 240
    assert 0 <= choice.ci.low <= choice.ci.high <= 1


def test_a_match_threshold_that_is_given_is_used():
    measured = faces_on_a_circle(0)
    comparisons = compare(measured, make_pairs(measured.identities, impostors=20))
    choice = choose(measured, Fnmr(0.001, ratio=0.5, match=0.97), comparisons, replicates=5)
    assert choice.reached["match_threshold"] == 0.97
    middle = np.median(comparisons.similarity)
    assert choice.reached["median_similarity"] == pytest.approx(middle)
    assert choice.reached["fnmr_without_gate"] == (comparisons.similarity < 0.97).mean()
    assert choice.notes == ()
    assert choice.target["match"] == 0.97
    with pytest.raises(ConfigError, match=r"at match threshold 1 cannot be reached"):
        choose(measured, Fnmr(0.001, 0.0, match=1.0), comparisons, replicates=2)


def test_an_fnmr_out_of_reach_names_the_nearest():
    measured = faces_on_a_circle(0)
    comparisons = compare(measured, make_pairs(measured.identities, impostors=3000))
    with pytest.raises(
        ConfigError,
        match=r"an FNMR of 0.0001 at FMR 0.01 cannot be reached on this material: the lowest FNMR "
        r"is 0\.\d+ \(0\.\d+ without a gate\), at a threshold of 0\.\d+, which keeps [\d.]+% of",
    ) as found:
        choose(measured, Fnmr(0.01, 0.0001), comparisons, replicates=2)
    nearest = float(str(found.value).split("lowest FNMR is ")[1].split()[0])
    assert choose(measured, Fnmr(0.01, nearest * 1.001), comparisons, replicates=2).threshold < 1


def test_draws_that_miss_the_target_count_as_zero():
    measured = faces_on_a_circle(2)
    comparisons = compare(measured, make_pairs(measured.identities, impostors=3000))
    with pytest.raises(ConfigError) as found:
        choose(measured, Fnmr(0.02, 0.0), comparisons, replicates=2)
    nearest = float(str(found.value).split("lowest FNMR is ")[1].split()[0])
    choice = choose(measured, Fnmr(0.02, nearest * 1.01), comparisons, replicates=60)
    assert choice.ci.low == 0
    assert any("could not be reached in" in note for note in choice.notes)


def blurred(identities, versions):
    """Each face with some changed pictures of it, its probes."""
    n = len(identities)
    owner = np.repeat(np.arange(n), versions)
    rng = np.random.default_rng(0)
    return measured_of(
        identities,
        np.full(n, 0.1),
        unit(rng.random(n)),
        owner,
        rng.random(len(owner)),
        unit(rng.random(len(owner))),
        rng.random(len(owner)),
    )


def test_a_face_is_compared_with_every_probe_of_the_other():
    measured = blurred(["a", "b", "a", "a"], 2)
    pairs = Pairs(genuine_pairs(measured.identities), np.array([[0, 1]]), "all")
    found = compare(measured, pairs)
    rows = [
        (reference, probe)
        for reference in range(4)
        for probe in range(8)
        if measured.owner[probe] != reference
        and measured.identities[measured.owner[probe]] == measured.identities[reference]
    ]
    assert len(rows) == 12
    wanted = sorted(float(measured.reference_embedding[a] @ measured.embedding[b]) for a, b in rows)
    np.testing.assert_allclose(np.sort(found.similarity), wanted, atol=1e-6)
    assert sorted(found.degree) == sorted(max(0.1, measured.degree[b]) for _, b in rows)
    same = measured.reference_embedding
    np.testing.assert_allclose(found.impostor_similarity, [same[0] @ same[1]], atol=1e-6)


def test_twins_compare_a_probe_with_its_own_face():
    measured = blurred([str(i) for i in range(5)], 3)
    found = compare(measured, make_pairs(measured.identities), twins=True)
    wanted = [measured.reference_embedding[i // 3] @ measured.embedding[i] for i in range(15)]
    np.testing.assert_allclose(found.similarity, wanted, atol=1e-6)
    assert found.source == "each probe with its own reference"
    less = compare(measured, make_pairs(measured.identities), twins=True, other_photo=0.6)
    np.testing.assert_allclose(less.similarity, 0.6 * np.array(wanted), atol=1e-6)
    np.testing.assert_array_equal(less.degree, found.degree)
    assert less.source == "each probe with its own reference, times 0.6"
    with pytest.raises(ConfigError, match="faces as they are have no twins"):
        compare(faces_on_a_circle(0), make_pairs(["a"]), twins=True)
    with pytest.raises(ConfigError, match="comparisons need an embedder"):
        compare(material(np.zeros(40)), make_pairs(["a"]))


def test_many_comparisons_are_thinned_out(monkeypatch):
    monkeypatch.setattr(comparing, "MOST_COMPARISONS", 50)
    measured = faces_on_a_circle(0)
    assert len(compare(measured, make_pairs(measured.identities)).similarity) == 50


def every_second_unit(units, replicates, seed):
    return iter([np.arange(units) % 2 * 2] * replicates)


def test_a_draw_chooses_among_the_pictures_that_it_drew(monkeypatch):
    monkeypatch.setattr(bootstrap, "draws", every_second_unit)
    degree = np.arange(1, 101) / 100
    measured = material(degree)
    # The degrees .02, .04, ..., .76 have the mean .39, and with .78 they have .4.
    ci = choose(measured, MeanDegree(0.395), replicates=3).ci
    assert (ci.low, ci.high) == (0.76, 0.76)
    assert choose(measured, KeepRate(0.755), replicates=3).ci.high == 0.76
    comparisons = comparing.Comparisons(
        similarity=(degree <= 0.6).astype(float),
        degree=degree,
        person=np.arange(100),
        impostor_similarity=np.zeros(0),
        impostor_person=np.zeros((0, 2), np.intp),
        persons=100,
        source="",
    )
    # Of those up to .66, 3 in 33 are false non-matches, and up to .68 4 in 34.
    ci = choose(measured, Fnmr(0.01, 0.1, match=0.5), comparisons, replicates=3).ci
    assert (ci.low, ci.high) == (0.66, 0.66)


def test_too_little_material():
    with pytest.raises(InputError, match="at least 30 faces, and there are only 29"):
        choose(material(np.zeros(29)), KeepRate(0.9))
    measured = faces_on_a_circle(0, people=40, photos=2)
    few = compare(measured, make_pairs(measured.identities))
    with pytest.raises(InputError, match=r"at least 100 comparisons .* there are 40 of 40 people"):
        choose(measured, Fnmr(0.1, 0.1), few)
    measured = faces_on_a_circle(0)
    few = compare(measured, make_pairs(measured.identities, impostors=500))
    with pytest.raises(InputError, match="takes at least 1000 comparisons of different people"):
        choose(measured, Fnmr(0.001, 0.1), few)
    with pytest.raises(ConfigError, match="an FNMR takes comparisons"):
        choose(measured, Fnmr(0.1, 0.1))


def test_notes():
    measured = faces_on_a_circle(0)
    comparisons = compare(measured, make_pairs(measured.identities, impostors=500))
    notes = choose(measured, Fnmr(0.1, 0.95), comparisons, replicates=2).notes
    assert notes == ("the target is met with every comparison kept",)
    notes = choose(measured, Fnmr(0.01, 0.6), comparisons, replicates=2).notes
    few = "an FMR of 0.01 rests on 500 comparisons of different people; 1000 or more make it firm"
    assert few in notes


def test_faces_that_nobody_compares_may_go_though_every_comparison_stays():
    degree = np.append(np.full(120, 0.25), np.full(30, 0.75))
    names = [str(i // 2) for i in range(120)] + [f"alone {i}" for i in range(30)]
    vectors = unit(np.arange(150) // 2 * 0.01)
    measured = measured_of(names, degree, vectors, np.arange(150), degree, vectors)
    pairs = make_pairs(names[:120])
    twice = Pairs(np.concatenate([pairs.genuine] * 2), pairs.impostor, "")
    choice = choose(measured, Fnmr(0.1, 0.5), compare(measured, twice), replicates=2)
    assert (choice.reached["kept_comparisons"], choice.reached["kept_faces"]) == (1.0, 0.8)
    assert choice.notes[0] == "the target is met with every comparison kept"


@pytest.mark.parametrize(
    ("target", "is_noted"),
    [
        (KeepRate(0.7), False),
        (KeepRate(0.999), True),
        (KeepRate(1.0), False),  # nothing else was asked for
        (MeanDegree(0.3), False),
        (MeanDegree(0.7), True),
    ],
)
def test_a_target_that_no_face_stands_against_is_noted(target, is_noted):
    measured = material(np.arange(1, 101) / 100)
    notes = choose(measured, target, replicates=2).notes
    assert notes == (("the target is met with every face kept",) if is_noted else ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KeepRate(0), "above 0 and up to 1, got 0"),
        (lambda: KeepRate(1.1), "above 0 and up to 1, got 1.1"),
        (lambda: MeanDegree(-0.1), r"lies in \[0, 1\], got -0.1"),
        (lambda: Fnmr(0.1), "one of the two"),
        (lambda: Fnmr(0.1, 0.1, 0.1), "one of the two"),
        (lambda: Fnmr(0, 0.1), "an FMR is a share between 0 and 1, got 0"),
        (lambda: Fnmr(0.1, 1.0), "from 0 to below 1, got 1"),
        (lambda: Fnmr(0.1, ratio=-0.5), "from 0 to below 1, got -0.5"),
    ],
)
def test_targets_out_of_range(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_same_seed_gives_the_same_interval():
    measured = material(np.random.default_rng(0).random(100).round(4))
    one, same, other = (
        choose(measured, KeepRate(0.8), replicates=200, seed=seed).ci for seed in (1, 1, 2)
    )
    assert one == same != other


def test_the_interval_of_a_keep_rate_covers_the_true_quantile():
    """Uniform degrees: the threshold that keeps 0.8 of all faces there could be is 0.8."""
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        measured = material(rng.random(100))
        ci = choose(measured, KeepRate(0.8), replicates=200, seed=trial).ci
        hits += ci.low <= 0.8 <= ci.high
    # 95 % of 300 with a standard error of 1.3 %; the percentiles of 100 faces are a little narrow.
    assert 0.90 <= hits / 300 <= 0.985


def test_the_interval_over_identities_covers_where_one_over_comparisons_does_not():
    """Every person has an error rate of their own, uniform: the true FNMR is 0.5.

    The spread of a mean of 40 uniform rates is 0.29 / sqrt(40); one that takes the 40 * 15
    comparisons for independent is a third of that, and its interval misses far too often.
    """
    rng = np.random.default_rng(6)
    people, each = 40, 15
    person = np.repeat(np.arange(people), each)
    hits = {"identities": 0, "comparisons": 0}
    for trial in range(200):
        wrong = rng.random(people * each) < np.repeat(rng.random(people), each)

        def share(counts, wrong=wrong):
            weight = counts[person] if len(counts) == people else counts
            return (weight * wrong).sum() / weight.sum()

        for name, units in (("identities", people), ("comparisons", people * each)):
            numbers = bootstrap.replicate(share, units, replicates=150, seed=trial)
            ci = bootstrap.interval(numbers)
            hits[name] += ci.low <= 0.5 <= ci.high
    assert 0.89 <= hits["identities"] / 200 <= 0.99
    assert hits["comparisons"] / 200 < 0.75


def test_draws_are_with_replacement():
    counts = list(bootstrap.draws(50, 40, seed=1))
    assert all(c.sum() == 50 for c in counts)
    assert np.mean([c == 0 for c in counts]) == pytest.approx((1 - 1 / 50) ** 50, abs=0.02)
    assert [c.tolist() for c in bootstrap.draws(50, 2, seed=1)] == [c.tolist() for c in counts[:2]]
    assert [c.tolist() for c in bootstrap.draws(1, 2, seed=1)] == [[1], [1]]
    with pytest.raises(InputError, match="needs units and replicates, got 0 and 5"):
        next(bootstrap.draws(0, 5, seed=0))


def test_a_drawn_impostor_counts_the_product_of_its_people():
    """The weighted match threshold equals the plain one on material that is really repeated."""
    measured = faces_on_a_circle(3, people=12, photos=5)
    pairs = Pairs(
        genuine_pairs(measured.identities), impostor_pairs(measured.identities, 10**6, 0), ""
    )
    solver = calibration._Compared(compare(measured, pairs), Fnmr(0.1, 0.5))
    counts = np.random.default_rng(0).integers(0, 3, 12)
    names = sorted(set(measured.identities))
    times = dict(zip(names, counts.tolist(), strict=True))
    vectors = measured.embedding.astype(float)
    scores = sorted(
        (
            float(vectors[a] @ vectors[b])
            for a, b in pairs.impostor
            for _ in range(times[measured.identities[a]] * times[measured.identities[b]])
        ),
        reverse=True,
    )
    level = solver._match_threshold(counts)
    share = sum(score >= level for score in scores) / len(scores)
    assert share <= 0.1
    next_lower = max(score for score in scores if score < level)
    assert sum(score >= next_lower for score in scores) / len(scores) > 0.1
