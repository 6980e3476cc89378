"""The index of a shard: which samples it holds and where their bytes lie, kept in a file beside it.

    python -m data_pipelines.index shards/*.tar

A shard is a tar in WebDataset's format. The index makes any sample reachable in one read, so that an
order can be computed instead of streamed. A local shard is read whole and hashed. Of a remote one
only the headers are read; size and ETag (or the time of the last change) stand for its contents.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tyro
from jaxtyping import Int64, UInt8
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_pipelines.cache import one_at_a_time
from data_pipelines.errors import UserError, run_command
from data_pipelines.grouping import PART_TYPES, group_members, key_as_text, require_usable
from data_pipelines.progress import with_progress
from data_pipelines.remote import HeaderReads, RemoteShard, Shard, asked_at_once, status_of
from data_pipelines.sidecar import load_sidecars, save_sidecar
from data_pipelines.sources import resolve_shards
from data_pipelines.tar import BLOCK, DamagedTarError, Member, ReadAt, TarEnd, tar_members
from data_pipelines.transport import RemoteStatus
from data_pipelines.words import cell, tell

FORMAT_VERSION = 1


def read_or_build_indexes(shards: Sequence[Shard]) -> list["ShardIndex"]:
    """The index of each shard, in order, with progress on stderr when it takes a while."""
    remote = [shard for shard in shards if isinstance(shard, RemoteShard)]
    with ExitStack() as stack:
        # All ranks of a machine read kept indexes at once; they take turns from the first missing one.
        has_turn = False

        def waited() -> bool:
            nonlocal has_turn
            had_turn, has_turn = has_turn, True
            if not had_turn:
                stack.enter_context(one_at_a_time("indexing"))
            return not had_turn

        if remote:
            waited()
        asked = stack.enter_context(asked_at_once(remote, read_or_build_index))
        named = with_progress(shards, total=len(shards), label="indexes of shards")
        return [
            read_or_build_index(shard, waited) if isinstance(shard, Path) else asked[shard].result()
            for shard in named
        ]


def read_or_build_index(shard: Shard, waited: Callable[[], bool] = lambda: False) -> "ShardIndex":
    """The index of one shard: the kept one while it fits the file, else a new one, which is kept.

    `waited` is called before a new one is made, and says whether one may have been made meanwhile.
    Raises UserError when the file cannot be read, is no tar, is damaged, or has no usable sample.
    """
    if isinstance(shard, RemoteShard):
        return _remote_index(shard)
    try:
        with open(shard, "rb") as file:
            status = os.fstat(file.fileno())
            kept = [_from_arrays(shard, arrays) for arrays in load_sidecars(shard, status.st_size)]
            known = [index for index in kept if index is not None]
            for index in known:
                if (index.size, index.mtime_ns) == (status.st_size, status.st_mtime_ns):
                    return index
            if waited():
                return read_or_build_index(shard)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            for index in known:
                if index.sha256 == sha256:
                    break
            else:
                if known:
                    tell(f"{shard} has changed: indexing it again")
                index = replace(_build(shard, _reads_of(file), status.st_size), sha256=sha256)
    except OSError as error:
        raise UserError(f"{shard} cannot be read ({error.strerror}); check the path") from error
    index = replace(index, mtime_ns=status.st_mtime_ns)
    save_sidecar(shard, _to_arrays(index))
    return index


def _reads_of(file: BinaryIO) -> ReadAt:
    return lambda offset, length: os.pread(file.fileno(), length, offset)


def _remote_index(shard: RemoteShard) -> "ShardIndex":
    status = status_of(shard)
    kept = [_from_arrays(shard, arrays) for arrays in load_sidecars(shard, status.size)]
    known = [index for index in kept if index is not None]
    for index in known:
        # A server that tells no version cannot tell of a change either: nothing is taken on trust.
        if status.version and index.remote_status == status:
            return index
    if known and status.version:
        tell(f"{shard} has changed: indexing it again")
    index = _build(shard, HeaderReads(shard, status), status.size)
    index = replace(index, version=status.version)
    save_sidecar(shard, _to_arrays(index))
    return index


def _build(shard: Shard, read_at: ReadAt, size: int) -> "ShardIndex":
    end = TarEnd(Counter())
    members = tar_members(read_at, size, end)
    try:
        samples = list(group_members(members, end.skipped))
    except DamagedTarError as damage:
        if damage.offset > 0:
            raise UserError(f"{shard} is damaged: {damage}; make or copy it again") from damage
        raise UserError(
            f"{shard} is not a tar file (nor are compressed ones read); shards are plain tar files"
        ) from damage
    if size < BLOCK:
        raise UserError(f"{shard} is not a tar file: it has {size} bytes; make or copy it again")
    torn = end.torn
    if samples and samples[-1].may_go_on(end, samples[0]):
        samples.pop()
        torn = True
    if torn:
        end.skipped["torn end"] += 1
        tell(
            f"{shard} stops in the middle of a sample: the {len(samples)} whole ones before it are "
            "used; copy it again to get the rest",
        )
    require_usable(str(shard), samples, end.skipped)
    kinds = [kind for kind in PART_TYPES if any(kind in sample.parts for sample in samples)]
    absent = Member(b"", -1, -1)
    places = [[sample.parts.get(kind, absent) for sample in samples] for kind in kinds]
    return ShardIndex(
        path=shard,
        sha256="",
        size=size,
        mtime_ns=0,
        version="",
        key_bytes=np.frombuffer(b"".join(sample.key for sample in samples), dtype=np.uint8),
        key_ends=np.cumsum([len(sample.key) for sample in samples], dtype=np.int64),
        part_types=tuple(kinds),
        offsets=np.array([[part.offset for part in parts] for parts in places], dtype=np.int64),
        sizes=np.array([[part.size for part in parts] for parts in places], dtype=np.int64),
        skipped=dict(end.skipped),
    )


def _to_arrays(index: "ShardIndex") -> dict[str, np.ndarray]:
    return {
        "format_version": np.array(FORMAT_VERSION),
        "sha256": np.array(index.sha256),
        "version": np.array(index.version),
        "shard_bytes_and_mtime_ns": np.array([index.size, index.mtime_ns], dtype=np.int64),
        "key_bytes": index.key_bytes,
        "key_ends": index.key_ends,
        "part_types": np.array(index.part_types),
        "offsets": index.offsets,
        "sizes": index.sizes,
        "skipped_causes": np.array(list(index.skipped), dtype=np.str_),
        "skipped_counts": np.array(list(index.skipped.values()), dtype=np.int64),
    }


def _from_arrays(shard: Shard, arrays: dict[str, np.ndarray]) -> "ShardIndex | None":
    """The index that the arrays describe, or None when they describe none that can be trusted."""
    try:
        if int(arrays["format_version"]) != FORMAT_VERSION:
            return None
        size, mtime_ns = (int(number) for number in arrays["shard_bytes_and_mtime_ns"])
        causes, counts = arrays["skipped_causes"].tolist(), arrays["skipped_counts"].tolist()
        index = ShardIndex(
            path=shard,
            sha256=str(arrays["sha256"]),
            size=size,
            mtime_ns=mtime_ns,
            version=str(arrays.get("version", "")),
            key_bytes=arrays["key_bytes"],
            key_ends=arrays["key_ends"],
            part_types=tuple(str(kind) for kind in arrays["part_types"]),
            offsets=arrays["offsets"],
            sizes=arrays["sizes"],
            skipped={str(c): int(n) for c, n in zip(causes, counts, strict=True)},
        )
        return index if _holds_together(index) else None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return None


def _holds_together(index: "ShardIndex") -> bool:
    num_parts, num_samples = len(index.part_types), index.num_samples
    layout = [
        (index.key_bytes, np.uint8, (index.key_bytes.size,)),
        (index.key_ends, np.int64, (num_samples,)),
        (index.offsets, np.int64, (num_parts, num_samples)),
        (index.sizes, np.int64, (num_parts, num_samples)),
    ]
    if any(array.dtype != kind or array.shape != shape for array, kind, shape in layout):
        return False
    present = index.sizes >= 0
    starts, lengths = index.offsets[present], index.sizes[present]
    return bool(
        num_samples > 0
        and re.fullmatch("[0-9a-f]{64}" if isinstance(index.path, Path) else "", index.sha256)
        and set(index.part_types) <= set(PART_TYPES)
        and len(set(index.part_types)) == num_parts
        and np.all(np.diff(index.key_ends, prepend=0) >= 0)
        and index.key_ends[-1] == index.key_bytes.size
        and np.all(starts >= 0)
        # Not starts + lengths, which may pass the largest number and come out negative.
        and np.all(lengths <= index.size - starts)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex:
    """What a shard holds: N samples, and for each of P part types where its bytes lie."""

    path: Shard
    sha256: str
    """Of the whole shard; empty for a remote one, which is not read whole."""
    size: int
    """Bytes of the shard."""
    mtime_ns: int
    """When the shard was last changed, as the file system tells it; 0 for a remote one."""
    version: str = ""
    """What the server calls this version of a remote shard; empty for a local one."""
    key_bytes: UInt8[np.ndarray, " bytes"]
    """All keys, one after the other."""
    key_ends: Int64[np.ndarray, " N"]
    part_types: tuple[str, ...]
    offsets: Int64[np.ndarray, "P N"]
    sizes: Int64[np.ndarray, "P N"]
    """Bytes of each part; -1 where a sample has no such part."""
    skipped: dict[str, int]
    """Members that belong to no sample here, by cause."""

    @property
    def num_samples(self) -> int:
        """Samples, also those that lack a part: they become holes and are counted by cause."""
        return len(self.key_ends)

    @property
    def name(self) -> str:
        """The file name, for messages and the fingerprint."""
        return self.path.name

    @property
    def remote_status(self) -> RemoteStatus:
        """Size and version that a remote shard must still have when it is read."""
        return RemoteStatus(size=self.size, version=self.version)

    def key(self, row: int) -> str:
        """The key of a sample, as text for messages."""
        start = int(self.key_ends[row - 1]) if row else 0
        return key_as_text(self.key_bytes[start : self.key_ends[row]].tobytes())

    def parts(self, row: int) -> dict[str, tuple[int, int]]:
        """Offset and size of each part that a sample has, by part type."""
        places = zip(self.offsets[:, row].tolist(), self.sizes[:, row].tolist(), strict=True)
        named = zip(self.part_types, places, strict=True)
        return {kind: (offset, size) for kind, (offset, size) in named if size >= 0}


@dataclass(frozen=True, kw_only=True)
class IndexCommand:
    """Index shards and print what they hold."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Paths, globs, ranges such as x-{000..013}.tar, or the name of a pack."""


def main(argv: list[str]) -> None:
    """Index the shards that the command line names and print a table of them."""
    command = tyro.cli(IndexCommand, args=argv, prog="python -m data_pipelines.index")
    table = Table("shard", "samples", "parts", "bytes", "sha256", "passed over", box=SIMPLE)
    for index in read_or_build_indexes(resolve_shards(command.shards)):
        skipped = ", ".join(f"{cause}: {number}" for cause, number in sorted(index.skipped.items()))
        counts = f"{index.num_samples:,}", " ".join(index.part_types), f"{index.size:,}"
        table.add_row(*map(cell, (index.name, *counts, index.sha256[:8], skipped)))
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
