"""The index kept beside a shard, and the index that is made of a shard."""

import hashlib
import io
import os
import struct
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import hostile
import hostile_pictures
import hostile_tars
import numpy as np
import target_tar
from byte_mutations import EDGES, mutated_bytes, raw_bytes
from target import Files, Target, laid_down

from data_pipelines import index, reader, sidecar
from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of, read_record
from data_pipelines.index import ShardIndex, read_or_build_index
from data_pipelines.manifest import dataset_of
from data_pipelines.reader import read_sample

KEPT = "a.tar.index.npz"
TIME = 1_000_000_000
DTYPES = (
    "<i8",
    ">i8",
    "<i4",
    "<u8",
    "|u1",
    "<f8",
    "<U5",
    "|S3",
    "|b1",
    "<c16",
    "<M8[s]",
    "|V8",
    "<U0",
    "|V0",
    "<f2",
)


MOST_CHANGED = 1 << 16
"""So many entries of an array are changed as what they are; a longer one as any bytes."""


@cache
def shard() -> bytes:
    """Two samples and another, which lacks a part."""
    made = (
        hostile_tars.sample()
        + hostile_tars.sample(b"b", json=b'{"label": "b"}')
        + hostile_tars.member(b"c.png", hostile_pictures.png())
    )
    return made + bytes(1024)


def seeds() -> list[Files]:
    """The index as it is written, with the shard; hostile ones; and shards without one."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.tar"
        path.write_bytes(shard())
        os.utime(path, ns=(TIME, TIME))
        read_or_build_index(path)
        good = (Path(name) / KEPT).read_bytes()
    kept = [good, *(case.make() for case in hostile.cases() if case.kind == "sidecar")]
    bare = [{"a.tar": data["a.tar"]} for data in target_tar.seeds()[:10]]
    return [{"a.tar": shard(), KEPT: data} for data in kept if len(data) < 200_000] + bare


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Arrays with other values, shapes and kinds; entries and headers that lie; or the shard itself."""
    if KEPT not in files or draws.random() < 0.05:
        changed = target_tar.mutate({"a.tar": files["a.tar"]}, draws, {"a.tar": other["a.tar"]})
        return {**files, **changed}
    data = files[KEPT]
    chance = draws.random()
    if chance < 0.02:
        return {**files, KEPT: raw_bytes(draws)}
    if chance < 0.2:
        return {**files, KEPT: mutated_bytes(data, draws, other.get(KEPT, b""))}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name)[:100_000] for name in archive.namelist()[:30]}
    except Exception:
        return {**files, KEPT: mutated_bytes(data, draws, other.get(KEPT, b""))}
    for _ in range(draws.choice((1, 1, 2, 3))):
        if entries:
            _change_entry(entries, draws)
    return {**files, KEPT: _packed(entries, draws)}


def _packed(entries: dict[str, bytes], draws: Random) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if draws.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _change_entry(entries: dict[str, bytes], draws: Random) -> None:
    name = draws.choice(list(entries))
    match draws.randrange(8):
        case 0:
            del entries[name]
        case 1:
            entries[draws.choice(list(entries))] = entries[name]
        case 2:
            entries[draws.choice(("new.npy", "../out.npy", "x", name + "x", "/etc/x.npy"))] = (
                entries.pop(name)
            )
        case 3:
            entries[name] = mutated_bytes(entries[name], draws)
        case 4:
            entries[name] = _header_text(entries[name], draws)
        case _:
            entries[name] = _array_changed(entries[name], draws)


def _header_text(data: bytes, draws: Random) -> bytes:
    """The array's header with other text in it, and a length that fits."""
    if len(data) < 10 or data[:6] != b"\x93NUMPY":
        return mutated_bytes(data, draws)
    (length,) = struct.unpack("<H", data[8:10])
    text = data[10 : 10 + length].rstrip()
    descr = draws.choice((*DTYPES, "|O", "O", "i8,O", "x", "<i99", "<U999999999"))
    shape = draws.choice(
        (
            "()",
            "(0,)",
            "(-1,)",
            "(2, 2)",
            "(9999999999,)",
            "(99999999999999999999,)",
            "(1,)*99",
            "3",
            "(2.5,)",
        )
    )
    text = draws.choice((
        mutated_bytes(text, draws),
        b"{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (
            descr.encode(), draws.choice((b"True", b"False", b"1", b"None")), shape.encode()
        ),
    ))[:60_000]  # fmt: skip
    return data[:8] + struct.pack("<H", len(text) + 1) + text + b"\n" + data[10 + length :]


def _array_changed(data: bytes, draws: Random) -> bytes:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:
        return mutated_bytes(data, draws)
    if array.size > MOST_CHANGED:
        # Ten thousand million words of no letters take no bytes, and one by one all of the memory.
        return mutated_bytes(data, draws)
    buffer = io.BytesIO()
    np.save(buffer, _other_array(array, draws), allow_pickle=False)
    return buffer.getvalue()


def _other_array(array: np.ndarray, draws: Random) -> Any:
    choice = draws.randrange(6)
    if choice == 0:
        return np.zeros(
            draws.choice(((), (0,), (1,), (3,), (2, 3), (3, 3), (3, 1), (1, 1, 3))),
            draws.choice(DTYPES),
        )
    if choice == 1 and array.size:
        return array.reshape(-1)[: draws.randrange(array.size + 1)]
    if choice == 2 and array.size:
        return np.concatenate([array.reshape(-1)] * 2)
    if choice == 3:
        return array.T if draws.random() < 0.5 else array[..., ::-1] if array.ndim else array
    array = array.copy()
    if array.dtype.kind in "iu" and array.size:
        flat = array.reshape(-1)
        value = draws.choice(
            (*EDGES, -1, -2, int(flat[draws.randrange(flat.size)]) + draws.choice((1, -1, 512)))
        )
        value %= 1 << (8 * array.itemsize)
        flat.view(f"u{array.itemsize}")[draws.randrange(flat.size)] = value
        return flat.reshape(array.shape)
    if array.dtype.kind == "U":
        words = (
            "png",
            "txt",
            "exe",
            "",
            "x" * 300,
            "f" * 64,
            "0" * 64,
            "a\nb",
            hashlib.sha256(shard()).hexdigest(),
        )
        return np.array([draws.choice(words) for _ in range(array.size)]).reshape(array.shape)
    return array


def attempt(files: Files, folder: Path) -> str:
    """Index the shard and read every sample.

    An index stays within the shard. One that is made is the same when it has been kept and read.
    """
    laid_down(files, folder)
    path = folder / "a.tar"
    os.utime(path, ns=(TIME, TIME))
    before = files.get(KEPT)
    found = read_or_build_index(path)
    causes = _read_all(found, files["a.tar"])
    made = (folder / KEPT).read_bytes() != before
    if made:
        _same(found, read_or_build_index(path))
    return f"{'made' if made else 'kept'}, {'bad samples' if causes else 'all good'}"


def _read_all(found: ShardIndex, data: bytes) -> set[str]:
    dataset = dataset_of([found])
    causes = set()
    for number in range(dataset.num_samples):
        try:
            sample = read_sample(dataset, number)
            for kind, (offset, size) in found.parts(number).items():
                assert sample.parts[kind] == data[offset : offset + size]
            caption_of(read_record(sample.parts), CaptionConfig(), 1)
        except BadSample as bad:
            causes.add(bad.cause)
    # Each distinct file is remembered by the reader; here they are all one path, gone in a moment.
    reader._open_shard.cache_clear()
    return causes


def _same(one: ShardIndex, other: ShardIndex) -> None:
    for name, value in vars(one).items():
        again = getattr(other, name)
        same = np.array_equal(value, again) if isinstance(value, np.ndarray) else value == again
        assert same, (name, value, again)


TARGET = Target(
    name="shard_index",
    what="read_or_build_index and read_sample; parts are the bytes at their places, an index made is the one kept",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(index, sidecar, reader),
)
