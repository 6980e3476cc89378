"""The folder for what can be made again, and turns for the processes that would make it at once."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def cache_folder() -> Path:
    """RINS_MM_CACHE, or ~/.cache/rins_mm."""
    named = os.environ.get("RINS_MM_CACHE", "")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "rins_mm"


@contextlib.contextmanager
def one_at_a_time(work: str) -> Iterator[None]:
    """Let the processes of this machine do a kind of work one after the other.

    The ranks of a run all need the same files at their start; those that waited find them made. Where
    the cache folder cannot be written there are no turns: every process does the work for itself.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            cache_folder().mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((cache_folder() / f".{work}.lock").open("a"))
            # Released when the file is closed, also by the death of the process.
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
