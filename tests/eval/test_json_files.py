"""Other people's JSON: what is read, and what is refused in one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from eval import json_files
from eval.json_files import field_of, read_json, read_json_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(value=VALUES)
def test_what_json_can_say_is_read_as_it_was_written(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == value


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "an object has a name twice"),
        (b'{"a": 1', "Expecting"),
        (b'{"a": "\xff"}', "utf-8"),
        (b"[" * 100_000, "RecursionError|recursion"),
        (b"9" * 5000, "digits"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line_with_its_file(tmp_path, content, complaint):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files_that_are_not_there_or_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="is a folder"):
        read_json(tmp_path)
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    monkeypatch.setattr(json_files, "MAX_BYTES", 8)
    with pytest.raises(UserError, match="has 9 bytes; 8 is the limit"):
        read_json(tmp_path / "a.json")


def test_fields_that_nobody_needs_are_dropped_at_every_depth(tmp_path):
    (tmp_path / "a.json").write_text('[{"tokens": [1], "raw": {"tokens": 2, "b": 3}}]')
    assert read_json(tmp_path / "a.json", frozenset({"tokens"})) == [{"raw": {"b": 3}}]


def test_lines_are_objects_and_are_named_where_they_are_not(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "\\u2028"}\r\n')
    assert list(read_json_lines(path)) == [
        (f"{path}, line 1", {"a": 1}),
        (f"{path}, line 3", {"a": "\u2028"}),
    ]
    path.write_text('{"a": 1}\n[2]')
    with pytest.raises(UserError, match=r"line 2 is \[2\], not an object"):
        list(read_json_lines(path))
    monkeypatch.setattr(json_files, "MAX_LINE_BYTES", 5)
    with pytest.raises(UserError, match="line 1 has 8 bytes"):
        list(read_json_lines(path))


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"b": 1}, "'a' is missing, not an integer"),
        ({"a": True}, "'a' is true, not an integer"),
        ({"a": "x" * 999}, "'a' is .{60}…, not an integer"),
        (["a"], r"is \[\"a\"\], not an object"),
    ],
)
def test_a_field_of_another_kind_is_shown(record, complaint):
    assert field_of({"a": 5}, "a", int, "here") == 5
    with pytest.raises(UserError, match=f"^here.*{complaint}"):
        field_of(record, "a", int, "here")
