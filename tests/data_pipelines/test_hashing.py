import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.hashing import stable_hash


def test_the_value_never_changes():
    assert stable_hash("emoji split", "1f600") == 5878083177529546863
    assert stable_hash() == stable_hash()


def test_another_process_gives_the_same_value():
    program = "from data_pipelines.hashing import stable_hash; print(stable_hash('a', 1, 'ü'))"
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ".", "PYTHONHASHSEED": "7"},
    )
    assert int(printed.stdout) == stable_hash("a", 1, "ü")


def test_borders_between_parts_count():
    assert stable_hash("a", "bc") != stable_hash("ab", "c")
    assert stable_hash("a") != stable_hash("a", "")


@given(st.lists(st.text() | st.integers(), max_size=4))
def test_any_parts_give_a_number_of_64_bits(parts):
    assert -(2**63) <= stable_hash(*parts) < 2**63
