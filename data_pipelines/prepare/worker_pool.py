"""Tasks done by several processes at once; the answers come in the tasks' order."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_WORKER = 4
"""Given out ahead: enough to stay busy while a shard is written, few enough for any memory."""
MAX_DEFAULT_WORKERS = 8


class WorkerDiedError(Exception, Generic[T]):
    """A worker process is gone."""

    def __init__(self, task: T) -> None:
        super().__init__(task)
        self.task = task
        """The first task that has no answer: what ended the process lies here or a little later."""


def usable_cores() -> int:
    """Cores that this process may use, at most eight: more readers than that rarely help a disk."""
    # Not every operating system can say which cores are ours.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, MAX_DEFAULT_WORKERS)


def answers(
    work: Callable[[T], R], tasks: Iterable[T], num_workers: int
) -> Generator[tuple[T, R], None, None]:
    """Each task with what `work` makes of it, in the tasks' order.

    The answers do not depend on `num_workers`; 0 works in this process. Close the generator to end the
    processes. Raises WorkerDiedError when one of them died.
    """
    left = iter(tasks)
    first = list(islice(left, 2))
    if num_workers == 0 or len(first) < 2:
        # One task is done before a process has started.
        for task in chain(first, left):
            yield task, work(task)
        return
    # Not fork, for threads of this process would leave their locks shut.
    context = get_context("spawn")
    hears, holds = context.Pipe(duplex=False)
    with hears, holds, ProcessPoolExecutor(num_workers, context, _end_with, (hears,)) as pool:
        try:
            yield from _answers(pool, work, chain(first, left), num_workers * TASKS_PER_WORKER)
        except BaseException:
            # Whoever stops early does not wait for answers that nobody asks for any more.
            holds.close()
            raise


def _answers(
    pool: ProcessPoolExecutor, work: Callable[[T], R], tasks: Iterator[T], num_ahead: int
) -> Iterator[tuple[T, R]]:
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, _submit(pool, work, task)))
            if len(waiting) == num_ahead:
                yield _first_answer(waiting)
        while waiting:
            yield _first_answer(waiting)
    except BrokenProcessPool as error:
        raise WorkerDiedError(waiting[0][0]) from error


def _first_answer(waiting: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    task, future = waiting[0]
    answer = future.result()
    waiting.popleft()
    return task, answer


def _submit(pool: ProcessPoolExecutor, work: Callable[[T], R], task: T) -> Future[R]:
    # The first call starts the processes, which inherit the mask: Ctrl-C goes to the whole group, and
    # this process alone is to answer it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with(parent: Connection) -> None:
    # A pool's process would go on for as long as its work lasts, or wait for more for ever when its
    # parent was killed.
    def wait() -> None:
        # Nothing is ever sent; this returns when the parent closes its end, or dies.
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=wait, name="end with the parent", daemon=True).start()
