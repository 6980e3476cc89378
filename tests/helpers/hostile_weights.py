"""Files of tensors and arrays that lie about what they hold, and sentencepiece models that do."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hostile_cases import zipped
from hostile_files import Spoiling, put, sparse
from hostile_sidecars import npy


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, and any length of it claimed."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list, start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    """What a header says of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def lying_safetensors() -> dict[str, bytes]:
    """Headers that contradict themselves or their file."""
    many = {f"t{number}": tensor([0], 0, 0) for number in range(100_000)}
    return {
        "header longer than the file": safetensors({"a": tensor([1], 0, 4)}, bytes(4), 10**9),
        "header of 2^63 bytes": safetensors({}, length=2**63 + 5),
        "header of no bytes": safetensors(b""),
        "offsets behind the end": safetensors({"a": tensor([4], 0, 16)}, bytes(4)),
        "offsets that run backwards": safetensors({"a": tensor([1], 4, 0)}, bytes(4)),
        "negative offsets": safetensors({"a": tensor([1], -4, 0)}, bytes(4)),
        "tensors on top of each other": safetensors(
            {"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)
        ),
        "hole between tensors": safetensors(
            {"a": tensor([1], 0, 4), "b": tensor([1], 100, 104)}, bytes(104)
        ),
        "shape past 64 bits": safetensors({"a": tensor([2**32, 2**32], 0, 4)}, bytes(4)),
        "shape of 2^60": safetensors({"a": tensor([2**60], 0, 4)}, bytes(4)),
        "negative shape": safetensors({"a": tensor([-1], 0, 4)}, bytes(4)),
        "shape of 100,000 axes": safetensors({"a": tensor([1] * 100_000, 0, 4)}, bytes(4)),
        "10^12 rows of nothing": safetensors({"a": tensor([10**12, 0], 0, 0)}),
        "kind that is not known": safetensors({"a": tensor([1], 0, 4, "OBJ")}, bytes(4)),
        "one name twice": safetensors(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
        ),
        "10,000 brackets": safetensors(b"[" * 10_000),
        "header of noise": safetensors(np.random.default_rng(5).bytes(3000)),
        "100,000 names": safetensors(many),
        "metadata that are no texts": safetensors({"__metadata__": {"a": [1]}}),
        "names that climb out": safetensors({"../../x": tensor([1], 0, 4)}, bytes(4)),
        "tensors of another model": safetensors({"a": tensor([1], 0, 4)}, bytes(4)),
        "nothing": b"",
        "seven bytes": bytes(7),
        "HTML": b"<html><script>alert(1)</script></html>" * 10,
    }  # fmt: skip


def spoilt_safetensors() -> Iterator[Spoiling]:
    """Each of them in place of the file."""
    for name, content in lying_safetensors().items():
        yield "safetensors", name, lambda path, content=content: put(path, content)
    yield "safetensors", "4 GB of nothing", lambda path: sparse(path, 4 * 10**9, bytes(8))


def lying_arrays() -> dict[str, bytes]:
    """Files of one numpy array."""
    return {
        "array of 80 GB in 100 bytes": npy("'<u8'", "(10000000000,)"),
        "pairs, 160 GB in 100 bytes": npy("[('f0', '<u8'), ('f1', '<u8')]", "(10000000000,)"),
        "shape past 64 bits": npy("'<i8'", "(4294967296, 4294967296)"),
        "negative shape": npy("'<i8'", "(-1,)", bytes(16)),
        "10^10 rows of nothing": npy("'<U0'", "(10000000000,)"),
        "header with a call": npy("__import__('os').mkdir('ran-canary')", "()"),
        "header of 4,000 brackets": npy("(" * 4000, "()"),
        "structure of 10^9 numbers": npy("[('a', '<i8', (10**9,))]", "(1,)"),
        "objects": npy("'|O'", "(1,)", b"cos\nsystem\n(S'true'\ntR."),
        "header of 65,000 bytes": npy("'<i8'", "(" + " " * 60_000 + "1,)", bytes(8)),
        "version 9": b"\x93NUMPY\x09\0" + bytes(64),
        "nothing": b"",
        "text": b"not an array\n" * 10,
    }


def spoilt_arrays() -> Iterator[Spoiling]:
    """Each of them as the file."""
    for name, content in lying_arrays().items():
        yield "numpy", name, lambda path, content=content: put(path, content)


def spoilt_archives() -> Iterator[Spoiling]:
    """Each of them as an array in an .npz, and what only a zip can do."""
    archives: dict[str, Callable[[], bytes]] = {
        name: lambda content=content: zipped({"a.npy": content})
        for name, content in lying_arrays().items()
    }
    archives |= {
        "zip bomb": lambda: zipped({"a.npy": _header(10**8) + bytes(4 * 10**8)}),
        "100,000 entries": lambda: zipped({f"{n}.npy": b"" for n in range(20_000)}, 0),
        "names that climb out": lambda: zipped({"../../ran-canary.npy": _header(1) + bytes(4)}),
        "damaged LZMA": lambda: zipped({"a.npy": _header(9)}, zipfile.ZIP_LZMA).replace(
            b"\x5d\0\0", b"\x5e\xff\xff"
        ),
        "cut short": lambda: zipped({"a.npy": _header(9) + bytes(36)})[:-30],
        "10^6 blocks of nothing": lambda: zipped(
            {"img/Transformer/encoderblock/x.npy": npy("'<f4'", "(1000000, 0)")}
        ),
        "vectors for matrices": lambda: zipped(
            {
                f"{name}.npy": _header(1) + bytes(4)
                for name in ("img/embedding/kernel", "img/head/kernel", "txt/pos_embedding")
            }
        ),
        "arrays of another model": lambda: zipped({"a.npy": _header(1) + bytes(4)}),
    }
    for name, make in archives.items():
        yield "numpy", f"{name}, in npz", lambda path, make=make: put(path, make())


def _header(number: int) -> bytes:
    return npy("'<f4'", f"({number},)")


def field(number: int, content: bytes) -> bytes:
    """A field of bytes of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def piece(text: bytes, kind: int = 1) -> bytes:
    """A piece of a sentencepiece model."""
    return field(1, field(1, text) + b"\x15" + struct.pack("<f", -1.0) + b"\x18" + _varint(kind))


def charsmap(trie: bytes, size: int | None = None, strings: bytes = b"a\0") -> bytes:
    """A sentencepiece model's table of characters that are replaced."""
    return field(
        3, field(2, struct.pack("<I", len(trie) if size is None else size) + trie + strings)
    )


def spoilt_sentencepiece() -> Iterator[Spoiling]:
    """A sound model with more in it; protocol buffers are joined by writing one behind the other."""
    far = struct.pack("<256I", *([0xFFFFFFFF] * 256))
    leaf = struct.pack("<256I", *([0x80000000 | 0x7FFFFFFF] * 256))
    chain = struct.pack("<256I", *[(number << 10 | number) & 0xFFFFFFFF for number in range(256)])
    more: dict[str, bytes] = {
        "piece of 100 KB": piece(b"a" * 100_000),
        "piece of 20 MB": piece(b"a" * 20_000_000),
        "piece of nothing": piece(b""),
        "piece with a NUL": piece(b"a\0b"),
        "piece that is no UTF-8": piece(b"\xff\xfe\xc0"),
        "one piece twice": piece(b"zz") * 2,
        "300,000 pieces": b"".join(piece(b"p%d" % number) for number in range(300_000)),
        "pieces of a kind that is not known": piece(b"zy", 77),
        "byte pieces that are none": piece(b"<0xZZ>", 6),
        "score that is no number": field(1, field(1, b"zx") + b"\x15\0\0\xc0\x7f"),
        "table shorter than it says": charsmap(far, 10**9),
        "table of no bytes": field(3, field(2, b"")),
        "table of three bytes": field(3, field(2, b"\1\2\3")),
        "table that points far out": charsmap(far),
        "table whose leaves point out": charsmap(leaf),
        "table that points in circles": charsmap(chain, strings=b""),
        "table of noise": charsmap(np.random.default_rng(6).bytes(4096)),
        "table back from ids": field(5, field(2, charsmap(far)[3:])),
        "end token past the pieces": field(2, b"\xd0\x02\xff\xff\xff\x07"),
        "settings of noise": field(2, np.random.default_rng(7).bytes(300)),
        "field of 2 GB": b"\x0a\xff\xff\xff\xff\x07",
        "group that is never closed": b"\x0b" * 50_000,
    }
    for name, content in more.items():
        yield "sentencepiece", name, lambda path, c=content: put(path, path.read_bytes() + c)
    yield "sentencepiece", "nothing", lambda path: put(path, b"")
    yield "sentencepiece", "noise", lambda path: put(path, np.random.default_rng(8).bytes(9000))
    yield "sentencepiece", "pieces alone", lambda path: put(path, piece(b"a") * 3)
    yield "sentencepiece", "100 MB of nothing", lambda path: sparse(path, 10**8, path.read_bytes())


def parquet_of(columns: dict[str, list]) -> bytes:
    """A Parquet file of these columns."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream, compression="zstd")
    return stream.getvalue()


def _nothing(number: int) -> Any:
    import pyarrow

    return pyarrow.nulls(number, pyarrow.string())


def _dates(number: int) -> Any:
    import pyarrow

    return pyarrow.array([2**30] * number, pyarrow.int32()).cast(pyarrow.date32())


def spoilt_parquet(columns: dict[str, list]) -> Iterator[Spoiling]:
    """A sound table of these columns, damaged; and others."""
    sound = parquet_of(columns)
    first = next(iter(columns))
    files: dict[str, Callable[[], bytes]] = {
        "cut short": lambda: sound[:-40],
        "footer of 2 GB": lambda: sound[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "footer of noise": lambda: b"PAR1" + np.random.default_rng(4).bytes(500)
        + struct.pack("<I", 500) + b"PAR1",
        "pages of noise": lambda: sound[:4] + bytes(200) + sound[204:],
        "other columns": lambda: parquet_of({"x": [1, 2]}),
        "columns of other kinds": lambda: parquet_of({name: [1.5, None] for name in columns}),
        "lists in columns": lambda: parquet_of({name: [[["a"]], []] for name in columns}),
        "text of 200 MB": lambda: parquet_of({**columns, first: ["x" * 2 * 10**8] * len(columns[first])}),
        "one text of 1 MB in 1,000 rows": lambda: parquet_of(
            {**{name: [some[0]] * 1000 for name, some in columns.items()}, first: ["x" * 10**6] * 1000}
        ),
        "3 * 10^7 rows of nothing": lambda: parquet_of({name: _nothing(3 * 10**7) for name in columns}),
        "dates past all years": lambda: parquet_of({**columns, "more": _dates(len(columns[first]))}),
        "no rows": lambda: parquet_of({name: [] for name in columns}),
        "nothing": lambda: b"",
        "CSV": lambda: b"file,caption\na,b\n",
    }  # fmt: skip
    for name, make in files.items():
        yield "parquet", name, lambda path, make=make: put(path, make())
