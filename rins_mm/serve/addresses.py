"""Addresses that a server listens on, and the names that browsers may call it by."""

import ipaddress
import re
from collections.abc import Iterable

from data_pipelines.errors import UserError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this address."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    """Whether a name is a number, an IPv6 one in brackets or without."""
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True


def name_in(host: str) -> str:
    """The name in a Host header, without its port; empty for a header of another form."""
    match = _HOST.fullmatch(host.lower())
    return match["name"] if match else ""


def allowed_names(host: str, further: Iterable[str]) -> frozenset[str]:
    """Names in a Host header that mean the server that listens on `host`.

    Raises UserError for a name that no Host header could hold.
    """
    names = {name.lower() for name in further}
    for name in names:
        if name_in(name) != name:
            raise UserError(
                f"{name!r} in names is not a host's name; give one such as pictures.lan"
            )
    own = f"[{host}]" if ":" in host else host.lower()
    return LOOPBACK_NAMES | names | {own}
