"""Shards in WebDataset's format, whose bytes depend on the samples alone: no clock, no user."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

Sample = tuple[str, Mapping[str, bytes]]
"""A key, and the bytes of its parts by suffix ("webp", "json", "txt")."""


@dataclass(frozen=True, kw_only=True)
class WrittenShard:
    """What was written: enough for a manifest, and to check the file later."""

    path: Path
    num_samples: int
    num_bytes: int
    sha256: str


def write_shard(path: Path, samples: Iterable[Sample]) -> WrittenShard:
    """Write the samples as one tar, under a temporary name first: `path` is whole or not there.

    Parts stand in the order of their suffixes. Keys and suffixes must be plain ASCII of at most 100
    characters together, the limit of the oldest tar format.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    num_samples = 0
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, parts in samples:
                for suffix in sorted(parts):
                    tar.addfile(
                        _member(f"{key}.{suffix}", parts[suffix]), io.BytesIO(parts[suffix])
                    )
                num_samples += 1
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return WrittenShard(
        path=path,
        num_samples=num_samples,
        num_bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
    )


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str, content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o444
    return member
