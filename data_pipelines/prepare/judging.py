"""Items looked at by several processes at once; the answers come in the items' order."""

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection

from data_pipelines.errors import UserError
from data_pipelines.prepare.folder_items import Item, Look, look_at

ITEMS_PER_TASK = 32
TASKS_PER_WORKER = 4
"""Given out ahead: enough to stay busy while a shard is written, few enough for any memory."""
MAX_DEFAULT_WORKERS = 8

Answer = tuple[Sequence[Item], Sequence[Look]]
"""Items that stand in a row, and one look for each."""


def usable_cores() -> int:
    """Cores that this process may use, at most eight: more readers than that rarely help a disk."""
    # Not every operating system can say which cores are ours.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, MAX_DEFAULT_WORKERS)


def looks(items: Iterable[Item], num_workers: int) -> Generator[Answer, None, None]:
    """All items in their order, a few at a time, with the look at each.

    The looks do not depend on `num_workers`; 0 looks in this process. Close the generator to end the
    processes. Raises UserError when one of them died.
    """
    tasks = _tasks(iter(items))
    first = list(islice(tasks, 2))
    if num_workers == 0 or len(first) < 2:
        # One task is done before a process has started.
        for task in chain(first, tasks):
            yield task, _look_at_all(task)
        return
    # Not fork, for threads of this process would leave their locks shut.
    context = get_context("spawn")
    hears, holds = context.Pipe(duplex=False)
    with hears, holds, ProcessPoolExecutor(num_workers, context, _end_with, (hears,)) as pool:
        try:
            yield from _answers(pool, chain(first, tasks), num_workers * TASKS_PER_WORKER)
        except BaseException:
            # Whoever stops early does not wait for pictures that nobody asks for any more.
            holds.close()
            raise


def _answers(
    pool: ProcessPoolExecutor, tasks: Iterator[Sequence[Item]], num_ahead: int
) -> Iterator[Answer]:
    waiting: deque[tuple[Sequence[Item], Future[list[Look]]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, _submit(pool, task)))
            if len(waiting) == num_ahead:
                yield _first_answer(waiting)
        while waiting:
            yield _first_answer(waiting)
    except BrokenProcessPool as error:
        raise UserError(
            f"a worker process died at {waiting[0][0][0].name} or one of the pictures after it, "
            "perhaps of a picture that its decoder cannot stand or for want of memory; what is done "
            "is kept: mend it or give fewer --workers, and run again"
        ) from error


def _first_answer(waiting: deque[tuple[Sequence[Item], Future[list[Look]]]]) -> Answer:
    task, future = waiting[0]
    found = future.result()
    waiting.popleft()
    return task, found


def _submit(pool: ProcessPoolExecutor, task: Sequence[Item]) -> Future[list[Look]]:
    # The first call starts the processes, which inherit the mask: Ctrl-C goes to the whole group, and
    # this process alone is to answer it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_look_at_all, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _tasks(items: Iterator[Item]) -> Iterator[Sequence[Item]]:
    while task := list(islice(items, ITEMS_PER_TASK)):
        yield task


def _look_at_all(task: Sequence[Item]) -> list[Look]:
    return [look_at(item) for item in task]


def _end_with(parent: Connection) -> None:
    # A pool's process would go on for as long as its work lasts, or wait for more for ever when its
    # parent was killed.
    def wait() -> None:
        # Nothing is ever sent; this returns when the parent closes its end, or dies.
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=wait, name="end with the parent", daemon=True).start()
