"""What to print when no batch comes: where every thread of this rank stands, and which samples came last."""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

KEYS_SHOWN = 4


@contextmanager
def telling_when_stuck(seconds: float, last_keys: Sequence[str]) -> Iterator[None]:
    """Around a wait: when it lasts longer than `seconds` (0: never), tell so once on standard error.

    The wait goes on: a slow disk may recover, and a rank that hears nothing ends by its own timeout.
    """
    if seconds <= 0:
        yield
        return
    timer = threading.Timer(seconds, _tell, (seconds, last_keys))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(seconds: float, last_keys: Sequence[str]) -> None:
    rank = os.environ.get("RANK", "0")
    shown = ", ".join(key for key in last_keys[-KEYS_SHOWN:] if key) or "none yet"
    print(
        f"rank {rank}: no batch for {seconds:g} s; the last samples were {shown}; "
        "the stacks of all threads follow",
        file=sys.stderr,
        flush=True,
    )
    # The real one: what stands in its place (a capture, a bar) may have no file number.
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
