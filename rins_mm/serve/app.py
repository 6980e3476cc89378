"""The page's addresses: a few files of its own, an API of JSON, and pictures by their numbers.

No part of a request ever becomes a path: files are a literal table, pictures are numbers.
"""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from rins_mm.serve.guards import Guard
from rins_mm.serve.questions import MAX_BODY_BYTES, read_question, read_threshold
from rins_mm.serve.service import Busy, SearchService

ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/address.js": ("address.js", "text/javascript; charset=utf-8"),
    "/cards.js": ("cards.js", "text/javascript; charset=utf-8"),
    "/controls.js": ("controls.js", "text/javascript; charset=utf-8"),
    "/server.js": ("server.js", "text/javascript; charset=utf-8"),
    "/telling.js": ("telling.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
PICTURES_AT_ONCE = 2
"""Threads that decode pictures: a page of thumbnails must not keep a query waiting."""
PICTURE_CACHE = "private, max-age=86400"

Answer = TypeVar("Answer")


def build_app(
    service: SearchService, *, names: frozenset[str], any_address: bool, deadline_seconds: float
) -> ASGIApp:
    """The whole application behind its guard; `names` are those of allowed_names."""
    api = _Api(service, deadline_seconds)
    routes = [
        Route(address, partial(_asset, *asset), methods=["GET"])
        for address, asset in _read_assets()
    ]
    routes += [
        Route("/api/about", api.about, methods=["GET"]),
        Route("/api/search", api.search, methods=["POST"]),
        Route("/api/duplicates", api.duplicates, methods=["POST"]),
        Route("/pictures/{number}", api.picture, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error,
            UserError: _user_error,
            TimeoutError: _too_slow,
            Busy: _too_slow,
            ClientDisconnect: _gone,
            Exception: _own_error,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, names=names, any_address=any_address)


def _read_assets() -> list[tuple[str, tuple[bytes, str]]]:
    folder = files("rins_mm.serve") / "page"
    return [
        (address, ((folder / name).read_bytes(), media_type))
        for address, (name, media_type) in ASSETS.items()
    ]


async def _asset(content: bytes, media_type: str, request: Request) -> Response:
    return Response(content, media_type=media_type)


class _Api:
    """The answers that need the index; what takes time runs in threads, each within the deadline."""

    def __init__(self, service: SearchService, deadline_seconds: float) -> None:
        self._service = service
        self._deadline_seconds = deadline_seconds
        self._pictures = anyio.CapacityLimiter(PICTURES_AT_ONCE)

    async def about(self, request: Request) -> Response:
        """What there is to search, and how."""
        return JSONResponse(self._service.about())

    async def search(self, request: Request) -> Response:
        """Pictures for words, for a picture, or none in particular."""
        with anyio.fail_after(self._deadline_seconds):
            question = read_question(await _body(request))
            return JSONResponse(await _in_thread(partial(self._service.search, question)))

    async def duplicates(self, request: Request) -> Response:
        """Groups of pictures that are nearly the same."""
        with anyio.fail_after(self._deadline_seconds):
            threshold = read_threshold(await _body(request))
            return JSONResponse(await _in_thread(partial(self._service.duplicates, threshold)))

    async def picture(self, request: Request) -> Response:
        """A small copy of one picture, by its number."""
        number = request.path_params["number"]
        # int() takes more than digits, and refuses very long ones with an error of its own.
        if not (number.isascii() and number.isdigit() and len(number) <= 15):
            raise HTTPException(404, "pictures have numbers")
        if request.query_params.get("of", self._service.identity) != self._service.identity:
            raise HTTPException(410, "another index is served now; reload the page")
        tag = f'"{self._service.identity}-{int(number)}"'
        headers = {"cache-control": PICTURE_CACHE, "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        with anyio.fail_after(self._deadline_seconds):
            try:
                data = await _in_thread(
                    partial(self._service.thumbnail, int(number)), limiter=self._pictures
                )
            except BadSample as error:
                raise HTTPException(404, error.cause) from error
        return Response(data, media_type="image/webp", headers=headers)


async def _in_thread(
    function: Callable[[], Answer], limiter: anyio.CapacityLimiter | None = None
) -> Answer:
    # A thread cannot be stopped: past the deadline it is left alone, and gives up at its next lock.
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)


async def _body(request: Request) -> bytes:
    """The JSON of a POST. Another type would let pages elsewhere send it without asking first."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the request is not application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the request is larger than {MAX_BODY_BYTES / 2**20:.0f} MiB")
    return bytes(body)


async def _http_error(request: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _user_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _too_slow(request: Request, error: Exception) -> Response:
    return JSONResponse(
        {"error": "this took longer than the deadline; try again, or ask for less"}, 503
    )


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _own_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed; its terminal says why"}, 500)
