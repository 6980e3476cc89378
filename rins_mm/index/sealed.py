"""Files that only this user's own programs have written: what lies beside data from anywhere can be believed.

The parsers of nearest-neighbour libraries are not made for hostile input. So a file is given to them
only with a seal (HMAC-SHA-256) by a secret key from the cache folder, which no one else can have made.
"""

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_pipelines.cache import cache_folder, one_at_a_time
from data_pipelines.errors import UserError
from data_pipelines.words import tell
from rins_mm.index.layout import require_file

KEY_BYTES = 32
MAX_BYTES = 2**40
_MAGIC = b"rins_mm sealed 1\n"
_SEAL_BYTES = 64
_READ_BYTES = 2**20


def read_sealed(path: Path, made_of: str) -> tuple[dict[str, Any] | None, bytes]:
    """Settings and content of a sealed file that was made of this; (None, b"") of any other.

    A file that is there and cannot be used is told of on standard error.
    """
    if not path.exists():
        return None, b""
    try:
        require_file(path, most=MAX_BYTES)
        found = _unsealed(path)
        if found is None:
            reason = "was not made by this user's programs, or is damaged"
        else:
            told = json.loads(found[0])
            if told["made of"] == made_of:
                return told["settings"], found[1]
            reason = "was made of other vectors"
    except (OSError, UserError, ValueError) as error:
        reason = f"cannot be read ({error})"
    tell(f"{path} {reason}, and is made anew")
    return None, b""


def write_sealed(path: Path, made_of: str, settings: dict[str, Any], data: bytes) -> None:
    """Write a sealed file; where that cannot be, a line on standard error says so."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        facts = json.dumps({"made of": made_of, "settings": settings}).encode()
        head = _MAGIC + _seal(facts, data).encode() + b"\n" + facts + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(head)
            file.write(data)
        os.replace(unfinished, path)
    except OSError as error:
        tell(f"{path} cannot be kept ({error.strerror})")
        with suppress(OSError):
            unfinished.unlink()


def _unsealed(path: Path) -> tuple[bytes, bytes] | None:
    """Facts and data behind a right seal; None behind any other. Raises ValueError where there is none."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it does not begin as a sealed file")
        seal, newline = file.read(_SEAL_BYTES), file.read(1)
        if newline != b"\n":
            raise ValueError("it has no seal")
        start = file.tell()
        # In parts: what somebody else has made may be larger than the memory.
        digest = hmac.new(_key(), digestmod=hashlib.sha256)
        while part := file.read(_READ_BYTES):
            digest.update(part)
        if not hmac.compare_digest(seal, digest.hexdigest().encode()):
            return None
        file.seek(start)
        facts, data = file.readline().removesuffix(b"\n"), file.read()
    # Once more: it may have been written to since.
    return (facts, data) if hmac.compare_digest(seal, _seal(facts, data).encode()) else None


def _seal(facts: bytes, data: bytes) -> str:
    digest = hmac.new(_key(), facts + b"\n", hashlib.sha256)
    digest.update(data)
    return digest.hexdigest()


def _key() -> bytes:
    """This user's key; made when there is none."""
    path = cache_folder() / "seal.key"
    with one_at_a_time("seal"):
        key = path.read_bytes() if path.is_file() else b""
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
    return key
