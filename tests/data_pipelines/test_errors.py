import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import MAX_CHARACTERS, UserError


@given(st.text() | st.text(alphabet="\n\r\x1b\u202e\ud800 a"), st.integers(0, 3000))
def test_a_mistake_is_told_in_one_printable_line_that_ends_in_its_mend(value, times):
    told = str(UserError(f"the name is {value * times}; choose another"))
    assert told.isprintable() and len(told) <= MAX_CHARACTERS
    assert told.startswith("the name is ") and told.endswith("; choose another")


@pytest.mark.parametrize("line", ["plain", "ein Apfel, \N{SNOWMAN}", "x" * MAX_CHARACTERS])
def test_what_is_one_printable_line_already_stays_as_it_is(line):
    assert str(UserError(line)) == line


def test_what_a_terminal_would_obey_is_shown_as_an_escape():
    told = str(UserError("the key is \x1b[2J\n\u202e\udcff"))
    assert told == r"the key is \x1b[2J\n\u202e\udcff"
    assert re.fullmatch(r"[ -~]+", told)
