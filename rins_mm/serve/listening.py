"""The web server around the page: uvicorn with limits, on a socket that listens already."""

import socket
from collections.abc import Sequence

import uvicorn

from rins_mm.serve.addresses import allowed_names, is_loopback
from rins_mm.serve.app import build_app
from rins_mm.serve.service import SearchService

MAX_CONNECTIONS = 64
MAX_HEADER_BYTES = 16_384
KEEP_ALIVE_SECONDS = 5
SECONDS_TO_END = 3


def serve(
    service: SearchService,
    listener: socket.socket,
    *,
    host: str,
    names: Sequence[str],
    deadline_seconds: float,
) -> None:
    """Answer until the process is interrupted."""
    web_server(service, host=host, names=names, deadline_seconds=deadline_seconds).run(
        sockets=[listener]
    )


def web_server(
    service: SearchService, *, host: str, names: Sequence[str], deadline_seconds: float
) -> uvicorn.Server:
    """A server that has not begun."""
    app = build_app(
        service,
        names=allowed_names(host, names),
        # Where others reach this server by its number, no name is at stake.
        any_address=not is_loopback(host),
        deadline_seconds=deadline_seconds,
    )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="warning",
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
    )
