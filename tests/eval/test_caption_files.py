"""Records in other people's JSON: what is read, and what is refused in one line."""

import pytest

from data_pipelines.errors import UserError
from eval import caption_files
from eval.caption_files import field_of, read_caption_lines, read_captions


def test_fields_that_nobody_needs_are_dropped_at_every_depth(tmp_path):
    (tmp_path / "a.json").write_text('[{"tokens": [1], "raw": {"tokens": 2, "b": 3}}]')
    assert read_captions(tmp_path / "a.json", frozenset({"tokens"})) == [{"raw": {"b": 3}}]


def test_lines_are_objects_and_are_named_where_they_are_not(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "\\u2028"}\r\n')
    assert list(read_caption_lines(path)) == [
        (f"{path}, line 1", {"a": 1}),
        (f"{path}, line 3", {"a": "\u2028"}),
    ]
    path.write_text('{"a": 1}\n[2]')
    with pytest.raises(UserError, match=r"line 2 is \[2\], not an object"):
        list(read_caption_lines(path))
    monkeypatch.setattr(caption_files, "MAX_LINE_CHARACTERS", 5)
    with pytest.raises(UserError, match="line 1 has 8 characters"):
        list(read_caption_lines(path))


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
