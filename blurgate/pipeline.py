"""Threads of the pipeline. Nothing else in blurgate starts one.

`prefetch` and `ordered_map` take and give plain iterables, keep the order, hold a bounded number of
items, raise the producer's error in the consumer at the place where the item would have come, and
stop their threads when the consumer stops early (closes the generator) or raises.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2

from blurgate.profiling import filled

T = TypeVar("T")
U = TypeVar("U")


def prefetch(
    items: Iterable[T], depth: int, *, name: str = "prefetched"
) -> Generator[T, None, None]:
    """Produce items in a thread of their own, at most `depth` ahead of the consumer.

    Args:
        items: Iterated in the thread, and closed there if it is a generator.
        depth: How many finished items may wait, at least 1.
        name: What a profile calls the queue.

    Yields:
        The items, in order.

    >>> list(prefetch(range(4), depth=2))
    [0, 1, 2, 3]
    """
    yield from newest(
        items, depth, on_drop=lambda item: None, may_drop=lambda: False, name=name, patience_s=None
    )


def ordered_map(
    function: Callable[[T], U], items: Iterable[T], workers: int, *, ahead: int | None = None
) -> Generator[U, None, None]:
    """Apply a function to items in several threads and give the results in the items' order.

    Worth it where `function` lets go of the interpreter lock: onnxruntime, OpenCV and Pillow do.

    Args:
        function: Called from several threads at once.
        items: Read in the consumer's thread, at most `ahead` of the item that is given next; closed
            with this generator if they are one.
        workers: Number of threads; 1 runs in the consumer's thread and starts none.
        ahead: At least `workers`; twice that if left out.

    Yields:
        `function(item)` for each item, in order.

    >>> list(ordered_map(abs, [-3, 1, -2], workers=2))
    [3, 1, 2]
    """
    if workers == 1:
        with _closed(items) as iterator:
            for item in iterator:
                yield function(item)
        return
    most = 2 * workers if ahead is None else ahead
    running: deque[Future[U]] = deque()
    broken: Exception | None = None
    with _closed(items) as iterator:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="blurgate-worker")
        try:
            while True:
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised below, after what came before it
                    broken = error
                    break
                running.append(pool.submit(function, item))
                if len(running) >= most:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
            if broken is not None:
                raise broken
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _closed(items: Iterable[T]) -> Generator[Iterator[T], None, None]:
    """Iterate over items, and close them at the end of the block if they can be closed."""
    iterator = iter(items)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


@contextmanager
def cores_for_workers() -> Generator[None, None, None]:
    """Keep OpenCV from starting threads of its own until the end of the block.

    Its threads wait for work by spinning, which takes the cores from the workers; what is done here
    with a frame is too little to be shared out. The setting is the whole process's, so that only
    commands ask for it, and it is put back.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def newest(
    items: Iterable[T],
    depth: int,
    *,
    on_drop: Callable[[T], None],
    may_drop: Callable[[], bool],
    over: Callable[[], bool] = lambda: False,
    name: str = "",
    patience_s: float | None = 1.0,
) -> Generator[T, None, None]:
    """Produce items in a thread of their own that waits for nobody: the oldest give way.

    For cameras. Stopping does not wait long for the producer, which may be held up by a device or a
    network that keeps silent; its thread is a daemon.

    Args:
        items: Iterated in the thread, and closed there if it is a generator.
        depth: How many finished items may wait, at least 1.
        on_drop: Called with each item that gives way, and with those that still wait at the end.
        may_drop: Asked when the queue is full; while it says no, the producer waits.
        over: Asked ten times a second; once it says yes, the items end, whatever the producer does.
        name: What a profile calls the queue; empty: it is in none.
        patience_s: How long stopping waits for the producer; None: as long as it takes.

    Yields:
        The items that were not dropped, in order.

    >>> list(newest(range(3), 9, on_drop=print, may_drop=lambda: True))
    [0, 1, 2]
    """
    waiting: deque[T] = deque()
    changed = threading.Condition()
    error: BaseException | None = None
    done = stop = False

    def produce() -> None:
        nonlocal error, done
        try:
            with _closed(items) as iterator:
                for item in iterator:
                    with changed:
                        while len(waiting) >= depth and not stop:
                            if may_drop():
                                on_drop(waiting.popleft())
                            else:
                                changed.wait(0.1)
                        if stop:
                            on_drop(item)
                            break
                        waiting.append(item)
                        changed.notify_all()
        except BaseException as caught:  # noqa: BLE001 - raised again in the consumer
            error = caught
        with changed:
            done = True
            changed.notify_all()

    thread = threading.Thread(target=produce, name="blurgate-ahead", daemon=True)
    thread.start()
    try:
        while not over():
            if name:
                filled(name, len(waiting), depth)
            with changed:
                while not (waiting or done or over()):
                    changed.wait(0.1)  # so that Ctrl-C gets through on every system
                if not waiting:
                    break
                item = waiting.popleft()
                changed.notify_all()
            yield item
        if error is not None:
            raise error
    finally:
        with changed:
            stop = True
            while waiting:
                on_drop(waiting.popleft())
            changed.notify_all()
        thread.join(patience_s)
