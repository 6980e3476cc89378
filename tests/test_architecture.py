"""What the README and the architecture page promise of the code's form."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOMS = ("rins_mm", "eval", "data_pipelines", "configs")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
LONGER_WITH_REASON = {
    # One step of training, inline: splitting it would hide the order in which things happen.
    ("rins_mm/learner.py", "train_step"),
    # One run, assembled in the order in which it starts.
    ("rins_mm/train.py", "train"),
}


def modules(repository: Path) -> list[Path]:
    return sorted(path for room in ROOMS for path in (repository / room).rglob("*.py"))


def test_no_file_and_no_function_outgrows_a_screen_without_a_reason(repository: Path) -> None:
    for path in modules(repository):
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_FILE_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                name = str(path.relative_to(repository))
                length = node.end_lineno - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES or (name, node.name) in LONGER_WITH_REASON, (
                    name,
                    node.name,
                )


def test_every_module_says_what_it_is_for(repository: Path) -> None:
    for path in modules(repository):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_every_public_function_and_class_has_a_docstring(repository: Path) -> None:
    for path in modules(repository):
        tree = ast.parse(path.read_text())
        owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
        for owner in owners:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith(
                    "_"
                ):
                    # What torch defines needs no second definition.
                    documented = ast.get_docstring(node) or node.name in ("forward", "backward")
                    assert documented, f"{path}: {node.name}"


@pytest.mark.parametrize("package", ROOMS)
def test_packages_come_from_this_repository(package: str, repository: Path) -> None:
    spec = importlib.util.find_spec(package)
    assert Path(spec.origin).is_relative_to(repository)


def test_the_tables_of_the_pages_are_as_their_script_makes_them(repository: Path) -> None:
    spec = importlib.util.spec_from_file_location("tables", repository / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for page in tables.PAGES:
        text = (repository / page).read_text()
        assert tables.filled(text) == text, f"{page} is out of date; run: python docs/tables.py"


def test_every_file_that_the_docs_name_exists(repository: Path) -> None:
    for page in [repository / "README.md", *(repository / "docs").glob("*.md")]:
        for name in re.findall(
            r"`((?:docs|tests|data_pipelines|eval|rins_mm|configs|benchmarks)/[\w/.-]+)`",
            page.read_text(),
        ):
            assert (repository / name).exists(), f"{page.name} names {name}"
