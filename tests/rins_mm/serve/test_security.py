"""What pages elsewhere, and requests made by hand, cannot do to the search page and its owner."""

import http.client
import json
import re
import socket
import struct
import zlib
from base64 import b64encode
from importlib.resources import files
from io import BytesIO

import pytest
from PIL import Image
from serving import Site, serving

from data_pipelines.errors import UserError
from rins_mm.serve.addresses import allowed_names, is_loopback
from rins_mm.serve.app import ASSETS
from rins_mm.serve.guards import SECURITY_HEADERS
from rins_mm.serve.questions import MAX_BODY_BYTES
from rins_mm.serve.service import SearchService

PAGE = files("rins_mm.serve") / "page"


def test_every_answer_carries_the_policy_errors_and_refusals_too(site: Site) -> None:
    answers = [
        *(
            site.get(path)
            for path in (*ASSETS, "/api/about", "/pictures/3", "/nothing", "/pictures/x")
        ),
        site.get("/api/search"),
        site.get("/", host="evil.example"),
        site.post("/api/search", b"no json"),
        site.post("/api/search", {"words": "a cat"}),
    ]
    assert {answer.status for answer in answers} == {200, 400, 403, 404, 405}
    for answer in answers:
        assert SECURITY_HEADERS.items() <= answer.headers.items()
        assert "cache-control" in answer.headers
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
        "192.168.0.7:80",
        "::1",
    ],
)
def test_a_name_that_is_not_ours_is_refused_as_rebinding_would_use_it(
    site: Site, host: str
) -> None:
    for path in ("/", "/api/about", "/pictures/0", "/page.js"):
        assert site.get(path, host=host).status == 403
    assert site.post("/api/search", {"words": "a"}, host=host).status == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"]
)
def test_the_names_of_this_machine_are_answered(site: Site, host: str) -> None:
    assert site.get("/", host=host.format(port=site.port)).status == 200


def test_a_request_without_a_host_or_with_two_is_refused(site: Site) -> None:
    for head in (
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100).split()[1] in (b"403", b"400")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "file://"])
def test_other_pages_cannot_post(site: Site, origin: str) -> None:
    assert site.post("/api/search", {"words": "a"}, origin=origin).status == 403
    assert site.post("/api/search", {"words": "a"}, origin=site.address).status == 200


def test_other_sites_may_link_to_the_page_and_nothing_more(site: Site) -> None:
    elsewhere = {"sec_fetch_site": "cross-site"}
    assert site.get("/?words=cat", sec_fetch_mode="navigate", **elsewhere).status == 200
    assert site.get("/", sec_fetch_mode="no-cors", **elsewhere).status == 403
    assert site.get("/pictures/1", sec_fetch_mode="navigate", **elsewhere).status == 403
    assert (
        site.get("/pictures/1", sec_fetch_mode="no-cors", sec_fetch_site="same-site").status == 403
    )
    assert (
        site.get("/pictures/1", sec_fetch_mode="no-cors", sec_fetch_site="same-origin").status
        == 200
    )


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "text/json"]
)
def test_only_json_is_read_since_forms_elsewhere_can_send_the_rest(
    site: Site, content_type: str
) -> None:
    body = json.dumps({"words": "a"}).encode()
    assert site.send("/api/search", body, "POST", {"content-type": content_type}).status == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_post_exist(site: Site, method: str) -> None:
    for path in ("/", "/api/search", "/pictures/1"):
        assert site.get(path, method=method).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../service.py", "/page/../../service.py", "/%2e%2e/service.py", "/pictures/../../etc/passwd",
        "/pictures/..%2f..%2fetc%2fpasswd", "/pictures/-1", "/pictures/1.0", "/pictures/%C2%B2",
        "/pictures/" + "9" * 5000, "/pictures/999999999999999", "/pictures/0x1", "/pictures/1/", "//etc/passwd",
        "/service.py", "/page.html", "/pictures/", "/pictures/%00",
    ],
)  # fmt: skip
def test_nothing_of_a_request_becomes_a_path(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.body and b"import" not in answer.body


def test_a_body_over_the_limit_is_refused_before_it_has_come(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.putrequest("POST", "/api/search")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    chunk = b"x" * 2**20
    sent = 0
    try:
        for _ in range(4 * MAX_BODY_BYTES // len(chunk)):
            connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            sent += len(chunk)
    except OSError:
        pass
    else:
        assert connection.getresponse().status == 413
    assert sent < 4 * MAX_BODY_BYTES
    connection.close()


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", header)
        + part(b"IDAT", zlib.compress(b""))
        + part(b"IEND", b"")
    )


def animated() -> bytes:
    buffer = BytesIO()
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in (0, 200)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"<html>no picture</html>", "not a picture"), (b"", "not a picture"), (b"GIF89a" + bytes(40), "not a picture"),
        (png_of(50_000, 50_000), "too many pixels"), (png_of(8, 8), "picture"), (animated(), "animated picture"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sound_picture_ends_in_one_line(
    site: Site, data: bytes, cause: str
) -> None:
    answer = site.post("/api/search", {"picture": b64encode(data).decode()})
    assert answer.status == 400
    assert cause in answer.json["error"] and "\n" not in answer.json["error"]


def test_the_page_has_no_inline_script_or_style_and_writes_no_markup() -> None:
    markup = (PAGE / "page.html").read_text()
    assert not re.search(
        r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|https?://|javascript:", markup
    )
    for name in (name for name, kind in ASSETS.values() if "javascript" in kind):
        script = (PAGE / name).read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|https?://",
            script,
        ), name
        assert len(script.splitlines()) <= 300
    assert {name for name, _ in ASSETS.values()} == {file.name for file in PAGE.iterdir()}


def test_addresses_of_this_machine_are_told_from_others() -> None:
    assert [
        host for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost") if not is_loopback(host)
    ] == []
    assert [
        host for host in ("0.0.0.0", "::", "10.0.0.1", "pictures.lan", "") if is_loopback(host)
    ] == []
    assert {"pictures.lan", "localhost", "0.0.0.0"} <= allowed_names("0.0.0.0", ["Pictures.LAN"])
    assert "[fe80::1]" in allowed_names("fe80::1", [])
    with pytest.raises(UserError, match=r"'http://x' in names is not a host's name"):
        allowed_names("127.0.0.1", ["http://x"])


def test_a_server_for_others_takes_numbers_and_its_names_only(service: SearchService) -> None:
    with serving(service, host="0.0.0.0", names=["Pictures.lan"]) as open_site:

        def statuses(*hosts: str) -> set[int]:
            return {open_site.get("/", host=host).status for host in hosts}

        # Only a name can be given to an address by somebody else's DNS.
        assert statuses("10.1.2.3:8000", "[fe80::1]:8000", "pictures.lan", "localhost:1") == {200}
        assert statuses("evil.example", "10.1.2.3.evil.example", "1e3") == {403}
