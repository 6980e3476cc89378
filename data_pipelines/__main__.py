"""The tools of the data engine:  python -m data_pipelines"""

import ast
from pathlib import Path

from data_pipelines.errors import run_command


def tools() -> dict[str, str]:
    """What each tool is called, and the first line of what it says of itself."""
    here = Path(__file__).parent
    found = {}
    for path in [*sorted(here.glob("*.py")), *sorted(here.glob("prepare/*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "main" in names and path.name != Path(__file__).name:
            module = ".".join(path.relative_to(here.parent).with_suffix("").parts)
            found[module] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(argv: list[str]) -> None:
    """Print one line for each tool."""
    print("usage: python -m TOOL …, each with --help\n")
    for module, line in tools().items():
        print(f"  {module:<40} {line}")


if __name__ == "__main__":
    run_command(main)
