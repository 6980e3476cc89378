"""Where the index of a shard is kept: `SHARD.index.npz` beside it, or a cache folder.

What is read here may come from anybody: nothing is unpickled, and a file that does not fit is as
good as none.
"""

import hashlib
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_pipelines.cache import cache_folder

# Each part of a sample takes at least a kilobyte of its shard and far less of the index.
_SPARE_BYTES = 1 << 20


def load_sidecars(shard: Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each kept index of the shard, the one beside it first, without damaged ones."""
    for path in _places(shard):
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > shard.stat().st_size + _SPARE_BYTES:
                continue
            with np.load(path, allow_pickle=False) as arrays:
                yield {name: arrays[name] for name in arrays.files}
        # What a damaged zip or npy raises is no narrower than this; NotImplementedError is an
        # unknown compression, RuntimeError an encrypted entry.
        except (OSError, ValueError, KeyError, EOFError, SyntaxError, MemoryError) as error:
            _tell_unless_missing(path, error)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            _tell_unless_missing(path, error)


def save_sidecar(shard: Path, arrays: Mapping[str, np.ndarray]) -> None:
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
    print(
        f"the index of {shard} cannot be kept ({'; '.join(reasons)}) and is built anew in every "
        "run; set RINS_MM_CACHE to a folder that can be written",
        file=sys.stderr,
    )


def _places(shard: Path) -> tuple[Path, Path]:
    digest = hashlib.sha256(os.fsencode(shard.resolve())).hexdigest()[:16]
    name = f"{shard.name}.index.npz"
    return shard.with_name(name), cache_folder() / "indexes" / f"{digest}-{name}"


def _tell_unless_missing(path: Path, error: Exception) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        print(f"{path} cannot be used ({type(error).__name__}) and is not read", file=sys.stderr)
