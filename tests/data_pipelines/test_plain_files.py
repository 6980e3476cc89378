"""Files of others: what is none is not waited for, what is large is not read, and JSON has no traps."""

import errno
import os

import pytest

from data_pipelines import plain_files
from data_pipelines.errors import UserError
from data_pipelines.plain_files import (
    parse_plain_json,
    read_plain_json,
    refuse_links,
    require_modest_folder,
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


def test_links_in_a_folder_are_refused_and_where_it_is_asked_the_folder_too(tmp_path):
    (tmp_path / "disk" / "a").mkdir(parents=True)
    (tmp_path / "named").symlink_to(tmp_path / "disk")
    words = ("a test", "take another folder")
    refuse_links(tmp_path / "named", *words)
    refuse_links(tmp_path / "not there", *words, itself=True)
    with pytest.raises(UserError, match=r"named is a link, and a test writes.*take another folder"):
        refuse_links(tmp_path / "named", *words, itself=True)
    (tmp_path / "disk" / "a" / "b").symlink_to("gone")
    with pytest.raises(UserError, match="a/b is a link"):
        refuse_links(tmp_path / "named", *words)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_one_without_links(tmp_path, monkeypatch):
    def denied(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"cannot be searched for links \(Permission denied\)"):
        refuse_links(tmp_path, "a test", "take another folder")


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


def test_a_folder_that_a_library_reads_has_no_small_file_that_fills_the_memory(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sound.json").write_text("[" + "1234567890," * 100_000 + "1]")
    os.mkfifo(tmp_path / "pipe.json")
    require_modest_folder(tmp_path, 2**26)
    (tmp_path / "a" / "odd.json").write_text("[" + "{}," * 900_000 + "{}]")
    with pytest.raises(ValueError, match=r"odd\.json is not readable \(it has .* more than"):
        require_modest_folder(tmp_path, 2**26)


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
