"""Words that want to be more than words, for pages: each runs a script, asks a server, or breaks a layout."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RAN = "ran"
"""The property of `window` that a script sets when it runs."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    asked: list[str]


class _Noting(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 2
    """A browser may open connections over which it then asks nothing."""

    def handle_one_request(self) -> None:
        super().handle_one_request()
        if self.raw_requestline:
            self.server.asked.append(self.path)

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening_canary() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that nobody may ask, and the path of every request to it."""
    with _Listener(("127.0.0.1", 0), _Noting) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", server.asked
        server.shutdown()
        thread.join()


def hostile_words(canary: str) -> list[str]:
    """One of each kind; all addresses are below `canary`."""
    run = f"window.{RAN}=1;fetch('{canary}/fetch');alert(1)"
    return [
        f"<script>{run}</script>",
        f'"onerror="{run}" autofocus onfocus="{run}" x="',
        f"' onmouseover='{run}' style='background:url({canary}/style)",
        f'<img src=x onerror="{run}"><img src={canary}/img>',
        f'<svg onload="{run}"><script href="{canary}/svg.js"/><image href="{canary}/svg.png"/></svg>',
        f"javascript:{run}",
        f"</style><style>@import url({canary}/css);body{{background:url({canary}/bg);display:none}}</style>",
        f"</title></textarea></noscript><iframe src={canary}/frame></iframe>",
        f'<base href="{canary}/base/"><a href=x ping={canary}/ping>a link</a>',
        f'<meta http-equiv="refresh" content="0;url={canary}/refresh">',
        f'<link rel=stylesheet href="{canary}/link"><link rel=preload as=image href="{canary}/preload">',
        f'<form action="{canary}/form"><button autofocus>a button</button></form>',
        f"<object data={canary}/object></object><embed src={canary}/embed><video src={canary}/v autoplay>",
        f"data:text/html,<script>{run}</script>",
        "{{7*7}} {% include '/etc/passwd' %} ${7*7} #{7*7} <%= 7*7 %>",
        "&lt;script&gt; &#60;b&#62; &amp;amp;",
        "]]></svg></table></section></main><!-- --!> <![CDATA[ <plaintext>",
        "\u202egnp.exe\u202c \u2067turned\u2069 \u200fmarks\u200e and on",
        "\u0430\u0440\u0440le, which is not apple",
        "Z\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307" * 40,
        "bell \x07 escape \x1b[31m delete \x7f line\u2028paragraph\u2029 mark \ufeff",
        "w" * 10_000,
        "word " * 2_000,
    ]


def unescaped_page(words: list[str]) -> str:
    """The page that a program without any care would write."""
    return f"<!doctype html><title>careless</title><ul>{''.join(f'<li>{w}' for w in words)}</ul>"
