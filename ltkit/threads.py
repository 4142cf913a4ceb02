"""Work on one block after another in several threads, with the results in the blocks' order.

What is computed of a block, and in which order results are added up, does not depend on how many
threads there are.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from itertools import chain, islice
from threading import Event
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLE = "OMP_NUM_THREADS"


def count() -> int:
    """Return how many threads to use: $OMP_NUM_THREADS, or the cores that the process may use."""
    said = os.environ.get(VARIABLE, "")
    if said.isdecimal() and int(said):
        return int(said)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _libraries() -> ThreadpoolController:
    """Return what sets the threads of matrix products.

    Each thread makes its own, or products would wait for cores that other threads work on.
    """
    import numpy  # noqa: F401 - whose products are meant

    with warnings.catch_warnings(action="ignore"):  # of libraries that it has no part in
        return ThreadpoolController()


@contextmanager
def one_of_torch() -> Iterator[None]:
    """Let PyTorch use one thread: what works beside others must not wait for them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], stop: Event | None = None
) -> Iterator[Result]:
    """Yield what `work` returns for each item, in their order; as many at once as `count`.

    Items are taken one by one in the calling thread, a few ahead of what is done. The work sees the
    caller's context, such as NumPy's error state.

    Args:
        work: what is done.
        items: what it is done with.
        stop: set when no more results are wanted, as after an error or Ctrl-C: what works on an
            item for long has to end then, for it is waited for.

    Example:
        >>> list(in_order(lambda n: n * n, range(4)))
        [0, 1, 4, 9]
    """
    rest = iter(items)
    first, most = list(islice(rest, 2)), count()
    if len(first) < 2 or most == 1:
        yield from map(work, chain(first, rest))
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(most) as pool, _libraries().limit(limits=1, user_api="blas"):
        try:
            for item in chain(first, rest):
                waiting.append(pool.submit(copy_context().run, work, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if stop is not None:
                stop.set()
