"""What a trainer and its worker processes know of each other: who they are, and whether to go on."""

import atexit
import faulthandler
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.context import BaseContext
from multiprocessing.util import get_temp_dir
from types import FrameType

SECONDS_FOR_STACKS = 0.2
"""How long a worker has for printing before the next one is asked, so that they do not mix."""


class WorkerProcesses:
    """Shared by the trainer, which makes it, and its workers, which get it as they start."""

    def __init__(self, context: BaseContext, num_workers: int) -> None:
        # No locks: each place has one writer, and is read at most a moment too early.
        self._process_ids = context.RawArray("q", num_workers)
        self._closed = context.RawValue("b", 0)
        # Made here, the folder of the sockets is one for all, and the trainer removes it as it ends;
        # the first worker would else make one of its own, which a signal leaves behind.
        get_temp_dir()
        self._trainer_owns_sockets = _owns_sockets()
        # A trainer that ends without closing them ends them by SIGTERM, which they mind then.
        atexit.register(self.close)

    def __len__(self) -> int:
        return len(self._process_ids)

    def close(self) -> None:
        """Tell the workers that nobody waits for their batches any more."""
        self._closed.value = 1
        atexit.unregister(self.close)

    @property
    def closed(self) -> bool:
        """Whether the trainer has closed them."""
        return bool(self._closed.value)

    def enter(self, worker: int) -> None:
        """In worker number `worker`, as it starts: be ready to be asked, and end with the trainer."""
        # Ctrl-C and torchrun reach the whole group of processes; when to end, the trainer says.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end_if_closed)
        faulthandler.register(signal.SIGUSR2, file=sys.__stderr__ or 2, all_threads=True)
        # Only now: to a process without a handler the signal would be deadly.
        self._process_ids[worker] = os.getpid()
        threading.Thread(
            target=self._end_with_the_trainer, name="end with the trainer", daemon=True
        ).start()

    def _end_if_closed(self, _number: int, _frame: FrameType | None) -> None:
        if self.closed:
            os._exit(0)

    def _end_with_the_trainer(self) -> None:
        # torch's own watch looks at the server, which in turn lives as long as any of its workers:
        # without this, a killed trainer would leave all of them behind.
        trainer = multiprocessing.parent_process()
        assert trainer is not None, "workers are started by a trainer"
        trainer.join()
        if self._trainer_owns_sockets:
            _remove_sockets()
        os._exit(1)

    def print_stacks(self) -> None:
        """In the trainer: have the workers print the stacks of their threads, one after the other.

        The signal interrupts C code and waits for files and servers too, and the worker goes on.
        """
        for worker, process_id in enumerate(self._process_ids):
            # Living children of this process alone: another may have got the number of a dead one.
            living = {child.pid for child in multiprocessing.active_children()}
            if process_id in living:
                _say(f"worker {worker} (process {process_id}): the stacks of its threads follow")
                with suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGUSR2)
                time.sleep(SECONDS_FOR_STACKS)
            else:
                state = f"(process {process_id}) has ended" if process_id else "is still starting"
                _say(f"worker {worker} {state}")


def _say(line: str) -> None:
    print(f"rank {os.environ.get('RANK', '0')}, {line}", file=sys.stderr, flush=True)


def remove_sockets() -> None:
    """In a trainer that is to end without Python's own ending: remove the folder of the sockets."""
    if _owns_sockets():
        _remove_sockets()


def _owns_sockets() -> bool:
    # A trainer that multiprocessing has started shares the folder of whoever started it.
    return multiprocessing.parent_process() is None


def _remove_sockets() -> None:
    shutil.rmtree(get_temp_dir(), ignore_errors=True)
