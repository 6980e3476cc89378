"""Packages that read what is not trusted are new enough, and each floor says why."""

import importlib.metadata
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

FLOORS = {
    "torch": "2.11", "timm": "1.0.31", "sentencepiece": "0.2.3", "safetensors": "0.7", "pillow": "12.3",
    "jinja2": "3.1.6", "transformers": "5.5", "protobuf": "6.31.1", "onnx": "1.21", "pyarrow": "18",
    "sentence-transformers": "6.0", "faiss-cpu": "1.15", "usearch": "2.25", "starlette": "1.5.1",
    "uvicorn": "0.38", "h11": "0.16", "onnxruntime": "1.31",
}  # fmt: skip
"""The least versions, of what reads or shows what somebody else has made."""


@pytest.fixture(scope="module")
def requirements(repository: Path) -> list[Requirement]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    found = [Requirement(text) for text in texts]
    return [requirement for requirement in found if requirement.name != "rins_mm"]


def lowest(requirement: Requirement) -> Version:
    """The least version that is allowed."""
    bounds = [Version(one.version) for one in requirement.specifier if one.operator in (">=", "==")]
    return max(bounds, default=Version("0"))


@pytest.mark.parametrize("name", FLOORS)
def test_what_reads_untrusted_files_has_its_floor_wherever_it_is_asked_for(
    name: str, requirements: list[Requirement]
) -> None:
    named = [one for one in requirements if canonicalize_name(one.name) == name]
    assert named, f"{name} is not in pyproject.toml"
    for requirement in named:
        assert lowest(requirement) >= Version(FLOORS[name]), requirement


@pytest.mark.parametrize("name", FLOORS)
def test_each_floor_has_its_reason_beside_it(name: str, repository: Path) -> None:
    lines = (repository / "pyproject.toml").read_text().splitlines()
    pattern = re.compile(rf'"{name}[>=].*#\s*\S+')
    assert any(pattern.search(line) for line in lines), f"{name} has no reason"


def test_what_is_installed_keeps_to_all_bounds(requirements: list[Requirement]) -> None:
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            # An extra that the tests do without.
            assert canonicalize_name(requirement.name) not in FLOORS, requirement
            continue
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}: {version}"
        )


def test_the_constraints_pin_nothing_below_a_floor(
    repository: Path, requirements: list[Requirement]
) -> None:
    lines = (repository / ".ci" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for pin in pins:
        same = [
            one
            for one in requirements
            if canonicalize_name(one.name) == canonicalize_name(pin.name)
        ]
        for requirement in same:
            assert requirement.specifier.contains(lowest(pin), prereleases=True), (pin, requirement)
