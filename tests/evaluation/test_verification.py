"""Comparisons: which are made, lists in files, match thresholds."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate.errors import InputError, ShapeError
from blurgate.evaluation import verification
from blurgate.evaluation.verification import (
    Pairs,
    find_pairs_file,
    fnmr,
    fold_accuracy,
    genuine_pairs,
    impostor_pairs,
    make_pairs,
    read_pairs,
    similarities,
    threshold_at_fmr,
    threshold_at_fnmr,
)
from blurgate.training.faces import Face

PEOPLE = ["a", "b", "a", "c", "b", "a"]


@pytest.fixture
def faces(tmp_path):
    """Pictures in LFW's manner: Ada_Lovelace/Ada_Lovelace_0001.jpg and so on."""
    out = []
    for person, count in (("Ada_L", 3), ("Bob_M", 2), ("Cy", 1)):
        for number in range(1, count + 1):
            path = tmp_path / person / f"{person}_{number:04d}.jpg"
            out.append(Face(len(out), str(path), person))
    return out


@pytest.mark.parametrize("count", [3, 11, 1000])
def test_pairs_are_of_one_person_or_of_two(count):
    every = list(itertools.combinations(range(6), 2))
    same = [list(p) for p in every if PEOPLE[p[0]] == PEOPLE[p[1]]]
    other = [list(p) for p in every if PEOPLE[p[0]] != PEOPLE[p[1]]]
    assert genuine_pairs(PEOPLE).tolist() == same
    drawn = impostor_pairs(PEOPLE, count, 0).tolist()
    assert len(drawn) == min(count, len(other)) == len({tuple(p) for p in drawn})
    assert all(pair in other for pair in drawn)
    assert drawn == impostor_pairs(PEOPLE, count, 0).tolist()


def test_of_very_many_pairs_of_one_person_some_are_drawn():
    people = ["a" if i % 3 else "b" for i in range(300)]  # 200 and 100: 19,900 and 4,950 pairs
    every = genuine_pairs(people)
    assert len(every) == 24_850 == len(np.unique(every, axis=0))
    drawn = genuine_pairs(people, most=2000, seed=5)
    assert len(np.unique(drawn, axis=0)) == 2000
    assert set(map(tuple, drawn.tolist())) <= set(map(tuple, every.tolist()))
    assert sorted(drawn.tolist()) == drawn.tolist()
    share = np.mean([people[a] == "a" for a in drawn[:, 0]])
    assert share == pytest.approx(19_900 / 24_850, abs=0.04)
    assert drawn.tolist() == genuine_pairs(people, most=2000, seed=5).tolist()
    assert drawn.tolist() != genuine_pairs(people, most=2000, seed=6).tolist()
    # As many as one person with 5,000 photos gives: arrays of a million, and not 12 million tuples.
    many = make_pairs(["a"] * 5000, seed=1)
    assert many.genuine.shape == (1_000_000, 2)
    assert many.source == "sampled genuine, all impostor pairs (seed 1)"


@given(st.lists(st.sampled_from("abcd"), max_size=25))
@settings(max_examples=100, deadline=None)
def test_mated_pairs_against_a_search(people):
    every = itertools.combinations(range(len(people)), 2)
    same = [list(pair) for pair in every if people[pair[0]] == people[pair[1]]]
    assert genuine_pairs(people).tolist() == same


def test_a_large_draw_prefers_nobody():
    people = [f"p{i // 4}" for i in range(400)]  # 79,400 non-mated pairs, of which 8,000 are drawn
    drawn = impostor_pairs(people, 8000, 3)
    assert len(np.unique(drawn, axis=0)) == 8000
    assert all(people[a] != people[b] for a, b in drawn.tolist())
    assert (drawn[:, 0] < drawn[:, 1]).all()
    counts = np.bincount(drawn.ravel(), minlength=400)  # 40 each, binomial: sd about 6
    assert counts.mean() == 40
    assert 5 < counts.std() < 7.5
    assert 15 < counts.min() <= counts.max() < 65  # the first and the last among them
    assert drawn.tolist() != impostor_pairs(people, 8000, 4).tolist()


def test_nobody_and_one_person():
    assert make_pairs([]).genuine.shape == (0, 2)
    assert make_pairs([]).impostor.shape == (0, 2)
    assert impostor_pairs(["a", "a"], 5, 0).shape == (0, 2)
    assert make_pairs(PEOPLE, impostors=3).source == "all genuine, sampled impostor pairs (seed 0)"


def test_sides_are_swapped_at_random_and_pairs_stay():
    pairs = make_pairs([f"p{i // 2}" for i in range(200)], impostors=500)
    sided = pairs.sided(1)
    for before, after in ((pairs.genuine, sided.genuine), (pairs.impostor, sided.impostor)):
        np.testing.assert_array_equal(np.sort(after, 1), np.sort(before, 1))
        assert 0.3 < (after[:, 0] < after[:, 1]).mean() < 0.7
    with pytest.raises(ShapeError, match=r"impostor pairs must be of shape \(n, 2\), got \(2,\)"):
        Pairs(pairs.genuine, np.array([1, 2]), "")


def test_a_csv_list(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "LEAST_FROM_FILE", 2)
    path = tmp_path / "pairs.csv"
    path.write_text(
        "a,b,same\n"
        "Ada_L/Ada_L_0001.jpg,Ada_L/Ada_L_0003.jpg,1\n"
        "Bob_M/Bob_M_0001.jpg,Bob_M/Bob_M_0002.jpg,1\n"
        "Ada_L/Ada_L_0002.jpg,Cy/Cy_0001.jpg,0\n"
        "Bob_M/Bob_M_0002.jpg,Cy/Cy_0001.jpg,0\n"
        "Bob_M/Bob_M_0002.jpg,Gone/Gone_0001.jpg,0\n"
    )
    pairs = read_pairs(path, faces)
    assert pairs.genuine.tolist() == [[0, 2], [3, 4]]
    assert pairs.impostor.tolist() == [[1, 5], [4, 5]]
    assert pairs.folds is None
    assert pairs.source == "pairs.csv: 2 genuine, 2 impostor of 5 pairs"
    assert find_pairs_file(["nowhere", str(tmp_path)]) == path
    assert find_pairs_file([str(tmp_path / "Cy")]) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", "a,b,same\nBob_M/Bob_M_0001.jpg,Bob_M/Bob_M_0002.jpg,1\n"),
        ("pairs.txt", "1\t1\nBob_M\t1\t2\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_list(faces, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert read_pairs(path, faces).genuine.tolist() == [[3, 4]]


def faces_of(*people: str) -> list[Face]:
    """Each given as path=person."""
    named = [person.split("=") for person in people]
    return [Face(i, source, person) for i, (source, person) in enumerate(named)]


def test_a_picture_that_is_not_there_is_no_other_persons(tmp_path):
    there = ("alice/3.jpg=alice", "bob/1.jpg=bob", "bob/2.jpg=bob")
    path = tmp_path / "x.csv"
    path.write_text("a,b,same\nbob/1.jpg,bob/2.jpg,1\nbob/3.jpg,bob/2.jpg,1\n./3.jpg,bob/2.jpg,1\n")
    pairs = read_pairs(path, faces_of(*(f"{tmp_path}/{person}" for person in there)))
    assert pairs.genuine.tolist() == [[1, 2]]


def test_crops_in_one_folder_are_found_by_names_that_tell_the_person(tmp_path):
    crops = faces_of("out/Ada_L_0001.png=Ada_L", "out/Ada_L_0003.png=Ada_L", "out/1.png=1")
    path = tmp_path / "x.csv"
    path.write_text(
        "a,b,same\nAda_L/Ada_L_0001.jpg,Ada_L/Ada_L_0003.jpg,1\nBob/1.jpg,Bob/2.jpg,1\n"
    )
    assert read_pairs(path, crops).genuine.tolist() == [[0, 1]]


def test_people_whom_a_list_calls_one_are_not_drawn_as_two(tmp_path):
    names = ("a-1", "b", "a-2", "c", "a-3")
    pictures = faces_of(*(f"{tmp_path}/{name}.jpg={name}" for name in names))
    path = tmp_path / "x.csv"
    path.write_text("a,b,same\na-2.jpg,a-3.jpg,1\na-1.jpg,a-3.jpg,1\n")
    drawn = read_pairs(path, pictures).impostor.tolist()
    assert drawn == [[0, 1], [0, 3], [1, 2], [1, 3], [1, 4], [2, 3], [3, 4]]


def test_very_many_pictures_of_one_person_take_no_memory():
    tracemalloc.start()
    assert impostor_pairs(["a"] * 4000 + ["b"], 5000, 0).tolist() == [
        [i, 4000] for i in range(4000)
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # every two of them would be 64 MB


def test_few_impostors_in_a_list_are_drawn_instead(faces, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b,same\nAda_L/Ada_L_0001.jpg,Ada_L/Ada_L_0003.jpg,1\n")
    pairs = read_pairs(path, faces, impostors=4, seed=2)
    assert pairs.genuine.tolist() == [[0, 2]]
    np.testing.assert_array_equal(
        pairs.impostor, impostor_pairs([face.identity for face in faces], 4, 2)
    )
    assert pairs.source.endswith("4 impostor pairs drawn instead (seed 2)")


def test_the_standard_list(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "LEAST_FROM_FILE", 1)
    path = tmp_path / "pairs.txt"
    path.write_text("2\t1\nAda_L\t1\t3\nAda_L\t2\tCy\t1\nBob_M\t1\t2\nBob_M\t2\tCy\t1\n")
    pairs = read_pairs(path, faces)
    assert pairs.genuine.tolist() == [[0, 2], [3, 4]]
    assert pairs.impostor.tolist() == [[1, 5], [4, 5]]
    assert pairs.folds is not None
    assert [fold.tolist() for fold in pairs.folds] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "a,b\nx,y\n", "p.csv has no column 'same'; it needs a, b and same"),
        ("p.csv", "a,b,same\nx,y,yes\n", "line 2 of .*p.csv: a and b are paths, same is 1 or 0"),
        ("p.csv", 'a,b,same\n"x,y,1\n', "line 2 of .*p.csv: unexpected end of data; check"),
        ("p.csv", 'a,b,"same\n', "line 1 of .*p.csv: unexpected end of data"),
        ("p.txt", "", "is not a list of pairs: its first line must hold the number of folds"),
        ("p.txt", "Ada 1 2\n", "is not a list of pairs"),
        ("p.txt", "1\t1\nAda\tx\t2\n", r"line 2 of .*p.txt: 'Ada.*neither `name number number`"),
        ("p.txt", "1\t1\nNo\t1\t2\n", "none of its 1 comparisons has one person and two pictures"),
    ],
)
def test_wrong_lists_name_the_line(faces, tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_pairs(path, faces)


def test_a_missing_list(faces, tmp_path):
    with pytest.raises(InputError, match=r"cannot read the pairs .*gone.csv: No such file"):
        read_pairs(tmp_path / "gone.csv", faces)


@pytest.mark.shared
def test_the_lists_of_the_shared_data(shared):
    from blurgate.training.faces import list_faces

    folder = shared / "data/faces_eval"
    found = find_pairs_file([str(folder)])
    assert found == folder / "lfw_pairs_subset.csv"
    faces = list_faces([str(folder)])
    pairs = read_pairs(found, faces, impostors=2000)
    assert len(pairs.genuine) > 700  # manifest: about 767, nearly all same-person
    assert all(faces[a].identity == faces[b].identity for a, b in pairs.genuine.tolist())
    assert all(faces[a].identity != faces[b].identity for a, b in pairs.impostor.tolist())


def test_similarities_are_cosines():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 8)).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    pairs = np.array([[0, 1], [4, 4], [2, 0]])
    np.testing.assert_allclose(similarities(a, b, pairs), [a[0] @ b[1], a[4] @ b[4], a[2] @ b[0]],
                               atol=1e-6)  # fmt: skip


SCORES = st.lists(st.integers(-5, 5), min_size=2, max_size=30).map(lambda n: np.array(n) / 5)


@given(SCORES, st.floats(0.02, 0.98))
@settings(max_examples=200, deadline=None)
def test_match_thresholds_are_the_tightest(scores, target):
    level = threshold_at_fnmr(scores, target)
    assert fnmr(scores, level) <= target + 1e-9
    assert fnmr(scores, np.nextafter(level, np.inf)) > target  # nothing higher will do
    if target * len(scores) >= 1:
        level = threshold_at_fmr(scores, target)
        assert (scores >= level).mean() <= target + 1e-9
        assert (scores >= np.nextafter(level, -np.inf)).mean() > target  # nothing lower will do
    else:
        with pytest.raises(InputError, match=f"and there are {len(scores)}"):
            threshold_at_fmr(scores, target)


def test_rates_that_are_none():
    with pytest.raises(InputError, match="between 0 and 1, got 1"):
        threshold_at_fmr(np.zeros(5), 1)
    with pytest.raises(InputError, match="takes at least 1000 comparisons of different people"):
        threshold_at_fmr(np.zeros(5), 1e-3)
    with pytest.raises(InputError, match="FNMR is a share"):
        threshold_at_fnmr(np.zeros(0), 0.1)


def test_accuracy_over_folds():
    genuine, impostor = np.array([0.9, 0.8, 0.2, 0.9]), np.array([0.1, 0.3, 0.1, 0.85])
    folds = (np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    # Fold 0 out: of {.2, .9 | .1, .85} the lowest best threshold is .2 -> 2 + 1 of 4 right.
    # Fold 1 out: {.9, .8 | .1, .3} -> .8: .9 right, .2 wrong, .1 right, .85 wrong.
    mean, error = fold_accuracy(genuine, impostor, folds)
    assert mean == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert error == pytest.approx(np.std([0.75, 0.5], ddof=1) / np.sqrt(2))
