"""Shards that lie elsewhere: their addresses, and bounded reads that are tried again.

A read is tried until it succeeds or `timeout_seconds` are over, with growing pauses; one attempt gets a
third of that time. What then ends the run is one line with the address and the last reason. Contents
are told by size and ETag (or time of the last change), so that no read mixes two versions of a file.
"""

import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from data_pipelines import http_ranges, object_stores
from data_pipelines.errors import UserError
from data_pipelines.transport import PermanentError, RemoteStatus, TransientError

SCHEMES = ("http", "https", *object_stores.SCHEMES)
DEFAULT_TIMEOUT_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 8.0
ATTEMPT_SHARE = 1 / 3
"""How much of the whole time one attempt may take."""
SECONDS_BETWEEN_CHECKS = 30
"""How long the version of a file in an object store is taken for known. Web servers tell it with each part."""
MAX_AT_ONCE = 16
"""Remote shards that are asked for their headers at the same time."""
NEVER = threading.Event()
"""For reads that nobody gives up."""
LEAST_WINDOW = 2**16
MOST_WINDOW = 2**22

T = TypeVar("T")

# Pauses are drawn apart from the generators that runs are seeded by.
_pauses = random.SystemRandom()


def remote_shards(pattern: str) -> list["RemoteShard"]:
    """The shards that an address names, or the files that it matches where the store can list.

    Raises UserError for an address that cannot be read, or that matches nothing.
    """
    timeout_seconds = _timeout_seconds()
    whole = RemoteShard(url=pattern, timeout_seconds=timeout_seconds)
    if not pattern.isprintable() or " " in pattern:
        raise UserError(f"{pattern!r} is no address; write spaces and the like as %20")
    if whole.scheme in object_stores.SCHEMES:
        if "::" in pattern:
            raise UserError(f"{pattern!r} chains addresses; name the files themselves")
        urls = _tried(whole, _bound(object_stores.matches, pattern))
        if not urls:
            raise UserError(f"no file matches {pattern!r}; check the address")
    else:
        try:
            pieces = http_ranges.split_address(pattern)
        except PermanentError as error:
            raise UserError(f"{whole} cannot be read: {error}; check the address") from error
        if re.search(r"\*|\[.*\]", pieces.path):
            raise UserError(
                f"{whole} is a glob, and a web server has no list of its files; "
                "write a range such as {000..013}, or a list such as {a,b}"
            )
        urls = [pattern]
    shards = [RemoteShard(url=url, timeout_seconds=timeout_seconds) for url in urls]
    for shard in shards:
        if not shard.name:
            raise UserError(f"{shard} names no file; give the address of a tar file")
    return shards


def status_of(shard: "RemoteShard") -> RemoteStatus:
    """Size and version of a shard as it is now. Raises UserError when there is no answer in time."""
    if shard.scheme in object_stores.SCHEMES:
        return _tried(shard, _bound(object_stores.status_of, shard.url))
    # A part instead of HEAD, which signed addresses do not allow: its answer tells the same.
    return _tried(shard, _bound(http_ranges.fetch_range, shard.url, 0, 1)).status


def read_range(
    shard: "RemoteShard",
    status: RemoteStatus,
    offset: int,
    length: int,
    given_up: threading.Event = NEVER,
) -> bytes:
    """The `length` bytes at `offset` of that version of the shard.

    Raises UserError when the shard has changed or vanished, or the server gives no whole answer in
    time, and CancelledError instead of trying again once `given_up` is set.
    """
    if length == 0:
        return b""
    if shard.scheme in object_stores.SCHEMES:
        asked_in = int(time.monotonic() // SECONDS_BETWEEN_CHECKS)
        _require_unchanged(shard, status, _known_status(shard, status, os.getpid(), asked_in))
        attempt_at_store = _bound(object_stores.fetch_range, shard.url, offset, length)
        return _tried(shard, attempt_at_store, given_up)

    def attempt(seconds: float) -> bytes:
        answer = http_ranges.fetch_range(shard.url, offset, length, seconds)
        _require_unchanged(shard, status, answer.status)
        if len(answer.data) != length:
            raise TransientError(f"the answer has {len(answer.data)} of {length} bytes")
        return answer.data

    return _tried(shard, attempt, given_up)


# Object stores do not tell the version with each part, so each process asks for it now and then.
@lru_cache(maxsize=2**14)
def _known_status(
    shard: "RemoteShard", _status: RemoteStatus, _process: int, _asked_in: int
) -> RemoteStatus:
    return status_of(shard)


@contextlib.contextmanager
def asked_at_once(
    shards: Sequence["RemoteShard"], step: Callable[["RemoteShard"], T]
) -> Iterator[dict["RemoteShard", "Future[T]"]]:
    """The futures of `step(shard)`, many at work at the same time, since servers answer late.

    After the first failure nothing more is begun: the first that fails in order is a true one.
    """
    failed = threading.Event()

    def unless_failed(shard: RemoteShard) -> T:
        if failed.is_set():
            raise CancelledError
        try:
            return step(shard)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(MAX_AT_ONCE) as threads:
        try:
            yield {shard: threads.submit(unless_failed, shard) for shard in shards}
        finally:
            failed.set()


def _require_unchanged(shard: "RemoteShard", known: RemoteStatus, found: RemoteStatus) -> None:
    if found != known:
        raise UserError(
            f"shard {shard} has changed since it was indexed ({found.size:,} bytes, version "
            f"{found.version or 'unknown'}; it had {known.size:,} bytes, version "
            f"{known.version or 'unknown'}); run again to index it anew"
        )


def _bound(step: Callable[..., T], *arguments: object) -> Callable[[float], T]:
    return lambda seconds: step(*arguments, seconds)


def _tried(
    shard: "RemoteShard", attempt: Callable[[float], T], given_up: threading.Event = NEVER
) -> T:
    """What `attempt(seconds)` returns once it does not fail; UserError when the time is over."""
    limit = shard.timeout_seconds
    started = time.monotonic()
    pause = FIRST_PAUSE_SECONDS
    attempts = 0
    while True:
        attempts += 1
        left = limit - (time.monotonic() - started)
        try:
            return attempt(min(limit * ATTEMPT_SHARE, left))
        except PermanentError as error:
            raise UserError(f"{shard} cannot be read: {error}; check the address") from error
        except TransientError as error:
            now = time.monotonic() - started
            wait = max(error.pause, pause * _pauses.uniform(0.5, 1.0))
            if now + wait >= limit:
                times = "once" if attempts == 1 else f"{attempts} times"
                raise UserError(
                    f"{shard} cannot be read: {error} (tried {times} in {now:.1f} s, of the "
                    f"{limit:g} s that RINS_MM_REMOTE_TIMEOUT allows); check the server and the "
                    "network, then run again"
                ) from error
        if given_up.wait(wait):
            raise CancelledError
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _timeout_seconds() -> float:
    given = os.environ.get("RINS_MM_REMOTE_TIMEOUT", "") or str(DEFAULT_TIMEOUT_SECONDS)
    if not re.fullmatch(r"\d{1,5}(\.\d{1,3})?", given) or float(given) <= 0:
        raise UserError(
            f"RINS_MM_REMOTE_TIMEOUT={given!r} is no number of seconds; give one such as 60"
        )
    return float(given)


@dataclass(frozen=True, kw_only=True)
class RemoteShard:
    """The address of a shard, and how long one read of it may take with all its attempts."""

    url: str = field(repr=False)
    timeout_seconds: float = field(default=DEFAULT_TIMEOUT_SECONDS, compare=False)

    @property
    def scheme(self) -> str:
        """http, https, s3, gs or memory."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The file name, as a local shard would have it."""
        return str(self).rpartition("/")[2]

    def __str__(self) -> str:
        """The address for messages; signatures in the query of a web address are left out."""
        return re.split(r"[?#]", self.url)[0] if self.scheme.startswith("http") else self.url


Shard = Path | RemoteShard
"""Where a shard lies."""


class HeaderReads:
    """`read_at` for indexing: every request fetches a window, not one header.

    While headers are close together the windows double, up to 4 MiB, and small pictures are read as
    fast as the link allows; where large ones lie between them, windows shrink and jump over those.
    """

    def __init__(self, shard: RemoteShard, status: RemoteStatus) -> None:
        self._shard = shard
        self._status = status
        self._window = LEAST_WINDOW // 2
        self._start = 0
        self._data = b""

    def __call__(self, offset: int, length: int) -> bytes:
        """The bytes there, fewer only at the end of the shard."""
        stop = min(offset + length, self._status.size)
        end_of_window = self._start + len(self._data)
        if not self._start <= offset <= stop <= end_of_window:
            near = offset - end_of_window <= self._window
            self._window = min(2 * self._window, MOST_WINDOW) if near else LEAST_WINDOW
            wanted = min(max(self._window, length), self._status.size - offset)
            self._data = read_range(self._shard, self._status, offset, wanted)
            self._start = offset
        return self._data[offset - self._start : stop - self._start]
