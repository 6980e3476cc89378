"""Every hostile input through every command and public loader that takes such a thing: refused in a line, or used."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hostile_targets import TARGETS

pytestmark = [pytest.mark.long, pytest.mark.matrix]

SHARE = os.environ.get("RINS_MM_HOSTILE_SHARE", "24")
"""Every so-manieth input of slow commands, and every fourth of others; 1 for all of both."""

MAX_SECONDS = 5.0
MAX_MEGABYTES = 300
KINDS = {
    "code", "json", "name", "no file", "numpy", "onnx", "parquet", "pickle", "picture", "record", "results",
    "safetensors", "sentencepiece", "settings", "sidecar", "spec", "tar", "tokenizer", "words",
}  # fmt: skip
NO_INPUTS = {
    # It prints the names of the tools.
    "data_pipelines.__main__",
    # Children of this project with limits, tried through the commands that start them.
    "rins_mm.export.consumers.run", "rins_mm.weights.torch_file_child",
    # It takes a signature, which the tests of signatures try.
    "rins_mm.models.recursion",
    # It does not return: what it opens before it listens is tried as a loader.
    "rins_mm.serve.__main__",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory, repository):
    """A row for each trial: of every command some inputs, others for each."""
    folder = tmp_path_factory.mktemp("hostile")
    child = repository / "tests" / "helpers" / "hostile_session.py"
    environment = {**os.environ, "PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "rows").open("w") as out, (folder / "errors").open("w") as errors:
        done = subprocess.run(
            [sys.executable, str(child), str(folder / "work"), "--share", SHARE],
            env=environment, cwd=folder, stdout=out, stderr=errors, timeout=3000, check=False,
        )  # fmt: skip
    assert done.returncode == 0, (folder / "errors").read_text()[-3000:]
    return [json.loads(line) for line in (folder / "rows").read_text().splitlines()]


def told(row):
    return f"{row['command']} < {row['thing']} {row['kind']}: {row['name']}: {row['outcome'][:200]}"


def hostile(rows):
    return [row for row in rows if row["kind"] != "sound"]


def test_every_command_of_the_project_is_tried(repository: Path):
    found = set()
    for room in ("data_pipelines", "eval", "rins_mm"):
        for path in (repository / room).rglob("*.py"):
            if re.search(r'^if __name__ == "__main__":', path.read_text(), re.MULTILINE):
                found.add(".".join(path.relative_to(repository).with_suffix("").parts))
    tried = {importlib.import_module(target.module).__name__ for target in TARGETS}
    assert {name.removesuffix(".__main__") for name in found - NO_INPUTS} <= tried


def test_the_matrix_is_large_and_of_all_kinds(rows):
    inputs = {(row["thing"], row["kind"], row["name"]) for row in hostile(rows)}
    assert {kind for _, kind, _ in inputs} == KINDS
    assert len({(kind, name) for _, kind, name in inputs}) >= 400
    assert {row["command"] for row in hostile(rows)} == {target.name for target in TARGETS}


def test_sound_things_are_taken_or_refused_for_the_stated_reason(rows):
    reasons = {target.name: target.refuses_sound for target in TARGETS}
    for row in rows:
        if row["kind"] == "sound":
            expected = reasons[row["command"]]
            said = f"refused: .*{expected}" if expected else "accepted$"
            assert re.match(said, row["outcome"]), told(row)


def test_every_hostile_input_is_refused_in_one_line_or_taken_by_rule(rows):
    fine = re.compile("accepted$|refused: .|told: .")
    print(Counter(row["outcome"].partition(":")[0] for row in rows))
    assert [told(row) for row in hostile(rows) if not fine.match(row["outcome"])] == []


def test_nothing_runs_connects_or_writes_elsewhere_and_terminals_get_no_commands(rows):
    assert [told(row) + str(row["breaches"][:2]) for row in rows if row["breaches"]] == []


def test_no_hostile_input_takes_long(rows):
    # Of the processors, over the sound thing: what else runs on the machine is not the input's.
    assert [told(row) for row in hostile(rows) if row["seconds"] >= MAX_SECONDS] == []


def test_no_hostile_input_takes_much_memory(rows):
    assert [told(row) for row in hostile(rows) if row["megabytes"] >= MAX_MEGABYTES] == []
