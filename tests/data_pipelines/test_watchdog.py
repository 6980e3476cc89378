"""A stalled loader says where it stands."""

import subprocess
import sys

import pytest

STALLED = """
import time
from data_pipelines.watchdog import telling_when_stuck

def a_disk_that_does_not_answer():
    time.sleep(1.0)

with telling_when_stuck({seconds}, ["a.tar:one", "a.tar:two"]):
    a_disk_that_does_not_answer()
print("it went on")
"""


@pytest.mark.parametrize("seconds", [0.2, 30, 0])
def test_a_long_wait_prints_stacks_and_last_keys_once_and_goes_on(seconds, repository):
    done = subprocess.run(
        [sys.executable, "-c", STALLED.format(seconds=seconds)],
        cwd=repository, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "it went on\n"
    stuck = seconds == 0.2
    assert ("no batch for 0.2 s" in done.stderr) == stuck
    assert ("a.tar:one, a.tar:two" in done.stderr) == stuck
    assert ("a_disk_that_does_not_answer" in done.stderr) == stuck
