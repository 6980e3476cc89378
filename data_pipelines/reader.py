"""The bytes of one sample, fetched by bounded reads at the place that the index names.

Trust stops here: what leaves this room is bytes of a bounded length, whatever the shard claims.
"""

import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.grouping import CAPTION_PARTS, PICTURE_PARTS
from data_pipelines.index import ShardIndex
from data_pipelines.manifest import Dataset
from data_pipelines.remote import NEVER, RemoteShard, read_range

MAX_PICTURE_BYTES = 64 * 2**20
MAX_CAPTION_BYTES = 2**20
MAX_BYTES_BETWEEN = 2**16
"""Parts with no more than this between them are fetched in one read."""
MAX_OPEN_SHARDS = 64


def read_sample(dataset: Dataset, index: int, given_up: threading.Event = NEVER) -> "RawSample":
    """The parts of sample number `index`, as bytes.

    Raises BadSample when a part is too large, and UserError when the shard has vanished or changed.
    Once `given_up` is set, a remote read that fails is not tried again.
    """
    number, row = dataset.locate(index)
    shard = dataset.shards[number]
    places = shard.parts(row)
    for kind, (_, size) in places.items():
        if kind in PICTURE_PARTS and size > MAX_PICTURE_BYTES:
            raise BadSample("picture file too large")
        if kind in CAPTION_PARTS and size > MAX_CAPTION_BYTES:
            raise BadSample("caption file too large")
    start = min(offset for offset, _ in places.values())
    length = max(offset + size for offset, size in places.values()) - start
    if length <= sum(size for _, size in places.values()) + MAX_BYTES_BETWEEN:
        # One read for all parts, which are neighbours in a shard that was written in one go.
        data = _read(shard, start, length, given_up)
        parts = {kind: data[at - start : at - start + size] for kind, (at, size) in places.items()}
    else:
        parts = {kind: _read(shard, *place, given_up) for kind, place in places.items()}
    return RawSample(shard=shard.name, key=shard.key(row), parts=parts)


def _read(shard: ShardIndex, offset: int, size: int, given_up: threading.Event) -> bytes:
    if isinstance(shard.path, RemoteShard):
        return read_range(shard.path, shard.remote_status, offset, size, given_up)
    return read_local(shard.path, shard.size, shard.mtime_ns, offset, size)


def read_local(path: Path, file_size: int, mtime_ns: int, offset: int, size: int) -> bytes:
    """`size` bytes at `offset` of a local shard that had this size and time when it was indexed.

    Raises UserError when the shard has vanished, or is another one by now.
    """
    file = _open_shard(path, file_size, mtime_ns)
    try:
        data = os.pread(file.descriptor, size, offset)
    except OSError as error:
        raise UserError(f"shard {path} cannot be read ({error.strerror}); check it") from error
    if len(data) < size:
        raise UserError(
            f"shard {path} is shorter than when it was indexed: {len(data)} of {size} bytes "
            f"at {offset}; copy it again, then run again"
        )
    return data


# An evicted file is closed when the last thread that reads from it lets go, not before.
@lru_cache(maxsize=MAX_OPEN_SHARDS)
def _open_shard(path: Path, size: int, mtime_ns: int) -> "_OpenFile":
    try:
        file = _OpenFile(path)
    except OSError as error:
        raise UserError(
            f"shard {path} has vanished since it was indexed ({error.strerror}); put it back, "
            "then run again"
        ) from error
    status = os.fstat(file.descriptor)
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise UserError(
            f"shard {path} has changed since it was indexed; run again to index it anew"
        )
    return file


class _OpenFile:
    """A file that is open as long as somebody holds this object."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        # Nothing to close when opening failed.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@dataclass(frozen=True, kw_only=True, slots=True)
class RawSample:
    """One sample as it lies in its shard."""

    shard: str
    """The file name of the shard."""
    key: str
    parts: dict[str, bytes]
    """Bytes by part type: webp, jpg, jpeg, png, json, txt."""


def read_picture_file(path: Path) -> bytes:
    """The bytes of a file that should be a picture. Raises BadSample for what is none, or too large for one."""
    try:
        # A pipe that is called like a picture would be waited for without end.
        if path.exists() and not path.is_file():
            raise BadSample("not a file")
        if path.stat().st_size > MAX_PICTURE_BYTES:
            raise BadSample("picture file too large")
        return path.read_bytes()
    # A name with a NUL is a ValueError.
    except (OSError, ValueError) as error:
        raise BadSample("unreadable file") from error
