"""The fuzzer finds what is planted, and a short search finds nothing in any reader."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
TARGETS = 9
SEED = 20261122


def fuzz(out: Path, *arguments: str) -> tuple[int, dict, str]:
    """Exit code, records by target, and all that was printed."""
    ended = subprocess.run(
        [sys.executable, str(HERE), *arguments, "--seed", str(SEED), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    return ended.returncode, json.loads(out.read_text()), ended.stdout + ended.stderr


def test_planted_faults_are_found_each_by_its_kind_and_kept_as_inputs(tmp_path):
    kept = tmp_path / "kept"
    code, records, printed = fuzz(
        tmp_path / "fuzz.json",
        "planted",
        "--minutes",
        "0.05",
        "--least",
        "1000",
        "--findings",
        str(kept),
    )
    assert code == 1
    found = set(records["planted"]["findings"])
    assert {kind.split()[0].rstrip(":") for kind in found} >= {
        "ESCAPED",
        "breach",
        "crash",
    }
    assert any(
        kind.startswith("ESCAPED KeyError at tests/fuzz/target_planted.py") for kind in found
    )
    assert any("SIGABRT" in kind for kind in found)
    (crashing,) = (path for path in kept.iterdir() if "SIGABRT" in (path / "WHAT").read_text())
    data = (crashing / "input").read_bytes()
    assert data[:1].isalpha() and data[0] % 6 == 2 and len(data) > 4, printed


def test_ten_seconds_of_each_reader_find_nothing(tmp_path):
    # A short search on a machine with much else to do still gets to try something.
    code, records, printed = fuzz(
        tmp_path / "fuzz.json", "all", "--minutes", "0.17", "--least", "30"
    )
    assert code == 0, printed
    assert len(records) == TARGETS
    assert all(record["executions"] >= 30 for record in records.values()), printed
