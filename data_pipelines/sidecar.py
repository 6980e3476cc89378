"""Where the index of a shard is kept: `SHARD.index.npz` beside it, or a cache folder.

That of a remote shard is kept in the cache folder only, under a hash of its address.

What is read here may come from anybody: nothing is unpickled, and a file that does not fit is as
good as none.
"""

import hashlib
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_pipelines.cache import cache_folder
from data_pipelines.remote import Shard
from data_pipelines.words import tell

# Each part of a sample takes at least a kilobyte of its shard and far less of the index.
_SPARE_BYTES = 1 << 20


def load_sidecars(shard: Shard, shard_bytes: int | None = None) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each kept index of the shard, the one beside it first, without damaged ones.

    One that would unpack to more than the bytes of the shard (of a local one, those on disk unless
    `shard_bytes` says) is passed over.
    """
    for path in _places(shard):
        try:
            if shard_bytes is None:
                shard_bytes = shard.stat().st_size if isinstance(shard, Path) else 0
            # The file itself first: its list of contents is read into memory as a whole.
            if path.stat().st_size > shard_bytes + _SPARE_BYTES:
                continue
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > shard_bytes + _SPARE_BYTES:
                continue
            with np.load(path, allow_pickle=False) as arrays:
                read = {name: arrays[name] for name in arrays.files}
                # Elements of no bytes cost nothing in a file, and memory when they become Python's.
                if any(array.size > array.nbytes for array in read.values()):
                    raise ValueError("an array of elements without bytes")
                if any(array.dtype.kind == "U" and not _is_text(array) for array in read.values()):
                    raise ValueError("an array of numbers that are no characters")
        # Damaged zip and npy files meet the parsers' authors with nearly any exception there is.
        except Exception as error:
            _tell_unless_missing(path, error)
            continue
        yield read


def save_sidecar(shard: Shard, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep the arrays beside the shard, or in the cache folder where that cannot be written.

    Written under another name and renamed, so that readers see a whole file or none. When neither
    place can be written, a line on stderr says so, and the index is built again next time.
    """
    reasons = []
    for path in _places(shard):
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            os.replace(unfinished, path)
            return
        except OSError as error:
            reasons.append(f"{path.parent}: {error.strerror}")
            with suppress(OSError):
                unfinished.unlink()
    tell(
        f"the index of {shard} cannot be kept ({'; '.join(reasons)}) and is built anew in every "
        "run; set RINS_MM_CACHE to a folder that can be written",
    )


def _places(shard: Shard) -> tuple[Path, ...]:
    if not isinstance(shard, Path):
        # Names on a server may hold characters, or have a length, that file systems do not take.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", shard.name)[-100:]
        digest = hashlib.sha256(shard.url.encode()).hexdigest()[:32]
        return (cache_folder() / "indexes" / f"{digest}-{name}.index.npz",)
    digest = hashlib.sha256(os.fsencode(shard.resolve())).hexdigest()[:16]
    name = f"{shard.name}.index.npz"
    return shard.with_name(name), cache_folder() / "indexes" / f"{digest}-{name}"


def _is_text(words: np.ndarray) -> bool:
    """Whether the words are made of characters, without halves of pairs: numpy takes any number for one."""
    points = np.frombuffer(words.tobytes(), np.dtype("u4").newbyteorder(words.dtype.byteorder))
    return not np.any((points > sys.maxunicode) | ((points >= 0xD800) & (points <= 0xDFFF)))


def _tell_unless_missing(path: Path, error: Exception) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        tell(f"{path} cannot be used ({type(error).__name__}) and is not read")
