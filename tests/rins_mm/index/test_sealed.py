"""Sealed files: read again by their own user, and of anybody else's nothing is believed or kept in memory."""

import os
import tracemalloc
from pathlib import Path

import pytest

from rins_mm.index.sealed import read_sealed, write_sealed

DATA = b"data of\n two lines"


@pytest.fixture
def sealed(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    write_sealed(tmp_path / "a.bin", "vectors", {"effort": 8}, DATA)
    return tmp_path / "a.bin"


def test_what_was_sealed_is_read_again_and_only_for_what_it_was_made_of(sealed, capsys):
    assert read_sealed(sealed, "vectors") == ({"effort": 8}, DATA)
    assert capsys.readouterr().err == ""
    assert read_sealed(sealed, "others") == (None, b"")
    assert "was made of other vectors" in capsys.readouterr().err


@pytest.mark.parametrize("length", [0, 10, 17, 40, 81, 82, -1])
def test_a_file_that_is_cut_short_is_not_believed(sealed, length, capsys):
    sealed.write_bytes(sealed.read_bytes()[:length])
    assert read_sealed(sealed, "vectors") == (None, b"")
    assert capsys.readouterr().err.count("is made anew") == 1


def test_a_seal_that_is_no_text_is_not_believed(sealed, capsys):
    data = bytearray(sealed.read_bytes())
    data[17:19] = "é".encode()
    sealed.write_bytes(data)
    assert read_sealed(sealed, "vectors") == (None, b"")
    assert "was not made by this user's programs" in capsys.readouterr().err


@pytest.mark.parametrize("head", [b"", b"rins_mm sealed 1\n" + b"0" * 64 + b"\n{}\n"])
def test_a_large_file_without_a_right_seal_is_not_taken_into_memory(sealed, head, capsys):
    sealed.write_bytes(head)
    os.truncate(sealed, 100 * 2**20)
    tracemalloc.start()
    try:
        assert read_sealed(sealed, "vectors") == (None, b"")
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
    assert "is made anew" in capsys.readouterr().err
