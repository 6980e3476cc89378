"""Files that are whole or not there."""

import os

import pytest

from data_pipelines.errors import UserError
from data_pipelines.whole_files import write_whole


def test_a_file_is_whole_and_replaces_another_only_when_it_is_asked_to(tmp_path):
    write_whole(tmp_path / "new" / "a.json", "1", overwrite=False)
    with pytest.raises(UserError, match="give --overwrite"):
        write_whole(tmp_path / "new" / "a.json", "2", overwrite=False)
    write_whole(tmp_path / "new" / "a.json", "3", overwrite=True)
    assert (tmp_path / "new" / "a.json").read_text() == "3"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_nothing_is_written_through_a_link_that_lies_where_the_unfinished_file_will(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("somebody else's")
    (tmp_path / f".a.json.{os.getpid()}.tmp").symlink_to(elsewhere)
    write_whole(tmp_path / "a.json", "1", overwrite=False)
    assert elsewhere.read_text() == "somebody else's"
    assert (tmp_path / "a.json").read_text() == "1"
    assert not (tmp_path / "a.json").is_symlink()
