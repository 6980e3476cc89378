"""Index folders that somebody has made to do harm, or a disk has damaged: one line each, and nothing run."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from toy_index import row, unit_rows, write_index

from data_pipelines.errors import UserError
from rins_mm.index.layout import (
    MAX_PICTURES_PER_SHARD,
    metadata_path,
    vectors_path,
    write_removed,
)
from rins_mm.index.opened import open_index
from rins_mm.index.search import search
from rins_mm.index.shards import read_metadata, write_metadata, write_vectors
from rins_mm.index.unfinished import FIRST_SHARD, begin_or_go_on, read_left_out
from rins_mm.index.verify import verify


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 vectors of 8 numbers in two shards."""
    return write_index(tmp_path / "index", unit_rows(40, 8))


class Trap:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("unpickled",)


def objects(folder: Path) -> None:
    array = np.empty(29, dtype=object)
    array[:] = Trap()
    np.save(vectors_path(folder, 0), array, allow_pickle=True)


def header(shape: str, descr: str = "'<f2'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def vectors_of(data: bytes) -> Callable[[Path], None]:
    return lambda folder: vectors_path(folder, 0).write_bytes(data)


def changed(**new: object) -> Callable[[Path], None]:
    """index.json with other values; of a path such as shards__0__num_pictures, of that one."""

    def change(folder: Path) -> None:
        data = json.loads((folder / "index.json").read_text())
        for name, value in new.items():
            *way, last = [int(part) if part.isdigit() else part for part in name.split("__")]
            place = data
            for step in way:
                place = place[step]
            place[last] = value
        (folder / "index.json").write_text(json.dumps(data))

    return change


def table(columns: dict[str, object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        pyarrow.parquet.write_table(pyarrow.table(columns), metadata_path(folder, 0))

    return write


def rows(count: int, first: int = 0) -> Callable[[Path], None]:
    made = [row(first + n) for n in range(count)]
    return lambda folder: write_metadata(metadata_path(folder, 0), made) and None


def numbered(numbers: list[int]) -> Callable[[Path], None]:
    """The first shard has pictures of these numbers, by index.json too."""

    def write(folder: Path) -> None:
        made = [row(number, width=1) for number in numbers]
        write_vectors(vectors_path(folder, 0), unit_rows(len(made), 8).astype(np.float16))
        write_metadata(metadata_path(folder, 0), made)
        changed(shards__0__num_pictures=len(made))(folder)

    return write


def replaced(path: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / path).unlink()
        make(folder / path)

    return replace


def sparse(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 2**40)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GOOD = b"\0\0" * 29 * 8
CASES = {
    "objects": (objects, "00000.npy is damaged"),
    "a shape that is not there": (vectors_of(header("(10000000000000, 8)")), "it holds float16 of"),
    "a shape without its numbers": (vectors_of(header("(29, 8)") + GOOD[:-2]), "bytes of numbers"),
    "float64": (vectors_of(header("(29, 8)", "'<f8'") + GOOD), "it holds float64"),
    "big-endian": (vectors_of(header("(29, 8)", "'>f2'") + GOOD), "it holds >f2"),
    "code in the header": (
        vectors_of(header("(__import__('os').mkdir('unpickled'), 8)")), "00000.npy is damaged",
    ),
    "a header that stops inside of a string": (vectors_of(header("(29, """)), "00000.npy is damaged"),
    "no header": (vectors_of(b"\0" * 500), "00000.npy is damaged"),
    "an empty file": (vectors_of(b""), "00000.npy is damaged"),
    "a later version": (vectors_of(b"\x93NUMPY\x02\x00" + bytes(64)), "it is of version"),
    "too much": (vectors_of(header("(29, 8)") + GOOD + bytes(9000)), "bytes, more than"),
    "a pipe": (replaced("vectors/00000.npy", os.mkfifo), "it is not a file"),
    "a folder": (replaced("metadata/00000.parquet", Path.mkdir), "it is not a file"),
    "a device": (
        replaced("vectors/00000.npy", lambda path: path.symlink_to("/dev/zero")), "it is not a file",
    ),
    "nothing": (replaced("vectors/00000.npy", lambda path: None), "No such file"),
    "too few rows": (rows(28), "it has 28 rows for 29 pictures"),
    "too many rows": (rows(30), "it has 30 rows for 29 pictures"),
    "numbers of another shard": (rows(29, first=20), "are not in order, or not those"),
    "numbers so far apart that no difference holds them": (
        numbered([2**62, -(2**63), -(2**62), -1]), "are not in order, or not those",
    ),
    "numbers below those of the shard": (numbered([-1, 0, 1, 2]), "are not in order, or not those"),
    "a number twice": (numbered([0, 1, 1, 2]), "are not in order, or not those"),
    "other columns": (table({"number": list(range(29))}), "its columns are"),
    "no Parquet": (lambda folder: metadata_path(folder, 0).write_bytes(b"PAR1PAR1"), "is damaged"),
    "no JSON": (lambda folder: (folder / "index.json").write_text("{"), "it is no JSON"),
    "deep JSON": (lambda folder: (folder / "index.json").write_text("[" * 10**6), "it is no JSON"),
    "a list": (lambda folder: (folder / "index.json").write_text("[]"), "it holds no object"),
    "another format": (changed(format_version=99), "format_version 99"),
    "another dtype": (changed(dtype="object"), "dtype 'object'"),
    "a path instead of a hash": (changed(shards__0__vectors_sha256=["../../x"]), "vectors_sha256 is"),
    "paths": (changed(shards__0__path="../../../etc/passwd"), "no field named path"),
    "more numbers than the shard has": (changed(shards__0__num_pictures=33), "numbers that do not fit"),
    "a shard without end": (
        changed(pictures_per_shard=10**18, shards__1__num_numbers=10**18), "pictures_per_shard is",
    ),
    "fewer numbers": (changed(sources__0__num_numbers=3), "the shards hold"),
    "a width without end": (changed(width=10**15), "width is"),
    "true for a number": (changed(width=True), "width is True"),
    "true for the format": (changed(format_version=True), "format_version True"),
    "no sources": (changed(sources=[]), "there are no sources"),
    "causes of any kind": (changed(left_out={"x": "y"}), "other than counts"),
    "removed words": (
        lambda folder: (folder / "removed.json").write_text('{"numbers": ["../x"]}'), "removed.json is",
    ),
    "removed in another format": (
        lambda folder: (folder / "removed.json").write_text('{"format_version": 99, "numbers": [1]}'),
        "removed.json has format_version 99",
    ),
    "removed in the format true": (
        lambda folder: (folder / "removed.json").write_text('{"format_version": true, "numbers": [1]}'),
        "removed.json has format_version True",
    ),
    "removed fractions": (
        lambda folder: (folder / "removed.json").write_text('{"numbers": [1e400]}'), "removed.json is",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_is_one_line_that_names_the_file(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    spoil, words = CASES[name]
    spoil(folder)
    with pytest.raises(UserError) as caught:
        open_index(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert not (tmp_path / "unpickled").exists()


def test_numbers_that_are_none_are_found_when_they_are_searched(folder):
    data = bytearray(vectors_path(folder, 1).read_bytes())
    data[-2:] = b"\x00\x7e"
    vectors_path(folder, 1).write_bytes(data)
    with pytest.raises(
        UserError, match=r"00001\.npy is damaged: it has numbers that are not finite"
    ):
        search(open_index(folder), torch.from_numpy(unit_rows(1, 8)), 1)


def test_verify_finds_a_single_bit_and_what_does_not_fit_together(folder):
    index = open_index(folder)
    (folder / "left_out.jsonl").write_text(
        "".join(
            json.dumps({"number": n, "name": "x", "cause": "made up"}) + "\n"
            for n in (9, 19, 29, 39)
        )
    )
    assert verify(index) == []
    path = vectors_path(folder, 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x10
    path.write_bytes(data)
    (folder / "removed.json").write_text('{"numbers": [9, 3]}')
    found = verify(open_index(folder))
    assert len(found) == 3
    assert "SHA-256 is not the one" in found[0]
    assert "1 vectors that are not of length 1" in found[1]
    assert "1 numbers that no picture has" in found[2]


def test_pictures_at_an_address_are_fetched_only_when_the_user_names_it(folder):
    changed(sources__0__pictures="http://127.0.0.1:9/{000..003}.tar")(folder)
    with pytest.raises(UserError, match="name them yourself, with --pictures"):
        open_index(folder).picture(0)


def test_the_largest_shard_that_may_be_claimed_is_bounded():
    assert MAX_PICTURES_PER_SHARD * 65_536 * 2 < 2**40


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), sparse]
)
def test_a_list_of_what_was_left_out_that_is_no_bounded_file_is_not_read(folder, make):
    make(folder / "left_out.jsonl")
    with pytest.raises(
        UserError, match=r"left_out\.jsonl is damaged: it (is not a file|has .* bytes)"
    ):
        read_left_out(folder)
    assert any("left_out.jsonl is damaged" in line for line in verify(open_index(folder)))


LINKS = ["vectors", "metadata", "accelerators", ".unfinished", ".unfinished/lock", "removed.json"]


@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_written_or_removed_through_links_in_an_index(folder, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    if (folder / name).exists():
        (folder / name).rename(elsewhere)
    elif "." not in name:
        elsewhere.mkdir()
        (elsewhere / ".mine.tmp").write_text("precious")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(elsewhere)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"{name} is a link"):
        begin_or_go_on(folder, {FIRST_SHARD: 2}, [2], overwrite=False)
    with pytest.raises(UserError, match=f"{name} is a link"):
        write_removed(folder, [3])
    assert contents(tmp_path) == before


def test_an_index_whose_folder_the_user_has_linked_is_written_to(folder, tmp_path):
    (tmp_path / "named").symlink_to(folder)
    begin_or_go_on(tmp_path / "named", {FIRST_SHARD: 2}, [2], overwrite=False).close()
    write_removed(tmp_path / "named", [3])
    assert open_index(tmp_path / "named").num_pictures == 39


def test_a_pipe_in_place_of_the_lock_is_refused(folder):
    (folder / ".unfinished").mkdir()
    os.mkfifo(folder / ".unfinished" / "lock")
    with pytest.raises(UserError, match="lock is damaged: it is not a file"):
        begin_or_go_on(folder, {FIRST_SHARD: 2}, [2], overwrite=False)


def test_one_long_word_in_every_row_is_not_written_out(tmp_path: Path) -> None:
    path = metadata_path(tmp_path, 0)
    write_metadata(path, [replace(row(n), caption="x" * 1_000_000) for n in range(80)])
    with pytest.raises(UserError, match="its metadata would unpack to more than"):
        read_metadata(path, 80)
