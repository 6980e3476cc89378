"""What to print when no batch comes: where this rank and its workers stand, and which samples came last."""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from data_pipelines.words import tell

KEYS_SHOWN = 4


@contextmanager
def telling_when_stuck(
    seconds: float, last_keys: Sequence[str], tell_more: Callable[[], None] | None = None
) -> Iterator[None]:
    """Around a wait: when it lasts longer than `seconds` (0: never), tell so once on standard error.

    `tell_more` adds what is known of other processes.

    The wait goes on: a slow disk may recover, and a rank that hears nothing ends by its own timeout.
    """
    if seconds <= 0:
        yield
        return
    timer = threading.Timer(seconds, _tell, (seconds, last_keys, tell_more))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(seconds: float, last_keys: Sequence[str], tell_more: Callable[[], None] | None) -> None:
    rank = os.environ.get("RANK", "0")
    shown = ", ".join(key for key in last_keys[-KEYS_SHOWN:] if key) or "none yet"
    tell(
        f"rank {rank}: no batch for {seconds:g} s; the last samples were {shown}; "
        "the stacks of all threads follow",
    )
    # The real one: what stands in its place (a capture, a bar) may have no file number.
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    if tell_more is not None:
        tell_more()
