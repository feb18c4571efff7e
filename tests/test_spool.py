"""Names beyond memory's bound come back as they went in."""

from __future__ import annotations

import gc
import random

import pytest

from blurgate.spool import Spool, sorted_names

ODD = ["a\nb", "", 'q"uote', "\udcff.jpg", "ä", "😀", "a\\n", "a"]


@pytest.mark.parametrize("in_memory", [0, 1, 3, 100])
def test_a_spool_gives_what_it_got_as_often_as_asked(in_memory):
    spool = Spool(iter(ODD), in_memory=in_memory)
    assert len(spool) == len(ODD)
    assert list(spool) == ODD
    one, other = iter(spool), iter(spool)
    assert [next(one), next(one), next(other)] == [ODD[0], ODD[1], ODD[0]]
    assert list(one) == ODD[2:]


@pytest.mark.parametrize("in_memory", [1, 2, 7, 1000])
def test_sorted_names_are_those_of_a_set(in_memory):
    drawn = random.Random(0)
    names = ODD + [f"{drawn.randrange(200):x}/{drawn.randrange(9)}" for _ in range(500)]
    assert list(sorted_names(names, in_memory=in_memory)) == sorted(set(names))


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = sorted_names(ODD, in_memory=2)
    assert list(tmp_path.iterdir())
    assert list(spool) == sorted(set(ODD))
    del spool
    gc.collect()
    assert list(tmp_path.iterdir()) == []
