"""A map over a list in worker threads that keeps the order and runs only so far ahead."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterator, Sequence, TypeVar

__all__ = ["ordered_map"]

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Sequence[T], workers: int, ahead: int) -> Iterator[R]:
    """Yields ``function(item)`` for each item, in order.

    Threads are enough here: OpenCV and numpy release the interpreter lock while they work.

    Args:
        function: called once an item; must be safe to call from several threads.
        items: what to map over.
        workers: threads; 0 calls ``function`` in the caller's thread, when its result is asked for.
        ahead: results prepared before they are asked for.

    Raises:
        Whatever ``function`` raised, at the item's place in the order. No thread outlives the iterator.
    """
    if workers == 0:
        yield from map(function, items)
        return
    waiting: Deque[Future] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="slimkit-data") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
