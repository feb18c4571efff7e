"""Where the time goes, by a clock that the tests turn."""

from __future__ import annotations

import threading

import pytest

from blurgate import profiling
from blurgate.pipeline import prefetch
from blurgate.profiling import STAGES, current_profile, making, taking, taking_profile, timed


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is turned."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(profiling, "time", made)
    return made


def seconds(profile):
    stages = profile.as_dict(1)["stages"]
    return {name: stages[name]["seconds"] for name in STAGES if stages[name]["calls"]}


def test_nothing_is_measured_unless_asked_for():
    assert current_profile() is None
    with timed("detect"):
        pass
    with taking_profile() as profile:
        assert current_profile() is profile
    assert current_profile() is None
    assert seconds(profile) == {}
    assert profile.verdict() == "nothing was measured"


def test_inner_stages_do_not_count_twice(clock):
    with taking_profile() as profile:
        with timed("align"):
            clock.now += 1
            with timed("convert"):
                clock.now += 5
            with timed("convert"):
                clock.now += 2
        with pytest.raises(ZeroDivisionError), timed("score"):
            clock.now += 4
            raise ZeroDivisionError
        clock.now += 100
    assert seconds(profile) == {"convert": 7, "align": 1, "score": 4}
    assert profile.as_dict(1)["stages"]["convert"]["calls"] == 2
    assert profile.elapsed_s == 112


def test_threads_add_up(clock):
    with taking_profile() as profile:
        inside = threading.Barrier(3)

        def work():
            with timed("detect"):
                inside.wait(10)
                inside.wait(10)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.wait(10)
        clock.now += 3
        inside.wait(10)
        for thread in threads:
            thread.join()
    assert seconds(profile) == {"detect": 6}


def test_making_and_taking(clock):
    def items():
        for i in range(3):
            clock.now += 1
            yield i

    with taking_profile() as profile:
        for _ in taking("write", making("decode", items())):
            clock.now += 10
    assert seconds(profile) == {"decode": 3, "write": 30}


def test_an_early_stop_closes_what_is_measured():
    closed = []

    def items():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    stream = taking("write", making("decode", items()))
    next(stream)
    stream.close()
    assert closed == [True]


def test_queues_and_words(clock):
    with taking_profile() as profile:
        list(prefetch(range(20), depth=3, name="decoded frames"))
        with timed("detect"):
            clock.now += 3
        with timed("score"):
            clock.now += 1
    told = profile.as_dict(10)
    assert told["queues"]["decoded frames"]["capacity"] == 3
    assert 0 <= told["queues"]["decoded frames"]["mean_fill"] <= 3
    assert told["bottleneck"] == "detect"
    lines = list(profile.lines(10))
    assert [line.split()[0] for line in lines[: 1 + len(STAGES)]] == ["stage", *STAGES]
    assert lines[3].split() == ["detect", "1", "3.00", "300.00", "75%", "0.75"]
    assert lines[-2].startswith("queue decoded frames: ")
    assert lines[-1].startswith("bottleneck: detect, 75% of the work: ")
    assert "--detect-every" in lines[-1]


def test_drawing_and_cutting_are_not_told_to_be_the_disks_fault(clock):
    with taking_profile() as profile, timed("write"):
        clock.now += 1
        with timed("draw"):
            clock.now += 9
    assert seconds(profile) == {"write": 1, "draw": 9}
    assert profile.verdict().startswith("bottleneck: draw, 90% of the work: ")
    assert "--annotate and --cut" in profile.verdict()
    assert "disk" not in profile.verdict()
