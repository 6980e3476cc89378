"""Words from outside on the terminal."""

import numpy as np
import pytest
from hostile_tars import sample
from rich.console import Console

from data_pipelines import index, progress
from data_pipelines.errors import UserError, run_command
from data_pipelines.index import read_or_build_index
from data_pipelines.words import cell, shown, tell
from eval.report import page_templates


def test_a_terminals_own_commands_in_a_message_are_not_given_to_the_terminal(capsys):
    def mistaken(argv):
        raise UserError("there is no shard \x1b]0;owned\x07\u202egnp.tar; name another")

    with pytest.raises(SystemExit):
        run_command(mistaken)
    assert capsys.readouterr().err == (
        "error: there is no shard \\x1b]0;owned\\x07\\u202egnp.tar; name another\n"
    )


def test_nor_are_those_in_the_name_of_a_folder_that_a_line_tells(capsys):
    tell("going on with a\x1b]0;owned\x07\u202enur/\n")
    assert capsys.readouterr().err == "going on with a\ufffd]0;owned\ufffd\ufffdnur/\ufffd\n"


def test_what_rich_prints_of_words_from_outside_is_neither_markup_nor_a_command(capsys):
    Console().print(cell("[link=http://evil]a[/link]\x1b[2J\u202eb\nc"))
    assert capsys.readouterr().out == ("[link=http://evil]a[/link]\ufffd[2J\ufffdb\ufffdc\n")


def test_nor_is_the_label_of_a_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(progress.with_progress([1], total=1, label="[/]a\x1b[2J\nerror: b")) == [1]
    assert capsys.readouterr().err == "[/]a\ufffd[2J\ufffderror: b: 0 of 1\n"


def test_a_bar_takes_its_label_for_no_markup():
    assert list(progress._with_bar([1], 1, "[/] and [link=http://evil]x[/link]")) == [1]


def test_pages_keep_the_line_breaks_of_words_and_nothing_that_turns_them_around():
    assert shown("a\n\tb\x1b\u202ec") == "a\n\tb\ufffd\ufffdc"
    template = page_templates().from_string("{{ words }} {{ 1.5 }} {{ '<' }}")
    assert template.render(words="a\u202e<b>") == "a\ufffd&lt;b&gt; 1.5 &lt;"


def test_the_table_of_an_index_that_fits_its_shard_and_lies_obeys_nobody(tmp_path, capsys):
    (tmp_path / "a.tar").write_bytes(sample() + bytes(1024))
    read_or_build_index(tmp_path / "a.tar")
    kept = tmp_path / "a.tar.index.npz"
    with np.load(kept) as arrays:
        told = dict(arrays)
    told |= {
        "skipped_causes": np.array(["x\x1b]0;owned\x07\n\u202e"]),
        "skipped_counts": np.ones(1, int),
    }
    np.savez(kept, **told)
    index.main([str(tmp_path / "a.tar")])
    printed = capsys.readouterr().out
    assert "]0;owned" in printed
    assert not set("\x1b\x07\u202e") & set(printed)
