"""Part of a file from a web server, with an end to everything: time, bytes, redirects.

The standard library's client and no event loop, so that a stalled or dripping server is left after the
stated seconds, an answer of the wrong length is told from a whole one, a server that sends the whole
file is left before it does, and a forked process never shares a connection with its parent. Within a
process, connections that are idle go to whichever thread asks next.
"""

import contextlib
import http.client
import io
import os
import re
import socket
import ssl
import threading
import time
from functools import lru_cache
from typing import Any, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from data_pipelines.transport import (
    MAX_VERSION_CHARACTERS,
    PermanentError,
    RangeAnswer,
    RemoteStatus,
    TransientError,
)

MAX_REDIRECTS = 5
MAX_KEPT_CONNECTIONS = 64
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_Place = tuple[str, str, int | None]
_PART_SENT = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_IN_ADDRESSES = "/%:@!$&'()*+,;=~"
_BEHIND_THE_END = re.compile(r"bytes \*/(\d{1,18})")
# A connection that the server has closed while it was idle ends in one of these.
_CLOSED_WHILE_IDLE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


def fetch_range(url: str, offset: int, length: int, seconds: float) -> RangeAnswer:
    """The `length` bytes at `offset`, fewer only at the end of the file, within `seconds`.

    Raises TransientError or PermanentError with the reason in a few words.
    """
    deadline = time.monotonic() + seconds
    try:
        for _ in range(1 + MAX_REDIRECTS):
            answer = _answer_or_redirect(url, offset, length, deadline)
            if isinstance(answer, RangeAnswer):
                return answer
            url = answer
    except ssl.SSLCertVerificationError as error:
        reason = f"its certificate does not hold: {error.verify_message}"
        raise PermanentError(reason) from error
    except TimeoutError as error:
        raise TransientError(f"no whole answer within {seconds:.3g} s") from error
    except (OSError, http.client.HTTPException) as error:
        # Not the text of the exception alone: some have none, and some have many lines.
        words = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise TransientError(words or type(error).__name__) from error
    raise PermanentError(f"it redirects more than {MAX_REDIRECTS} times")


def split_address(url: str) -> SplitResult:
    """The pieces of a web address. Raises PermanentError where it is none that can be asked."""
    try:
        pieces = urlsplit(url)
        host = (pieces.hostname or "").encode("idna")
        # Reading the port raises when it is no number.
        port = pieces.port
    except ValueError as error:
        raise PermanentError(f"it is no web address ({error})") from error
    if pieces.scheme not in ("http", "https"):
        raise PermanentError(f"{pieces.scheme or 'no scheme'} is not http or https")
    if not host or port == 0 or not re.fullmatch(rb"[A-Za-z0-9.:_-]+", host):
        raise PermanentError("it names no server")
    if pieces.username is not None or pieces.password is not None:
        raise PermanentError("user names and passwords do not belong in addresses")
    return pieces


def _answer_or_redirect(url: str, offset: int, length: int, deadline: float) -> RangeAnswer | str:
    pieces = split_address(url)
    connection = _connection(pieces, offset, length, deadline)
    with contextlib.ExitStack() as leaving:
        leaving.callback(connection.close)
        response = connection.response
        if response.status in _REDIRECTS:
            return _redirected(url, response.getheader("Location", ""))
        answer = _read_answer(response, offset, length)
        if response.isclosed() and not response.will_close:
            leaving.pop_all()
            _idle_connections(os.getpid()).keep(_place_of(pieces), connection)
        return answer


def _connection(pieces: SplitResult, offset: int, length: int, deadline: float) -> "_Connection":
    """A connection whose answer has begun: an idle one, or else a new one."""
    target = quote(pieces.path or "/", safe=_IN_ADDRESSES)
    if pieces.query:
        target += f"?{quote(pieces.query, safe=_IN_ADDRESSES + '?')}"
    kept = _idle_connections(os.getpid()).taken(_place_of(pieces))
    if kept is not None:
        try:
            kept.ask(target, offset, length, deadline)
            return kept
        except _CLOSED_WHILE_IDLE:
            kept.close()
        except BaseException:
            kept.close()
            raise
    fresh = _Connection(pieces, deadline)
    try:
        fresh.ask(target, offset, length, deadline)
    except BaseException:
        fresh.close()
        raise
    return fresh


def _read_answer(response: http.client.HTTPResponse, offset: int, length: int) -> RangeAnswer:
    if response.status in _PASSING:
        asked = response.getheader("Retry-After", "")
        pause = float(asked) if re.fullmatch(r"\d{1,6}", asked) else 0.0
        raise TransientError(_status_line(response), pause=pause)
    version = response.getheader("ETag") or response.getheader("Last-Modified") or ""
    version = version[:MAX_VERSION_CHARACTERS]
    place = response.getheader("Content-Range", "")
    if response.status == 416 and (behind := _BEHIND_THE_END.fullmatch(place)):
        return RangeAnswer(data=b"", status=RemoteStatus(size=int(behind[1]), version=version))
    if response.status == 200:
        raise PermanentError("it does not serve parts of files (it ignores the Range header)")
    if response.status != 206:
        raise PermanentError(_status_line(response))
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise PermanentError("it compresses what it sends, and the bytes are wanted as they are")
    found = _PART_SENT.fullmatch(place)
    if found is None:
        raise PermanentError(f"it does not say which part it sends (Content-Range: {place[:80]!r})")
    first, last, size = (int(number) for number in found.groups())
    expected = min(offset + length, size) - offset
    if (first, last) != (offset, offset + expected - 1):
        raise TransientError(f"it sent the bytes {first}-{last}, not those that were asked for")
    data = response.read(expected)
    if len(data) < expected:
        raise TransientError(f"the answer broke off after {len(data)} of {expected} bytes")
    # Takes up what closes a chunked answer; more bytes than were announced stay unread.
    if response.read(1):
        raise TransientError("it sent more than it announced")
    return RangeAnswer(data=data, status=RemoteStatus(size=size, version=version))


def _status_line(response: http.client.HTTPResponse) -> str:
    reason = "".join(char if char.isprintable() else " " for char in response.reason[:60])
    return f"the server answers {response.status} {reason}".rstrip()


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        split_address(target)
    except (ValueError, PermanentError) as error:
        raise PermanentError(f"it redirects to where this does not follow: {error}") from error
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise PermanentError("it redirects from https to http, which this does not follow")
    return target


def _place_of(pieces: SplitResult) -> _Place:
    return pieces.scheme, pieces.hostname or "", pieces.port


# A forked process starts without the connections of its parent, and with a lock that is open.
@lru_cache(maxsize=1)
def _idle_connections(_process: int) -> "_IdleConnections":
    return _IdleConnections()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _IdleConnections:
    """Connections between two requests, each of which one thread at a time takes for itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[_Place, _Connection]] = []

    def keep(self, place: _Place, connection: "_Connection") -> None:
        """Have it used again; the one that was idle for longest makes room."""
        with self._lock:
            self._kept.append((place, connection))
            surplus = self._kept[:-MAX_KEPT_CONNECTIONS]
            del self._kept[:-MAX_KEPT_CONNECTIONS]
        for _, oldest in surplus:
            oldest.close()

    def taken(self, wanted: _Place) -> "_Connection | None":
        """The one to that place that was used last, or None."""
        with self._lock:
            for number in range(len(self._kept) - 1, -1, -1):
                if self._kept[number][0] == wanted:
                    return self._kept.pop(number)[1]
        return None


class _Connection:
    """One connection to a server, with the answer that it is in the middle of."""

    def __init__(self, pieces: SplitResult, deadline: float) -> None:
        host, port, left = pieces.hostname or "", pieces.port, _seconds_left(deadline)
        self._client = (
            http.client.HTTPSConnection(host, port, timeout=left, context=_tls())
            if pieces.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=left)
        )
        self._client.connect()
        self._socket = _TimedSocket(self._client.sock)
        self._client.sock = cast(Any, self._socket)

    def ask(self, target: str, offset: int, length: int, deadline: float) -> None:
        """Send the request and take in the head of the answer."""
        self._socket.deadline = deadline
        last = offset + length - 1
        headers = {"Range": f"bytes={offset}-{last}", "User-Agent": "rins_mm"}
        # http.client itself asks for an identity encoding.
        self._client.request("GET", target, headers=headers)
        self.response = self._client.getresponse()

    def close(self) -> None:
        """Leave the server, whatever it still sends."""
        if hasattr(self, "response"):
            self.response.close()
        if hasattr(self, "_client"):
            self._client.close()

    def __del__(self) -> None:
        # Those of a process that was forked are dropped, not closed one by one.
        self.close()


class _TimedSocket:
    """A socket whose every step may last only until the deadline, however many steps there are."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.deadline = 0.0

    def sendall(self, data: bytes) -> None:
        """What http.client sends a request with."""
        self.set_timeout()
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client reads an answer from."""
        return io.BufferedReader(_TimedReads(self, self._socket))

    def close(self) -> None:
        """Close it once nothing reads from it any more."""
        self._socket.close()

    def set_timeout(self) -> None:
        """Give the next step the time that is left; TimeoutError when there is none."""
        self._socket.settimeout(_seconds_left(self.deadline))


class _TimedReads(io.RawIOBase):
    def __init__(self, timed: _TimedSocket, connected: socket.socket) -> None:
        self._timed = timed
        # Keeps the socket open until it is closed itself, as http.client expects of it.
        self._reads = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """One step of reading, with the time that is left."""
        self._timed.set_timeout()
        return self._reads.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._reads.close()
        super().close()


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
