"""The bytes of far samples, asked for before they are needed: each answer comes late, but many can be awaited."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue

from data_pipelines.manifest import Dataset
from data_pipelines.reader import RawSample, read_sample
from data_pipelines.remote import RemoteShard

MAX_AT_ONCE = 16
"""Remote samples that are read at the same time."""
MAX_AHEAD = 2 * MAX_AT_ONCE
"""Samples that are being read or lie ready: one late answer does not make the others wait."""
MAX_BYTES_AHEAD = 128 * 2**20
"""Bytes of those; a sample that is larger by itself is read alone."""
SECONDS_BETWEEN_CHECKS = 0.05


def samples_read_ahead(
    dataset: Dataset, indices: Sequence[int], check: Callable[[], None]
) -> Generator[Callable[[], RawSample], None, None]:
    """For each index in order a call that gives what read_sample does, or raises what it raises.

    Remote samples are read ahead by threads, and `check` runs while one is awaited, and may raise.
    Local ones are read by the call itself. Closing leaves reads that hang to end by themselves.
    """
    upcoming = deque(index for index in indices if _is_remote(dataset, index))
    asked: deque[_Read] = deque()
    tasks: SimpleQueue[_Read | None] = SimpleQueue()
    closed = threading.Event()
    num_threads = min(MAX_AT_ONCE, len(upcoming))
    for _ in range(num_threads):
        # Daemons: a server that hangs must not hold the interpreter.
        threading.Thread(target=_work, args=(tasks,), name="read ahead", daemon=True).start()
    try:
        for index in indices:
            while upcoming and _has_room(asked, _num_bytes(dataset, upcoming[0])):
                asked.append(_Read(dataset, upcoming.popleft(), closed))
                tasks.put(asked[-1])
            if _is_remote(dataset, index):
                yield partial(asked.popleft().result, check)
            else:
                yield partial(read_sample, dataset, index)
    finally:
        closed.set()
        for _ in range(num_threads):
            tasks.put(None)


def _is_remote(dataset: Dataset, index: int) -> bool:
    return isinstance(dataset.shards[dataset.locate(index)[0]].path, RemoteShard)


def _num_bytes(dataset: Dataset, index: int) -> int:
    number, row = dataset.locate(index)
    return sum(size for _, size in dataset.shards[number].parts(row).values())


def _has_room(asked: "deque[_Read]", num_bytes: int) -> bool:
    if not asked:
        return True
    ahead = sum(read.num_bytes for read in asked)
    return len(asked) < MAX_AHEAD and ahead + num_bytes <= MAX_BYTES_AHEAD


def _work(tasks: "SimpleQueue[_Read | None]") -> None:
    while (read := tasks.get()) is not None:
        read.run()


class _Read:
    """One sample that a thread reads, and whoever waits for it."""

    def __init__(self, dataset: Dataset, index: int, closed: threading.Event) -> None:
        self.num_bytes = _num_bytes(dataset, index)
        self._read = partial(read_sample, dataset, index, closed)
        self._closed = closed
        self._future: Future[RawSample] = Future()

    def run(self) -> None:
        """Read, unless nobody waits any more."""
        if self._closed.is_set():
            return
        try:
            self._future.set_result(self._read())
        except BaseException as error:
            self._future.set_exception(error)

    def result(self, check: Callable[[], None]) -> RawSample:
        """The sample once it is there; `check` runs until then."""
        while not wait([self._future], timeout=SECONDS_BETWEEN_CHECKS).done:
            check()
        return self._future.result()
