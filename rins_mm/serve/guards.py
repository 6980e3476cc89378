"""Who may ask, and what every answer says about itself: the page's protection from other web pages.

A page elsewhere can make a browser send requests to 127.0.0.1, and by DNS rebinding it can even give
that address a name of its own. So the Host header must be a name that this server is known by, a
request that a browser marks as coming from another site is refused, and no answer may be framed,
sniffed, embedded by others, or load anything from elsewhere.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rins_mm.serve.addresses import is_address, name_in

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # blob: shows the visitor the picture that was dropped
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """Lets through what a person's own browser asks of this server, and marks every answer."""

    def __init__(self, app: ASGIApp, *, names: frozenset[str], any_address: bool) -> None:
        """`any_address` also takes Host headers that are numbers: no DNS record can forge those."""
        self._app = app
        self._names = names
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, marked)
        else:
            await JSONResponse({"error": refusal}, 403)(scope, receive, marked)

    def _refusal(self, scope: Scope) -> str | None:
        """Why this request is not answered; None where it is."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "this server is not known by that name; add it with --names"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (
            f"http://{hosts[0].lower()}",
            f"https://{hosts[0].lower()}",  # behind somebody's own proxy
        ):
            return "requests of other pages are not answered"
        site = headers.get("sec-fetch-site", "none")
        is_link = headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
        if site not in ("none", "same-origin") and not (is_link and scope["method"] == "GET"):
            return "requests of other pages are not answered"
        return None

    def _is_ours(self, host: str) -> bool:
        name = name_in(host)
        return name in self._names or (self._any_address and is_address(name))
