"""Words from outside on the terminal."""

import pytest

from data_pipelines.errors import UserError, run_command
from data_pipelines.words import tell


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
