"""Text files of other people's data are bounded, and their mistakes are named by line."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from eval.outside_files import named_path, read_json, read_lines, read_string_table


def written(tmp_path, content: bytes):
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def test_lines_lose_what_stands_around_them_and_the_empty_ones_at_the_end(tmp_path):
    path = written(tmp_path, b"\xef\xbb\xbf red fox \r\nkit fox\n\n\n")
    assert read_lines(path, "names") == ["red fox", "kit fox"]


@given(names=st.lists(st.text(st.characters(codec="utf-8")).filter(str.strip), min_size=1))
def test_line_n_is_item_n_whatever_else_unicode_calls_the_end_of_a_line(tmp_path_factory, names):
    names = [" ".join(name.split()) for name in names]
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_text("\n".join(["first", *names]), encoding="utf-8", newline="")
    assert read_lines(path, "names") == ["first", *names]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"one\n\nthree\n", "line 2 of .* is empty"),
        (b"caf\xe9", "not UTF-8 .byte 3"),
    ],
)
def test_lines_that_cannot_be_numbered_or_read_are_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_lines(written(tmp_path, content), "names")


def test_a_file_that_is_too_large_absent_or_a_pipe_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match=r"has 30 bytes, and 20 is the limit"):
        read_json(written(tmp_path, b" " * 30), "labels", max_bytes=20)
    with pytest.raises(UserError, match="No such file"):
        read_lines(tmp_path / "absent", "names")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="no regular file"):
        read_lines(tmp_path / "pipe", "names")


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"[NaN]", b"[1, Infinity]", b'{"a": 1, "a": 2}', b'[{"b": {"a": 1, "a": 1}}]',
        b"[" * 100_000, b"9" * 5000, b"nothing",
    ],
)  # fmt: skip
def test_json_is_strict(tmp_path, content):
    with pytest.raises(UserError, match="is not JSON as it should be"):
        read_json(written(tmp_path, content), "labels")


@pytest.mark.parametrize("content", [b"[]", b'{"a": 1}', b'"a"'])
def test_a_table_of_texts_holds_texts(tmp_path, content):
    with pytest.raises(UserError, match="no table of texts"):
        read_string_table(written(tmp_path, content), "labels")


def test_a_relative_path_in_a_name_lies_below_data_where_that_has_it(tmp_path, monkeypatch):
    (tmp_path / "data" / "set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert named_path("set", tmp_path / "data") == tmp_path / "data" / "set"
    assert str(named_path("data/set", tmp_path / "data")) == "data/set"
    assert str(named_path("set", None)) == "set"
    assert str(named_path("/set", tmp_path / "data")) == "/set"
