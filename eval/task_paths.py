"""What stands in the name of a task behind its kind: words, and a path."""

import re
from pathlib import Path


def words_and_path(spec: str, word: re.Pattern[str]) -> tuple[list[str], str]:
    """The words at the front of WORD:WORD:PATH, and the path; only what matches `word` is one."""
    words = []
    while ":" in spec and word.fullmatch(spec.partition(":")[0]):
        first, _, spec = spec.partition(":")
        words.append(first)
    return words, spec


def path_of(named: str, data: Path | None) -> Path:
    """Where a path in the name of a task leads: below `data` if it is there, or else as it stands."""
    path = Path(named).expanduser()
    below = data / path if data is not None else path
    return below if below.exists() else path
