"""Blocks are compiled once, whatever runs: signatures, numbers of captions, their lengths."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_two_hundred_stochastic_steps_compile_nothing_after_the_first_and_give_eager_gradients(
    repository,
):
    ended = subprocess.run(
        [sys.executable, str(repository / "tests" / "helpers" / "compiled_steps.py"), "200"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "200 steps, nothing compiled after the first" in ended.stdout
