"""A web server on this machine that serves parts of files, and fails in every way that is asked for."""

import contextlib
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator


class FaultServer(http.server.ThreadingHTTPServer):
    """Serves `files`; `fault(number of the request, path)` names what goes wrong, or nothing."""

    daemon_threads = True
    block_on_close = False
    # More than the few that wait by default: who finds no place asks again after a whole second.
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[str, bytes] = {}
        self.fault: Callable[[int, str], str] = lambda _number, _path: ""
        self.tells_versions = True
        self.location = ""
        self.seconds_away = 0.0
        """How long each answer takes."""
        self.requests: list[tuple[str, str, int]] = []
        """Path, Range header and the client's port of each request."""
        self.bytes_sent = 0
        self.over = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the game."""


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go out in two pieces, of which the second must not wait for a receipt.
    disable_nagle_algorithm = True
    server: FaultServer

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        path, asked = self.path.lstrip("/"), self.headers.get("Range", "")
        with self.server.lock:
            self.server.requests.append((path, asked, self.client_address[1]))
            fault = self.server.fault(len(self.server.requests) - 1, path)
        time.sleep(self.server.seconds_away)
        data = self.server.files.get(path)
        if fault in ("stall", "drip", "endless", "reset", "nonsense"):
            self.close_connection = True
            getattr(self, f"_{fault}")()
        elif fault == "redirect":
            self._send(302, b"", Location=self.server.location)
        elif fault:
            if fault == "cut":
                self._part(data or b"", asked, cut=True)
            elif fault == "gzip":
                self._part(data or b"", asked, **{"Content-Encoding": "gzip"})
            else:
                self._send(int(fault), b"not now")
        elif data is None:
            self._send(404, b"none")
        else:
            self._part(data, asked)

    def _part(self, data: bytes, asked: str, *, cut: bool = False, **headers: str) -> None:
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        if self.server.tells_versions:
            headers["ETag"] = f'"{hash(data):x}"'
        if first >= len(data):
            return self._send(416, b"", **{"Content-Range": f"bytes */{len(data)}"}, **headers)
        part = data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        self._send(206, part, sent=len(part) // 2 if cut else None, **headers)

    def _send(self, status: int, body: bytes, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])
        self.server.bytes_sent += len(body[:sent])
        self.close_connection = self.close_connection or sent is not None

    def _stall(self) -> None:
        self.server.over.wait(20)

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 206 Partial Content\r\nX-Slow: ")
        while not self.server.over.wait(0.05):
            self.wfile.write(b".")

    def _endless(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while not self.server.over.is_set():
            self.wfile.write(bytes(2**16))
            self.server.bytes_sent += 2**16

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def _nonsense(self) -> None:
        self.wfile.write(b"\0\1\2\n" * 100)


@contextlib.contextmanager
def serving() -> Iterator[FaultServer]:
    """A running server, gone afterwards with all that it still does."""
    server = FaultServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
