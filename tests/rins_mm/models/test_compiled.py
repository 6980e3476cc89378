"""Blocks are compiled once, whatever runs: signatures, numbers of captions, their lengths."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        pytest.param("none", "200", marks=pytest.mark.slow),
        pytest.param("linear", "30", marks=pytest.mark.long),
        pytest.param("lora", "30", marks=pytest.mark.long),
        pytest.param("latent", "30", marks=pytest.mark.long),
    ],
)
def test_stochastic_steps_compile_nothing_once_each_round_was_seen_and_give_eager_gradients(
    repository, kind, steps
):
    ended = subprocess.run(
        [sys.executable, str(repository / "tests" / "helpers" / "compiled_steps.py"), steps, kind],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert f"{steps} steps, nothing compiled after the first" in ended.stdout
