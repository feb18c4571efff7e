"""Threads of the pipeline. Nothing else in blurgate starts one.

Both functions take and give plain iterables, keep the order, hold a bounded number of items, raise
the producer's error in the consumer at the place where the item would have come, and stop their
threads when the consumer stops early (closes the generator) or raises.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing import Final

T = TypeVar("T")
U = TypeVar("U")


class _Done:
    """Marks the end of the producer's items; carries its error when it ended with one."""

    def __init__(self, error: BaseException | None) -> None:
        self.error: Final = error


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Produce items in a thread of their own, at most `depth` ahead of the consumer.

    Args:
        items: Iterated in the thread, and closed there if it is a generator.
        depth: How many finished items may wait, at least 1.

    Yields:
        The items, in order.

    >>> list(prefetch(range(4), depth=2))
    [0, 1, 2, 3]
    """
    waiting: queue.Queue[T | _Done] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: T | _Done) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        error: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as caught:  # noqa: BLE001 - raised again in the consumer
            error = caught
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        put(_Done(error))

    thread = threading.Thread(target=produce, name="blurgate-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _Done):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()


def ordered_map(
    function: Callable[[T], U], items: Iterable[T], workers: int
) -> Generator[U, None, None]:
    """Apply a function to items in several threads and give the results in the items' order.

    Worth it where `function` lets go of the interpreter lock: onnxruntime, OpenCV and Pillow do.

    Args:
        function: Called from several threads at once.
        items: Read in the consumer's thread, at most `2 * workers` ahead.
        workers: Number of threads; 1 runs in the consumer's thread and starts none.

    Yields:
        `function(item)` for each item, in order.

    >>> list(ordered_map(abs, [-3, 1, -2], workers=2))
    [3, 1, 2]
    """
    if workers == 1:
        yield from map(function, items)
        return
    running: deque[Future[U]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="blurgate-worker")
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) >= 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
