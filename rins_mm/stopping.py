"""Ending early and well: a signal to any rank makes all ranks save after the same step and stop.

SIGTERM, SIGINT and SIGUSR1 ask for it. A rank that is asked tells the others through the group's
store, so that each of them leaves its wait for data or its evaluation at once. What all agree on is
exchanged together with the gradients: see `Trainer.fit`.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import torch.distributed as dist

from eval.ranks import Ranks

EXIT_CODE = 75
"""How a rank ends that was stopped before its time: EX_TEMPFAIL of sysexits.h, "try again"."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_OF_ONE_REQUEST = 5.0
"""torchrun passes on what the terminal has sent already; Ctrl-C after this time is meant anew."""

_KEY = "rins_mm: asked to stop by"
_TO_RANK = " to rank "


class StopAsked(Exception):  # noqa: N818
    """Raised out of a wait when this rank is asked to stop."""


class StopRequest:
    """Whether this rank has been asked to stop, by a signal of its own or by another rank."""

    def __init__(self) -> None:
        self.reason = ""
        """What asked, for people; empty while nothing has."""
        self._asked_at = 0.0
        self._in_a_wait = False

    def __bool__(self) -> bool:
        return bool(self.reason)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, signals are requests. To be used in the main thread, with the process group set up."""
        listener, speaker = os.pipe()
        os.set_blocking(speaker, False)
        thread = threading.Thread(target=self._listen, args=(listener,), name="stop request")
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        # Handlers wait until the main thread is back from C code, where an exchange with the other
        # ranks may hold it; the number of the signal arrives in the pipe at once.
        signal.set_wakeup_fd(speaker, warn_on_full_buffer=False)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            os.close(speaker)
            # Until it has ended it may send this process a signal, which without our handlers is its death.
            thread.join()
            os.close(listener)
            for number, handler in before.items():
                signal.signal(number, handler)

    def reason_on_any(self, ranks: Ranks) -> str:
        """What asked, the same words on all ranks, of which one at least was asked; all must call it.

        The exchange of features or gradients may tell a rank to leave before the store tells it why.
        """
        if ranks.world_size == 1:
            return self.reason
        reasons = ranks.all_gather_text(self.reason)
        return next(
            f"{reason}{_TO_RANK}{rank}"
            for rank, reason in enumerate(reasons)
            if reason and _TO_RANK not in reason
        )

    @contextmanager
    def ending_waits(self) -> Iterator[None]:
        """Around a wait of the main thread: StopAsked is raised in it as soon as this rank is asked."""
        self._in_a_wait = True
        try:
            if self:
                raise StopAsked
            yield
        finally:
            self._in_a_wait = False

    def _ask(self, reason: str) -> None:
        if not self.reason:
            self._asked_at = time.monotonic()
            self.reason = reason

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        late = time.monotonic() - self._asked_at > SECONDS_OF_ONE_REQUEST
        if self and late and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._ask(signal.Signals(number).name)
        if self._in_a_wait:
            # Once: what cleans up behind the wait shall not be cut off too.
            self._in_a_wait = False
            raise StopAsked

    def _listen(self, pipe: int) -> None:
        store = dist.distributed_c10d._get_default_store() if dist.is_initialized() else None
        has_told = False
        while True:
            ready, _, _ = select.select([pipe], [], [], SECONDS_BETWEEN_LOOKS)
            if ready:
                numbers = os.read(pipe, 64)
                if not numbers:
                    return
                if asked := [number for number in numbers if number in SIGNALS]:
                    self._ask(signal.Signals(asked[0]).name)
            # Without the store there are no other ranks any more, and exchanges with them say so.
            with suppress(RuntimeError):
                if store is not None and not has_told:
                    has_told = self._tell_or_hear(store)

    def _tell_or_hear(self, store: dist.Store) -> bool:
        """Whether all ranks know of a request."""
        if self:
            store.set(_KEY, f"{self.reason}{_TO_RANK}{os.environ.get('RANK', '0')}")
        elif store.check([_KEY]):
            self._ask(store.get(_KEY).decode())
            # A signal ends a wait of the main thread, which nothing else can.
            main_thread = threading.main_thread().ident
            assert main_thread is not None
            signal.pthread_kill(main_thread, signal.SIGUSR1)
        return bool(self)
