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

pytestmark = pytest.mark.long

SHARE = os.environ.get("RINS_MM_HOSTILE_SHARE", "48")
"""Every so-manieth input of slow commands, and of others six times as many; 1 for all of both."""

MAX_SECONDS = 5.0
MAX_MEGABYTES = 300
KINDS = {
    "code", "json", "link", "name", "no file", "numpy", "onnx", "parquet", "pickle", "picture", "record", "results",
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
            env=environment, cwd=folder, stdout=out, stderr=errors, timeout=7200, check=False,
        )  # fmt: skip
    assert done.returncode == 0, (folder / "errors").read_text()[-3000:]
    return [json.loads(line) for line in (folder / "rows").read_text().splitlines()]


def told(row):
    costs = f"{row['seconds']} s, {row['megabytes']} MB"
    return f"{row['command']} < {row['thing']} {row['kind']}: {row['name']}: {costs}: {row['outcome'][:200]}"


def test_every_command_of_the_project_is_tried(repository: Path):
    found = set()
    for room in ("data_pipelines", "eval", "rins_mm"):
        for path in (repository / room).rglob("*.py"):
            if re.search(r'^if __name__ == "__main__":', path.read_text(), re.MULTILINE):
                found.add(".".join(path.relative_to(repository).with_suffix("").parts))
    tried = {importlib.import_module(target.module).__name__ for target in TARGETS}
    assert {name.removesuffix(".__main__") for name in found - NO_INPUTS} <= tried


def test_hostile_inputs_end_in_one_line_or_are_used_by_rule_and_cost_little(rows):
    # One test, so that several workers do not each try all of it.
    tried = [row for row in rows if row["kind"] != "sound"]
    print(Counter(row["outcome"].partition(":")[0] for row in tried))
    assert {row["kind"] for row in tried} == KINDS
    assert len({(row["kind"], row["name"]) for row in tried}) >= 400
    assert {row["command"] for row in tried} == {target.name for target in TARGETS}
    reasons = {target.name: target.refuses_sound for target in TARGETS}
    faults = {
        "sound things are taken, or refused for the stated reason": [
            told(row)
            for row in rows
            if row["kind"] == "sound"
            and not re.match(
                f"refused: .*{reason}" if (reason := reasons[row["command"]]) else "accepted$",
                row["outcome"],
            )
        ],
        "hostile ones end in one line, or are taken by rule": [
            told(row)
            for row in tried
            if not re.match("accepted$|refused: .|told: .", row["outcome"])
        ],
        "nothing runs, connects or writes elsewhere, and terminals get no commands": [
            f"{told(row)} {row['breaches'][:2]}" for row in rows if row["breaches"]
        ],
        # Of the processors, over the sound thing: what else runs on the machine is not the input's.
        "none takes long": [told(row) for row in tried if row["seconds"] >= MAX_SECONDS],
        "none takes much memory": [told(row) for row in tried if row["megabytes"] >= MAX_MEGABYTES],
    }
    assert {claim: some for claim, some in faults.items() if some} == {}
