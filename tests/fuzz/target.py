"""What is fuzzed: a pure entry point, good inputs for it, and how they are changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError

Files = dict[str, bytes]
"""An input: the bytes of each file by its path in the input's folder."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One entry point, or a few that read the same thing."""

    name: str
    what: str
    """For the record: what is called, and what an accepted input must agree with."""
    attempt: Callable[[Files, Path], str]
    """What came of an input: a word or two. The folder exists, is empty, and is emptied afterwards.
    AssertionError where an accepted input does not agree with the second way."""
    seeds: Callable[[], list[Files]]
    mutate: Callable[[Files, Random, Files], Files]
    traced: Sequence[ModuleType] = ()
    """Modules whose lines are followed: an input that reaches new ones is kept and changed further."""
    documented: tuple[type[Exception], ...] = field(default=(UserError, BadSample))
    """How an input may be refused."""


def laid_down(files: Files, folder: Path) -> None:
    """Write the files of an input into the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
