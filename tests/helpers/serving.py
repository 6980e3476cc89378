"""A search page that really listens, and plain requests to it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rins_mm.serve.listening import web_server
from rins_mm.serve.service import SearchService


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A server in another thread."""

    port: int

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """The reply to a request without a body; underscores in names of headers stand for dashes."""
        return self.send(path, None, method, {k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        """The reply to JSON (or to bytes, as they are)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.send(path, data, "POST", {"content-type": "application/json", **named})

    def send(self, path: str, body: bytes | None, method: str, headers: Mapping[str, str]) -> Reply:
        """The reply to anything."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(status=answer.status, headers=named, body=answer.read())
        finally:
            connection.close()


@contextmanager
def serving(
    service: SearchService,
    *,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    deadline_seconds: float = 20.0,
) -> Iterator[Site]:
    """The page of a service, on a port that was free; whatever `host` says, only this machine hears it."""
    server = web_server(service, host=host, names=names, deadline_seconds=deadline_seconds)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield Site(port=listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()
