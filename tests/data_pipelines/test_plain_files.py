"""Files of others: what is none is not waited for, what is large is not read, and JSON has no traps."""

import os

import pyarrow
import pytest
from pyarrow import parquet

from data_pipelines import plain_files
from data_pipelines.errors import UserError
from data_pipelines.plain_files import (
    parse_plain_json,
    read_plain_json,
    read_words,
    require_plain,
)
from data_pipelines.prepare import caption_tables


def test_a_plain_file_of_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    assert read_plain_json(tmp_path / "a.json") == {"a": [1, 2.5, None]}
    assert require_plain(tmp_path / "a.json") == 21


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("x"),
    ],
)
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(OSError, match=r"not a plain file|symbolic links"):
        read_plain_json(tmp_path / "x")


def test_a_file_of_more_bytes_than_may_be_is_not_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}")
    os.truncate(tmp_path / "a.json", 2**40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes, more than"):
        read_plain_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a": NaN}', "[Infinity]", '{"a": 1, "a": 2}', "1" * 10_000, "", "{"],
)
def test_texts_that_break_parsers_or_say_two_things_are_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_plain_json(text)


def test_a_table_with_a_line_without_end_is_refused_and_not_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_tables, "MAX_LINE_CHARACTERS", 40)
    table = tmp_path / "captions.jsonl"
    table.write_text('{"file": "a.png", "caption": "a cat"}\n' + "x" * 60 + "\n")
    with table.open() as file:
        lines = caption_tables._bounded_lines(file, table)
        assert next(lines).startswith('{"file"')
        with pytest.raises(UserError, match="has a line of more than 40 characters"):
            next(lines)


@pytest.mark.parametrize("text", ["[" + "{}," * 700_000 + "{}]", "[" + "[]," * 700_000 + "[]]"])
def test_a_text_of_more_parts_than_settings_have_is_not_parsed(text):
    with pytest.raises(ValueError, match=r"lists, objects, names and values, more than 2,097,152"):
        parse_plain_json(text)


def test_a_large_file_may_have_parts_in_proportion_to_its_bytes(monkeypatch):
    monkeypatch.setattr(plain_files, "MAX_PARTS", 100)
    numbers = list(range(10**6, 10**6 + 200))
    text = ",\n".join(map(str, numbers))
    with pytest.raises(ValueError, match="more than 100"):
        parse_plain_json(f"[{text}]")
    assert len(parse_plain_json(f"[{text}]", large=True)) == len(numbers)


@pytest.mark.parametrize("digits", ["1e400", "-1e400", "1" + "0" * 400])
def test_numbers_that_no_float_can_hold_are_refused(digits):
    with pytest.raises(ValueError, match="more than a number can be"):
        parse_plain_json(f'{{"a": [{digits}]}}')


def written(path, columns):
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_words_of_parquet_are_read_with_what_is_missing_and_what_stands_in_lists(tmp_path):
    columns = {"a": ["x", None, "x"], "b": [["u", "v"], None, []], "c": [1, 2, 3]}
    rows = list(read_words(written(tmp_path / "a.parquet", columns), ["b", "a"], lists=["b"]))
    assert rows == [{"b": ["u", "v"], "a": "x"}, {"b": None, "a": None}, {"b": [], "a": "x"}]


NO_WORDS = {
    "one long word in every row": ({"a": ["x" * 10**6] * 200}, "a would unpack to more than"),
    "rows of nothing": ({"a": pyarrow.nulls(10**6, pyarrow.string())}, "1,000,000 rows in"),
    "lists without end": ({"a": [["x"] * 10**6]}, "1,000,000 values of the column a"),
    "a far day": ({"a": pyarrow.array([2**30], pyarrow.date32())}, "type date32"),
    "another column": ({"b": ["x"]}, "no columns with the name 'a'"),
}


@pytest.mark.parametrize(("columns", "said"), NO_WORDS.values(), ids=NO_WORDS)
def test_parquet_that_would_unpack_without_end_or_has_no_words_is_refused(tmp_path, columns, said):
    with pytest.raises(ValueError, match=said):
        list(read_words(written(tmp_path / "a.parquet", columns), ["a"], lists=["a"]))


def test_a_column_of_parquet_that_stands_there_twice_is_refused(tmp_path):
    table = pyarrow.table([["x"], ["y"]], names=["a", "a"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="2 columns with the name 'a'"):
        list(read_words(tmp_path / "a.parquet", ["a"]))


def test_a_csv_table_with_two_columns_of_one_name_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("file,caption,file\na,b,c\n")
    with pytest.raises(UserError, match="two columns with the name 'file'"):
        list(caption_tables.read_rows(tmp_path / "a.csv", caption_tables.Columns()))


def test_a_row_of_csv_over_lines_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_tables, "MAX_ROW_CHARACTERS", 100)
    (tmp_path / "a.csv").write_text("file,caption\na,b\n" * 20 + '"a\n",' * 40)
    with pytest.raises(UserError, match="row of more than 100 characters"):
        list(caption_tables.read_rows(tmp_path / "a.csv", caption_tables.Columns()))


def test_a_line_of_captions_that_says_two_things_is_a_broken_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"file": "a", "caption": "b", "file": "c"}\n')
    (row,) = caption_tables.read_rows(tmp_path / "a.jsonl", caption_tables.Columns())
    assert row.broken == "bad json line"
