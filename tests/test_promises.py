"""The tests, files and commands that the pages name as proof are there."""

import ast
import re
from pathlib import Path

import pytest

PAGES = ("SECURITY.md", "docs/promises.md")


def names_of_tests(path: Path) -> set[str]:
    """Names of a file's tests, without importing it."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named_in(text: str) -> set[str]:
    """Files and tests, in the code spans of a page."""
    spans = re.findall(r"`([^`\n]+)`", text)
    rooms = "tests|docs|data_pipelines|eval|rins_mm|configs|benchmarks"
    return {s for s in spans if re.fullmatch(rf"(?:{rooms})/[\w./-]+(?:::\w+)?|pyproject\.toml", s)}


def missing(named: set[str], repository: Path) -> list[str]:
    """Those that are not there."""
    gone = []
    for name in sorted(named):
        path, _, test = name.partition("::")
        if not (repository / path).exists() or (
            test and test not in names_of_tests(repository / path)
        ):
            gone.append(name)
    return gone


@pytest.mark.parametrize("page", PAGES)
def test_every_module_and_every_test_that_a_page_names_is_there(
    page: str, repository: Path
) -> None:
    named = named_in((repository / page).read_text())
    assert len([name for name in named if name.startswith("tests/")]) > 15
    assert missing(named, repository) == []


def test_a_test_that_was_renamed_would_be_missed(repository: Path) -> None:
    own = "tests/test_promises.py"
    named = named_in(
        f"`{own}::test_that_was_renamed` and `{own}` and `{own}::{names_of_tests(Path(__file__)).pop()}`"
    )
    assert missing(named | {"docs/nowhere.md"}, repository) == [
        "docs/nowhere.md",
        f"{own}::test_that_was_renamed",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_row_of_a_table_has_its_proof(page: str, repository: Path) -> None:
    rows = [
        line for line in (repository / page).read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| control", "| promise"))
    ]  # fmt: skip
    for row in rows:
        proof = row.split(" | ")[-1]
        commands = re.search(r"`(?:make|python|torchrun) [^`]+`", proof)
        assert named_in(proof) or commands, row
