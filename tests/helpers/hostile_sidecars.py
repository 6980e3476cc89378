"""Files where the kept index of a sound shard is looked for."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hostile_cases import Case, bytes_case, zipped
from hostile_tars import sample


def npy(dtype: str, shape: str, content: bytes = b"") -> bytes:
    """An array file with any header."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + content


def plain(array: np.ndarray) -> bytes:
    """An array file as numpy writes it."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


class _Canary:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("canary"),)


def index_arrays(**changes: bytes) -> dict[str, bytes]:
    """The files of an index that fits size and time of the shard `sample()`, some of them changed."""
    arrays = {
        "format_version": np.array(1),
        "sha256": np.array("0" * 64),
        "shard_bytes_and_mtime_ns": np.array([len(sample()), 0]),
        "key_bytes": np.frombuffer(b"good", dtype=np.uint8),
        "key_ends": np.array([4]),
        "part_types": np.array(["png", "txt"]),
        "offsets": np.zeros((2, 1), dtype=np.int64),
        "sizes": np.ones((2, 1), dtype=np.int64),
        "skipped_causes": np.array([], dtype="U1"),
        "skipped_counts": np.array([], dtype=np.int64),
    }
    files = {name: plain(array) for name, array in arrays.items()} | changes
    return {f"{name}.npy": content for name, content in files.items()}


def sidecars() -> Iterator[Case]:
    """Files where the index of a sound shard is looked for: all are as good as none."""
    nothing_wide = npy("'<U0'", "(1000000000,)")
    makers: dict[str, Callable[[], bytes]] = {
        "zip bomb": lambda: zipped({"sizes.npy": bytes(10**8)}),
        "10,000 entries": lambda: zipped({f"{n}.npy": b"" for n in range(10_000)}),
        "pickled objects": lambda: zipped(index_arrays(sha256=plain(np.array([_Canary()], dtype=object)))),
        "pickle alone": lambda: b"cposix\nsystem\n(S'touch canary'\ntR.",
        "array of 80 GB in 100 bytes": lambda: zipped(index_arrays(sizes=npy("'<i8'", "(10**10,)"))),
        "lying shape": lambda: zipped(index_arrays(sizes=npy("'<i8'", "(10000000000,)"))),
        "negative shape": lambda: zipped(index_arrays(sizes=npy("'<i8'", "(-1, 1)", bytes(16)))),
        "shape past 64 bits": lambda: zipped(index_arrays(sizes=npy("'<i8'", "(4294967296, 4294967296)"))),
        "10^9 empty causes": lambda: zipped(index_arrays(skipped_causes=nothing_wide)),
        "10^9 empty part types": lambda: zipped(index_arrays(part_types=nothing_wide)),
        "10^9 keys of no bytes": lambda: zipped(index_arrays(key_ends=npy("'|V0'", "(1000000000,)"))),
        "version without end": lambda: zipped(index_arrays(format_version=plain(np.array(np.inf)))),
        "counts without end": lambda: zipped(
            index_arrays(skipped_causes=plain(np.array(["a"])), skipped_counts=plain(np.array([np.inf])))
        ),
        "header that is never closed": lambda: zipped(index_arrays(sizes=npy("(((", "((("))),
        "header with a call": lambda: zipped(index_arrays(sizes=npy("__import__('os')", "()"))),
        "header of 1,000 brackets": lambda: zipped(index_arrays(sizes=npy("(" * 4000, "()"))),
        "structured numbers": lambda: zipped(index_arrays(sizes=npy("[('a', '<i8', (10**9,))]", "(1,)"))),
        "damaged LZMA": lambda: zipped(index_arrays(), zipfile.ZIP_LZMA).replace(b"\x5d\0\0", b"\x5e\xff\xff"),
        "damaged bzip2": lambda: zipped(index_arrays(), zipfile.ZIP_BZIP2).replace(b"BZh9", b"BZh0"),
        "unknown compression": lambda: zipped(index_arrays()).replace(b"\x08\0", b"\x63\0"),
        "cut short": lambda: zipped(index_arrays())[:-40],
        "names that climb out": lambda: zipped({"../../canary.npy": plain(np.array(1))}),
        "80 MB of nothing": lambda: bytes(80 * 10**6),
    }  # fmt: skip
    for name, make in makers.items():
        yield Case(kind="sidecar", name=name, make=make, expected="samples 1 $")
    lies = {
        "places behind the end": {"offsets": np.full((2, 1), 10**6)},
        "places before the start": {"offsets": np.full((2, 1), -512)},
        "sizes past the largest number": {"sizes": np.full((2, 1), 2**63 - 1)},
        "keys that run backwards": {"key_ends": np.array([-4])},
        "keys behind their bytes": {"key_ends": np.array([10**6])},
        "part types that are not known": {"part_types": np.array(["pkl", "txt"])},
        "one part type twice": {"part_types": np.array(["txt", "txt"])},
        "more part types than places": {"part_types": np.array(["png", "txt", "json"])},
        "places in floating point": {"offsets": np.zeros((2, 1))},
        "no samples": {"key_ends": np.zeros(0, dtype=np.int64)},
        "numbers that are no characters": {"part_types": np.full(2, 0x110000, "<u4").view("<U1")},
        "halves of characters": {
            "skipped_causes": np.full(1, 0xD800, "<u4").view("<U1"), "skipped_counts": np.ones(1, np.int64),
        },
        "version of tomorrow": {"format_version": np.array(2**62)},
        "hash that is none": {"sha256": np.array("g" * 64)},
    }  # fmt: skip
    for name, arrays in lies.items():
        changes = {key: plain(array) for key, array in arrays.items()}
        files = index_arrays(**changes)
        yield Case(
            kind="sidecar", name=name, make=lambda f=files: zipped(f), expected="samples 1 $"
        )
    # Stamped like the shard, and inside of it: taken at its word, and found out as any bad sample.
    believed = zipped(index_arrays())
    yield bytes_case("sidecar", "places that are others", believed, "samples 1 not a picture: 1$")
