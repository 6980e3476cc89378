"""What the ways to remote bytes have in common: an answer, and the two ways in which it can fail."""

from dataclasses import dataclass

MAX_VERSION_CHARACTERS = 200


class TransientError(Exception):
    """A failure that may pass; `pause` says how many seconds the server asked to be left alone."""

    def __init__(self, reason: str, *, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class PermanentError(Exception):
    """A failure that asking again does not mend."""


@dataclass(frozen=True, kw_only=True)
class RemoteStatus:
    """Which contents a remote file has, as far as the server tells it."""

    size: int
    """Bytes of the file."""
    version: str
    """ETag or time of the last change; empty where the server gives neither."""


@dataclass(frozen=True, kw_only=True)
class RangeAnswer:
    """Bytes from the middle of a file, and of which file."""

    data: bytes
    status: RemoteStatus
