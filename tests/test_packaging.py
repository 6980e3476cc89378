"""The wheel holds everything: installed elsewhere it trains a recipe by name."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = Path(__file__).parents[1]
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy of what git would hand out: a build leaves files beside the sources.
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, copy = repository / name, folder / "source" / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(folder), str(folder / "source")], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_module_template_and_pack_and_no_test(
    wheel: Path, repository: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ("rins_mm", "eval", "data_pipelines", "configs"):
        for path in (repository / room).rglob("*"):
            if path.suffix in (".py", ".jinja") or path.parent.name == "emoji":
                assert str(path.relative_to(repository)) in names, path
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


@pytest.mark.slow
def test_a_named_recipe_runs_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "-q",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(command, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [
        sys.executable,
        "-c",
        "import rins_mm, configs; print(rins_mm.__file__, configs.__file__)",
    ]
    places = subprocess.run(
        where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert places.stdout.count(str(site)) == 2
    flags = ["--max-steps", "1", "--batch-size", "4", "--data.shards", "emoji:val"]
    flags += ["--schedule.warmup-samples", "0", "--evaluation.tasks"]
    done = subprocess.run(
        [sys.executable, "-m", "rins_mm.train", "emoji", *flags],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "emoji" / "metrics.jsonl").is_file()


WITHOUT_EXTRAS = """
import importlib, re, sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def named(requirement):
    return re.sub("[-_.]+", "-", re.match("[A-Za-z0-9._-]+", requirement)[0]).lower()

# What comes with the project, with what that needs.
core, found = ["rins-mm"], set()
while core:
    name = core.pop()
    if name in found:
        continue
    found.add(name)
    try:
        core += [named(one) for one in requires(name) or () if "extra ==" not in one]
    except PackageNotFoundError:
        pass  # for another machine or another Python

left_out = {
    module for module, names in packages_distributions().items() if not {named(one) for one in names} & found
} - {"setuptools", "pkg_resources", "_distutils_hack"}

class WithoutThem(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in left_out else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutThem
assert {"onnx", "pyarrow", "starlette", "transformers"} <= left_out and "torch" not in left_out
for command in sys.argv[1:]:
    importlib.import_module(command)
"""


def test_every_command_can_be_imported_without_the_packages_of_any_extra(repository: Path) -> None:
    commands = [
        str(path.relative_to(repository).with_suffix("")).replace("/", ".")
        for room in ("rins_mm", "eval", "data_pipelines")
        for path in sorted((repository / room).rglob("*.py"))
        if "\nif __name__ ==" in path.read_text(encoding="utf-8")
    ]
    assert {"rins_mm.train", "rins_mm.export.__main__", "rins_mm.serve.__main__"} <= set(commands)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *commands],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    assert done.returncode == 0, done.stderr
