"""Threads: order, bounds, errors and early stops. Every test here would hang if a thread did."""

from __future__ import annotations

import threading
import time

import cv2
import pytest

from blurgate.pipeline import cores_for_workers, newest, ordered_map, prefetch

pytestmark = pytest.mark.timeout(20)


def blurgate_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("blurgate")]


def test_prefetch_keeps_order():
    assert list(prefetch(iter(range(1000)), depth=3)) == list(range(1000))


def test_prefetch_raises_the_producers_error_after_its_items():
    def items():
        yield 1
        yield 2
        raise ZeroDivisionError("broken source")

    got = []
    with pytest.raises(ZeroDivisionError, match="broken source"):
        for item in prefetch(items(), depth=2):
            got.append(item)
    assert got == [1, 2]
    assert blurgate_threads() == []


def test_prefetch_runs_at_most_depth_ahead():
    produced = []

    def items():
        for i in range(100):
            produced.append(i)
            yield i

    stream = prefetch(items(), depth=2)
    next(stream)
    time.sleep(0.3)
    # one taken, two waiting in the queue, one in the producer's hand
    assert len(produced) <= 4
    stream.close()


def test_closing_the_consumer_closes_the_producer():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = prefetch(items(), depth=1)
    next(stream)
    stream.close()
    assert closed.is_set()
    assert blurgate_threads() == []


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_ordered_map_keeps_order_whatever_finishes_first(workers):
    def slow_when_even(i: int) -> int:
        time.sleep(0.004 if i % 2 == 0 else 0)
        return i * i

    assert list(ordered_map(slow_when_even, range(50), workers)) == [i * i for i in range(50)]


@pytest.mark.parametrize("workers", [1, 3])
def test_ordered_map_raises_where_the_result_would_have_come(workers):
    got = []
    with pytest.raises(ZeroDivisionError):
        for value in ordered_map(lambda i: 6 // (3 - i), range(10), workers):
            got.append(value)
    assert got == [2, 3, 6]
    assert blurgate_threads() == []


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_ordered_map_gives_what_came_before_an_error_of_the_source(workers):
    def items():
        yield from range(5)
        raise ZeroDivisionError("broken source")

    got = []
    with pytest.raises(ZeroDivisionError, match="broken source"):
        for value in ordered_map(lambda i: i, items(), workers):
            got.append(value)
    assert got == [0, 1, 2, 3, 4]
    assert blurgate_threads() == []


@pytest.mark.parametrize(
    "start",
    [
        lambda items: prefetch(items, 1),
        lambda items: newest(items, 1, on_drop=print, may_drop=lambda: True),
    ],
)
def test_what_cannot_be_iterated_is_an_error_and_no_wait_for_ever(start):
    with pytest.raises(TypeError, match="not iterable"):
        next(start(5))


class Unclosable:
    """Items that cannot be closed."""

    def __init__(self):
        self.items = iter((1, 2))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def close(self):
        raise OSError("cannot be closed")


@pytest.mark.parametrize(
    "start",
    [
        lambda items: prefetch(items, 3),
        lambda items: newest(items, 3, on_drop=print, may_drop=lambda: True),
        lambda items: ordered_map(abs, items, 1),
        lambda items: ordered_map(abs, items, 2),
    ],
)
def test_what_cannot_be_closed_is_an_error_and_no_wait_for_ever(start):
    got = []
    with pytest.raises(OSError, match="cannot be closed"):
        for item in start(Unclosable()):
            got.append(item)
    assert got == [1, 2]
    assert blurgate_threads() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_that_stops_iteration_does_not_end_the_items(workers):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(ordered_map(lambda i: next(iter(())), range(3), workers))


def test_ordered_map_reads_a_bounded_number_ahead():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    stream = ordered_map(lambda i: i, items(), 2)
    next(stream)
    assert len(taken) <= 4
    stream.close()
    assert blurgate_threads() == []


def test_ordered_map_really_uses_several_threads():
    together = threading.Barrier(3, timeout=5)
    assert list(ordered_map(lambda i: together.wait() >= 0, range(3), 3)) == [True] * 3


def test_opencv_has_its_threads_back_after_a_command():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    three = cv2.getNumThreads()  # 1 where OpenCV was built without threads
    try:
        with pytest.raises(ZeroDivisionError, match="in a command"), cores_for_workers():
            assert cv2.getNumThreads() == 1
            raise ZeroDivisionError("in a command")
        assert cv2.getNumThreads() == three
    finally:
        cv2.setNumThreads(before)
