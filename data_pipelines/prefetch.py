"""Batches made ahead of time, in order: in a thread of this process, or in worker processes.

Whatever goes wrong behind the scenes arrives at the consumer as an exception, never as silence.
"""

import queue
import threading
from collections.abc import Generator, Sequence
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch.multiprocessing import get_context
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as MapDataset

from data_pipelines.errors import UserError
from data_pipelines.rows import BatchMaker, MadeBatch
from data_pipelines.worker_processes import WorkerProcesses

SECONDS_BETWEEN_LOOKS = 0.05


def made_in_a_thread(
    maker: BatchMaker, steps: Sequence[int], num_ahead: int
) -> Generator[MadeBatch, None, None]:
    """The batches of the steps, up to `num_ahead` of them made ahead by one thread.

    Pillow lets go of the interpreter while it decodes, so decoding overlaps with training.
    """
    made: queue.Queue[MadeBatch | BaseException] = queue.Queue(maxsize=max(1, num_ahead))
    closed = threading.Event()

    def check() -> None:
        # When the main thread has ended, the interpreter waits for this one, which must notice.
        if closed.is_set() or not threading.main_thread().is_alive():
            raise _Closed

    def hand_over(item: MadeBatch | BaseException) -> None:
        while True:
            check()
            try:
                made.put(item, timeout=SECONDS_BETWEEN_LOOKS)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            try:
                for step in steps:
                    hand_over(maker.make(step, check))
            except Exception as error:
                hand_over(error)
        except _Closed:
            pass

    thread = threading.Thread(target=work, name="batches")
    thread.start()
    try:
        for _ in steps:
            item = _next_item(made, thread)
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()


def _next_item(
    made: queue.Queue[MadeBatch | BaseException], thread: threading.Thread
) -> MadeBatch | BaseException:
    while True:
        try:
            return made.get(timeout=1.0)
        except queue.Empty:
            # A consumer that is not the main thread may outlive it, and the thread stops with that.
            if not thread.is_alive():
                raise RuntimeError("the thread that makes batches has ended") from None


def new_workers(num_workers: int) -> WorkerProcesses:
    """`num_workers` processes, which start with the first batch that is asked for."""
    return WorkerProcesses(_context(), num_workers)


def _context() -> BaseContext:
    # Not fork: the trainer holds threads (gloo, CUDA, autograd) whose locks a fork would copy shut.
    # The server that workers are forked from has imported torch once, so workers start quickly.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def made_in_processes(
    maker: BatchMaker, steps: Sequence[int], num_ahead: int, workers: WorkerProcesses
) -> Generator[MadeBatch, None, None]:
    """The batches of the steps in order, made by worker processes of one thread each."""
    loader = DataLoader(
        _Steps(maker, workers),
        batch_size=None,
        sampler=steps,
        num_workers=len(workers),
        prefetch_factor=-(-max(num_ahead, len(workers)) // len(workers)),
        multiprocessing_context=_context(),
        collate_fn=_as_it_is,
        worker_init_fn=workers.enter,
        # A generator of its own: the loader draws a seed from it, which must not move torch's.
        generator=torch.Generator(),
    )
    # Held by a name: it waits for its workers when it is dropped, which must not be before they
    # are told to leave a server that they may themselves be waiting for.
    batches = iter(loader)
    try:
        for made in batches:
            if isinstance(made, str):
                raise UserError(made)
            yield made
    finally:
        workers.close()


def _as_it_is(item: Any) -> Any:
    return item


class _Closed(BaseException):
    """The consumer has gone."""


class _Steps(MapDataset[MadeBatch | str]):
    """Item number s is the batch of step s, or the line of a user's mistake."""

    def __init__(self, maker: BatchMaker, workers: WorkerProcesses) -> None:
        self._maker = maker
        self._workers = workers

    def __getitem__(self, step: int) -> MadeBatch | str:
        try:
            return self._maker.make(step, self._check)
        except _Closed:
            return "closed"
        # The loader would wrap it into the traceback of a worker, and it is one line for people.
        except UserError as error:
            return str(error)

    def _check(self) -> None:
        if self._workers.closed:
            raise _Closed
