"""Hostile inputs end in a cause, at once and in little memory, and leave nothing behind."""

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

pytestmark = pytest.mark.slow

MAX_SECONDS = 1.0
MAX_MEGABYTES = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def results(folder):
    """What came of each input of the corpus, tried in processes of their own without torch."""
    repository = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    for name in ("work", "home", "temporary"):
        (folder / name).mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": repository,
        "PYTHONDONTWRITEBYTECODE": "1",
        "RINS_MM_CACHE": str(folder / "cache"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
    }
    child = os.path.join(repository, "tests", "helpers", "hostile_child.py")
    finished = subprocess.run(
        [sys.executable, child, str(folder / "work")],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-2000:]
    return [json.loads(line) for line in finished.stdout.splitlines()]


def told(result):
    return f"{result['kind']}: {result['name']}: {result['outcome'][:200]}"


def test_the_corpus_is_large_and_of_all_kinds(results):
    counts = Counter(result["kind"] for result in results)
    assert set(counts) == {"tar", "picture", "record", "spec", "sidecar", "tokenizer"}
    assert min(counts.values()) >= 15
    assert counts.total() >= 200
    assert len({(result["kind"], result["name"]) for result in results}) == counts.total()


def test_every_hostile_input_ends_in_its_cause_or_by_a_stated_rule(results):
    for result in results:
        print(f"{result['seconds']:6.3f} s {result['megabytes']:5.1f} MB  {told(result)}")
    assert [told(r) for r in results if not re.match(r["expected"], r["outcome"])] == []


def test_what_is_said_of_a_hostile_input_fits_on_one_line(results):
    assert [told(r) for r in results if "\n" in r["outcome"]] == []


def test_no_hostile_input_costs_a_second(results):
    # Of its own work: what else runs on the machine is not the reader's. Waiting without end would
    # have been ended from outside, and is no cause.
    assert [told(r) for r in results if r["working_seconds"] >= MAX_SECONDS] == []


def test_no_hostile_input_takes_much_memory(results):
    assert [told(r) for r in results if r["megabytes"] >= MAX_MEGABYTES] == []


def test_no_hostile_input_runs_a_command_or_writes_elsewhere(results, folder):
    assert [told(r) + str(r["breaches"]) for r in results if r["breaches"]] == []
    assert sorted(path.name for path in folder.iterdir()) in (
        ["cache", "home", "temporary", "work"],
        ["home", "temporary", "work"],
    )
    assert not any((folder / "home").iterdir())
    assert not any((folder / "temporary").iterdir())
    assert [str(path) for path in folder.rglob("*canary*")] == []
    given = {"a.tar", "input", "good.tar", "fifo.tar", "link.tar", "tokenizer.json"}
    written = {"a.tar.index.npz", "tokenizer.model"}
    names = {path.name for path in (folder / "work").glob("*/*")}
    assert names <= given | written
